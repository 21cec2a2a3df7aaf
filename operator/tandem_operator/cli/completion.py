"""`tandem completion`: scripts with which a shell, or kubectl, completes words; and what they ask `tandem` for.

The scripts of shells and the walk through the parser are argcomplete's (extra `cli`). kubectl asks a program of its
own, which here speaks argcomplete's protocol.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from threading import Thread
from types import ModuleType
from typing import Any

from tandem_operator import names
from tandem_operator.cli.command import Command
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import Screen

QUICK_SECONDS = 2.0
"""A cluster that takes longer completes no names: nobody waits for Tab."""
ASKED = "_ARGCOMPLETE"
"""In the environment of a process that is asked for completions."""
KUBECTL = "kubectl"
_FILES = frozenset({"filename", "config", "kubeconfig", "out"})
_FOLDERS = frozenset({"model", "draft_model"})
_KUBECTL_SCRIPT = """\
#!/bin/sh
# As `kubectl_complete-tandem`, executable and on PATH: kubectl calls it with the words after `kubectl tandem`, of which
# it wants the last one completed, a word and its meaning a line. `:4` ends them: no names of files beside these.
line="tandem $*"
_ARGCOMPLETE=1 _ARGCOMPLETE_IFS='
' _ARGCOMPLETE_DFS='\t' _ARGCOMPLETE_SUPPRESS_SPACE=1 _ARGCOMPLETE_STDOUT_FILENAME=/dev/stdout \\
COMP_LINE="$line" COMP_POINT="${#line}" kubectl-tandem 2>/dev/null | cat
printf '\\n:4\\n'
"""
EXAMPLES = """\
for this shell, and for every one to come:
  source <(tandem completion bash)     tandem completion bash >> ~/.bashrc
  source <(tandem completion zsh)      tandem completion zsh >> ~/.zshrc
  tandem completion fish | source      tandem completion fish > ~/.config/fish/completions/tandem.fish

for `kubectl tandem`, which asks a program of that name for it, beside kubectl's own completion:
  tandem completion kubectl > ~/.local/bin/kubectl_complete-tandem
  chmod +x ~/.local/bin/kubectl_complete-tandem"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=["bash", "zsh", "fish", KUBECTL], help="who is to complete words")


def _run(options: argparse.Namespace, screen: Screen) -> int:
    screen.write(script_of(options.shell))
    return 0


COMPLETION = Command(
    "print a script that completes commands, options and names in a shell",
    _run,
    add_arguments=_add_arguments,
    description="Print a script that completes commands, options and the names of LLMDeployments, those where the "
    f"cluster answers within {QUICK_SECONDS:g} seconds. Wants the extra `cli` of the package.",
    examples=EXAMPLES,
)


def script_of(shell: str) -> str:
    """For a shell, or for kubectl. Raises CommandError without argcomplete."""
    argcomplete = _argcomplete()
    if shell == KUBECTL:
        return _KUBECTL_SCRIPT
    script: str = argcomplete.shellcode(["tandem"], use_defaults=False, shell=shell)
    return script.strip("\n") + "\n"


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Write what the words in the environment can go on with, and end the process. Raises CommandError."""
    argcomplete = _argcomplete()
    for action in _actions_of(parser):
        if action.dest in _FILES:
            _complete_by(action, argcomplete.completers.FilesCompleter())
        elif action.dest in _FOLDERS:
            _complete_by(action, argcomplete.completers.DirectoriesCompleter())
        elif action.metavar == "NAME":
            _complete_by(action, _names_of)
    nothing = argcomplete.completers.SuppressCompleter()
    argcomplete.autocomplete(parser, always_complete_options="long", default_completer=nothing)


def _argcomplete() -> ModuleType:
    """Not imported by whoever completes nothing: the operator's image is without it."""
    try:
        import argcomplete
        import argcomplete.completers
    except ImportError as error:
        raise CommandError("completion wants argcomplete: `pip install 'tandem[cli]'`, or argcomplete alone") from error
    return argcomplete


def _actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of it and of all its commands."""
    for action in parser._actions:  # noqa: SLF001 -- argparse has no other list of what a parser takes
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions_of(command)


def _complete_by(action: argparse.Action, completer: Any) -> None:
    """As argcomplete looks for it."""
    action.completer = completer  # type: ignore[attr-defined]


def _names_of(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Of the LLMDeployments in the namespace that the words so far name; none where that is not known soon enough."""
    found: list[str] = []

    def read() -> None:
        try:
            connection = Connection.open(
                kubeconfig=getattr(parsed_args, "kubeconfig", None),
                context=getattr(parsed_args, "context", None),
                namespace=getattr(parsed_args, "namespace", None),
            )
            found.extend(item["metadata"]["name"] for item in connection.get(names.KIND)["items"])
        except CommandError:
            """Then there are none."""

    reading = Thread(target=read, daemon=True)  # the process ends without it
    reading.start()
    reading.join(QUICK_SECONDS)
    return list(found)
