"""An operator's shell that hears watch events and runs nothing."""

from __future__ import annotations

from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.handlers import Shell
from tandem_operator.store import Key
from tests.builders import NAMESPACE


class Ears:
    """A leading shell whose queue only remembers what was added, and which of it somebody has asked for."""

    def __init__(self) -> None:
        self.added: list[Key] = []
        self.asked: list[Key] = []
        self.shell = Shell(namespace=NAMESPACE, identity="me", config=OperatorConfig())
        self.shell.is_leading = True
        self.shell.queue = self  # type: ignore[assignment]

    def add(self, key: Key, *, is_asked_for: bool = False) -> None:
        """The queue's side."""
        self.added.append(key)
        if is_asked_for:
            self.asked.append(key)

    def hear(self, kind: str, what: str, manifest: Manifest) -> None:
        """A watch event."""
        self.shell.take_in(kind, {"type": what, "object": manifest})
