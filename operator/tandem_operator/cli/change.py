"""What a command that writes to a resource says of it: to a person, or with `-o` to a program. Writes no resource."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tandem_operator.cli.command import on_a_resource, with_output, written
from tandem_operator.cli.screen import Screen

CHANGE_KEYS: Mapping[str, str] = {
    "name": "of the resource",
    "namespace": "of the resource",
    "changed": "paths of the fields that were written; empty where all was so already",
    "notes": "what a person is told, a sentence each",
}


@dataclass(frozen=True)
class Change:
    """One resource, and what was written to it."""

    name: str
    namespace: str
    changed: Sequence[str]
    """Paths of fields."""
    told: str
    """Lines for a person; the first begins with the name."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further keys for programs."""

    def show(self, options: argparse.Namespace, screen: Screen) -> None:
        """As `-o` asks for it."""
        if not options.output:
            screen.write(self.told)
            return
        notes = [line.removeprefix(f"{self.name}: ").strip() for line in self.told.splitlines()]
        place = {"name": self.name, "namespace": self.namespace}
        screen.write(written({**place, **self.more, "changed": list(self.changed), "notes": notes}, options.output))


def on_a_resource_with_output(command: argparse.ArgumentParser) -> None:
    """The options of such a command."""
    on_a_resource(command)
    with_output(command)
