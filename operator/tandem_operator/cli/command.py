"""What a command of `tandem` is: its words of help, its options and what it does; options that several have."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem_operator.api.deployment import NAME_RULE, is_name
from tandem_operator.cli.screen import Screen
from tandem_operator.manifest_yaml import manifest_yaml

_WIDTH = 90


def _nothing(_: argparse.ArgumentParser) -> None:
    """A command without options."""


def _unreachable(_: argparse.Namespace, __: Screen) -> int:
    raise AssertionError("a command that only has subcommands is never run")


@dataclass(frozen=True)
class Command:
    """One command. `run` writes what it has to say and returns the exit code; it may raise CommandError."""

    purpose: str
    """A clause, for the list of commands."""
    run: Callable[[argparse.Namespace, Screen], int] = _unreachable
    add_arguments: Callable[[argparse.ArgumentParser], None] = _nothing
    description: str = ""
    """Omitted: the purpose."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What `-o` writes: every key by its path, with its meaning. They stay as they are; new ones may come."""
    examples: str = ""
    """Lines that end its help as they are."""
    subcommands: Mapping[str, Command] = field(default_factory=dict)

    def add_to(self, commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str) -> None:
        """Make it, and what is below it, known to a parser."""
        told = self.description or f"{self.purpose[0].upper()}{self.purpose[1:]}."
        parser = commands.add_parser(
            name,
            help=self.purpose,
            description=textwrap.fill(told, _WIDTH, break_on_hyphens=False),
            epilog="\n\n".join(part for part in (self._keys_told(), self.examples) if part) or None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(parser)
        if not self.subcommands:
            parser.set_defaults(run=self.run)
            return
        below = parser.add_subparsers(dest="subcommand", required=True)
        for each, command in self.subcommands.items():
            command.add_to(below, each)

    def _keys_told(self) -> str:
        if not self.keys:
            return ""
        width = max(map(len, self.keys))
        return "\n".join(["what -o writes:", *(f"  {key.ljust(width)}  {told}" for key, told in self.keys.items())])


def on_cluster(command: argparse.ArgumentParser) -> None:
    """Options that say where, as kubectl has them."""
    command.add_argument("-n", "--namespace", help="omitted: the one of the context")
    command.add_argument("--kubeconfig", help="omitted: KUBECONFIG, else ~/.kube/config")
    command.add_argument("--context", help="omitted: the current one")


def resource_name(text: str) -> str:
    """The name of an LLMDeployment; what is none is refused before it becomes a part of an address."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"(is {text!r}) {NAME_RULE}")
    return text


def on_a_resource(command: argparse.ArgumentParser) -> None:
    """The resource, and where it is."""
    command.add_argument("name", metavar="NAME", type=resource_name, help="the LLMDeployment")
    on_cluster(command)


def on_the_resource(command: argparse.ArgumentParser) -> None:
    """The same for who only looks, to whom the only one there is need not be named."""
    told = "the LLMDeployment; omitted: the only one of the namespace"
    command.add_argument("name", metavar="NAME", type=resource_name, nargs="?", help=told)
    on_cluster(command)


def with_config(command: argparse.ArgumentParser) -> None:
    """The operator's configuration."""
    command.add_argument("--config", type=Path, help="the operator's configuration file; omitted: its defaults")


def with_output(command: argparse.ArgumentParser) -> None:
    """For programs that read it."""
    command.add_argument("-o", "--output", choices=["json", "yaml"], help="for programs; omitted: for people")


def written(document: Mapping[str, Any], form: str) -> str:
    """A document as `-o` asks for it."""
    if form == "yaml":
        return manifest_yaml(dict(document))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
