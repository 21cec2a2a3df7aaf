"""Shows long work as it happens: one line for each step, with the seconds it took. It never decides anything."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True)
class Progress:
    """Prints steps to `stream` and keeps their durations, in seconds, in `seconds_of_step`."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    seconds_of_step: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the body and print the result; a body that raises is printed as failed, and raises on."""
        begun = time.monotonic()
        outcome = "failed: "
        try:
            yield
            outcome = ""
        finally:
            seconds = time.monotonic() - begun
            self.seconds_of_step[name] = seconds
            self.say(f"{seconds:7.1f} s  {outcome}{name}")

    def say(self, line: str) -> None:
        """Print one line at once."""
        print(line, file=self.stream, flush=True)
