"""The page of the `tandem` command, from its parser: the same words as `--help`, whatever Python prints them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from deploy.docs.markdown import prose, table
from tandem_operator.cli.command import Command
from tandem_operator.cli.main import COMMANDS, make_parser

parser = make_parser


def commands_page() -> str:
    """The page."""
    whole = parser()
    parts = [
        "# The command `tandem`\n",
        prose(whole.description or "")
        + " In a folder of `PATH` under the name `kubectl-tandem` it is `kubectl tandem`. In a checkout it is "
        "`.venv/bin/tandem`.\n",
        "Exit code 1: the input is wrong, and standard error says how; of `status` also: the resource is not Ready; "
        "of `bench` also: a request was not answered. 2: there is no such resource, or the options are wrong. "
        "[See what it does](../how-to/look.md) has the commands by what one wants to know.\n",
    ]
    for name, command in commands_of(whole).items():
        told = _told(name.split(), COMMANDS)
        parts += [
            f"## `tandem {name}` {{#{name.replace(' ', '-')}}}\n",
            prose(command.description or "") + "\n",
            table(("Option", "What it is"), _rows(command)),
        ]
        if told.keys:
            keys = [(f"`{key}`", prose(each)) for key, each in told.keys.items()]
            parts += ["What `-o` writes:\n", table(("Key", "What it is"), keys)]
        if told.examples:
            parts += ["```text\n" + told.examples + "\n```\n"]
    return "\n".join(parts)


def _told(words: list[str], commands: Mapping[str, Command]) -> Command:
    first, *rest = words
    return _told(rest, commands[first].subcommands) if rest else commands[first]


def commands_of(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands by name, those of a command that only has some in its place."""
    (found,) = (each for each in whole._actions if isinstance(each, argparse._SubParsersAction))  # noqa: SLF001
    made: dict[str, argparse.ArgumentParser] = {}
    for name, command in found.choices.items():
        if any(isinstance(each, argparse._SubParsersAction) for each in command._actions):  # noqa: SLF001
            made |= {f"{name} {below}": each for below, each in commands_of(command).items()}
        else:
            made[name] = command
    return made


def _rows(command: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in command._actions:  # noqa: SLF001 -- argparse has no other list of what a parser takes
        if isinstance(action, argparse._HelpAction):  # noqa: SLF001
            continue
        value = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
        is_flag = action.nargs == 0
        shown = [name if is_flag else f"{name} {value}" for name in action.option_strings]
        names = ", ".join(f"`{name}`" for name in shown) or f"`{value}`"
        told = [action.help or ""]
        if action.required and action.option_strings:
            told.append("required")
        if action.default is not None and not is_flag:
            told.append(f"omitted: `{action.default}`")
        yield names.replace("|", "\\|"), "; ".join(prose(each) for each in told if each)
