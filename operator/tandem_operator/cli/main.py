"""Entry point of `tandem` and `kubectl tandem`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tandem_operator import __version__
from tandem_operator.cli.accelerators import ACCELERATORS
from tandem_operator.cli.bench import BENCH
from tandem_operator.cli.bundle import DEBUG
from tandem_operator.cli.command import Command
from tandem_operator.cli.completion import ASKED, COMPLETION, answer_shell
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.pausing import PAUSE, RESUME
from tandem_operator.cli.plan import PLAN
from tandem_operator.cli.revisions import REFRESH, ROLLBACK
from tandem_operator.cli.screen import RED, Screen
from tandem_operator.cli.status import STATUS
from tandem_operator.cli.top import TOP
from tandem_operator.cli.why import WHY

COMMANDS: Mapping[str, Command] = {
    "plan": PLAN,
    "accelerators": ACCELERATORS,
    "status": STATUS,
    "why": WHY,
    "top": TOP,
    "bench": BENCH,
    "refresh": REFRESH,
    "rollback": ROLLBACK,
    "pause": PAUSE,
    "resume": RESUME,
    "debug": DEBUG,
    "completion": COMPLETION,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 1: the input is wrong, and standard error says how; 2: there is no such resource.

    `status` also exits with 1 when the resource is not Ready, `bench` when a request was not answered.
    """
    parser = make_parser()
    try:
        with _ending_as_ctrl_c():
            return _run(parser, arguments)
    except CommandError as error:
        return _failed(str(error), error.exit_code)
    except BrokenPipeError:
        return 0  # `tandem plan … | head`
    except _EndedError as error:
        return 128 + error.number
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _failed(f"standard output: {error.strerror or error}", 1)


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    if ASKED in os.environ:
        answer_shell(parser)
    options = parser.parse_args(arguments)
    if sys.stdout is None:  # `tandem … >&-`: before anything is changed of which nobody could be told
        return _failed("standard output: is closed", 1)
    exit_code: int = options.run(options, Screen.of(sys.stdout))
    return exit_code


class _EndedError(KeyboardInterrupt):
    """A signal other than Ctrl-C has come."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _ending_as_ctrl_c() -> Iterator[None]:
    """A cancelled job, `timeout` and a closed terminal take back what Ctrl-C does: a benchmark's Job, a live view."""

    def end(number: int, _frame: object) -> None:
        raise _EndedError(number)

    heeded = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]  # not nohup
    for each in heeded:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)


def make_parser() -> argparse.ArgumentParser:
    """Of every command."""
    parser = argparse.ArgumentParser(
        prog="tandem", description="Look at LLMDeployments, and do what kubectl has no word for."
    )
    parser.add_argument("--version", action="version", version=f"tandem {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        command.add_to(commands, name)
    return parser


def _failed(message: str, exit_code: int) -> int:
    if sys.stderr is not None:
        screen = Screen.of(sys.stderr)
        screen.write(f"{screen.paint('tandem:', RED)} {message}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
