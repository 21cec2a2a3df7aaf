"""Where commands write: colours on a terminal alone, and signs that its encoding lacks escaped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"


@dataclass(frozen=True)
class Paint:
    """Colours of a terminal, or none."""

    is_on: bool

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text


PLAIN = Paint(is_on=False)


@dataclass(frozen=True)
class Screen:
    """A stream of text, and what can be done on it."""

    stream: TextIO
    is_terminal: bool
    """What was written can be written over."""
    paint: Paint

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Screen:
        """As it is: no colour in a pipe, with NO_COLOR (https://no-color.org), or on a terminal without any."""
        is_terminal = stream.isatty()
        is_dumb = environment.get("TERM") == "dumb"
        is_coloured = is_terminal and not is_dumb and not environment.get("NO_COLOR")
        return cls(stream, is_terminal=is_terminal and not is_dumb, paint=Paint(is_coloured))

    def write(self, text: str) -> None:
        """Now, not when there is more of it."""
        encoding = self.stream.encoding or "utf-8"
        self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self.stream.flush()
