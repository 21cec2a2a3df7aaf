"""Colour on a terminal alone, and text that any terminal can show."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

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
