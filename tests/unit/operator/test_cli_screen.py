"""Colour on a terminal alone, and text that any terminal can show."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tandem_operator.cli.main import main
from tandem_operator.cli.screen import RED, Screen


class Terminal(io.StringIO):
    """A stream that says so."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "is_terminal", "is_coloured"),
    [
        (Terminal(), {}, True, True),
        (Terminal(), {"NO_COLOR": "1"}, True, False),
        (Terminal(), {"NO_COLOR": ""}, True, True),
        (Terminal(), {"TERM": "dumb"}, False, False),
        (io.StringIO(), {"TERM": "xterm"}, False, False),
    ],
)
def test_colour_is_for_terminals_whose_user_did_not_say_no(
    stream: io.StringIO, environment: Mapping[str, str], is_terminal: bool, is_coloured: bool
) -> None:
    screen = Screen.of(stream, environment)
    assert screen.is_terminal is is_terminal
    assert ("\x1b" in screen.paint("wrong", RED)) is is_coloured


def test_a_sign_that_the_encoding_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Screen.of(stream, {}).write("7 → 8\n")
    assert raw.getvalue() == b"7 \\u2192 8\n"


@pytest.mark.parametrize(
    ("command", "closed", "exit_code", "told"),
    [
        (["accelerators"], ">&-", 1, "tandem: standard output: is closed\n"),
        (["bench", "pair"], ">&-", 1, "tandem: standard output: is closed\n"),
        (["plan", "-f", "-"], "<&-", 1, "tandem: -: standard input is closed\n"),
        (["plan", "-f", "/missing"], "2>&-", 1, ""),
        (["accelerators"], ">&- 2>&-", 1, ""),
    ],
)
def test_a_stream_that_is_closed_is_told_in_one_line(
    command: list[str], closed: str, exit_code: int, told: str
) -> None:
    words = shlex.join([sys.executable, "-m", "tandem_operator.cli.main", *command])
    done = subprocess.run(["bash", "-c", f"{words} {closed}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, "", told)


class Ending(io.StringIO):
    """Standard input at which a signal comes."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def read(self, _size: int | None = -1) -> str:
        os.kill(os.getpid(), self.number)
        time.sleep(5)  # the signal ends it
        return ""


@contextmanager
def handled(how: signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, how) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_as_ctrl_c_does(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Ending(number))
    with handled(signal.SIG_DFL, signal.SIGTERM, signal.SIGHUP):  # nohup may have done something else
        assert main(["plan", "-f", "-"]) == 128 + number
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """nohup: the terminal may close."""
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    with handled(signal.SIG_IGN, signal.SIGHUP):
        assert main(["plan", "-f", "-"]) == 1
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
