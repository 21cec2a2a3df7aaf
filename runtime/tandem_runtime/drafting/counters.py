"""Counters that the engine's worker process writes and the launcher's metrics port shows.

The worker is a grandchild of the launcher; vLLM's own metrics do not show what happens in it. Both map the same
small file: one writer, aligned 8-byte values, no locks. Only the names in `tandem_contracts.metrics` leave the pod.
"""

import mmap
from enum import IntEnum
from pathlib import Path


class Counted(IntEnum):
    """What is counted, and at which position of the file."""

    CALLS_ANSWERED = 0
    CALLS_FAILED = 1
    DEADLINES_MISSED = 2
    ROWS_DRAFTED = 3
    ROWS_EMPTY = 4
    ROWS_INVALID = 5
    WAIT_SECONDS = 6
    ERRORS = 7
    TOKENS_DRAFTED = 8
    TOKENS_ACCEPTED = 9
    DEPTH = 10
    """Not a count: of the last step."""
    SPEEDUP = 11
    """Not a count: 0 until it is known."""
    RESYNCS = 12
    ROUND_TRIP_SECONDS = 13
    PODS = 14
    """Not a count: draft pods that there are."""
    BREAKERS_OPEN = 15
    """Not a count: those of them that are left alone for now."""
    LONGEST_WAIT_SECONDS = 16
    """Not a count: of any step."""


class Counters:
    """A row of numbers in a file that several processes see."""

    def __init__(self, path: Path) -> None:
        """Maps the file at `path`, making it first, all zero, where it is missing."""
        size_bytes = 8 * len(Counted)
        with path.open("a+b") as file:
            if file.seek(0, 2) < size_bytes:
                file.truncate(size_bytes)
            # The mapping outlives the file object and goes with the process.
            self._values = memoryview(mmap.mmap(file.fileno(), size_bytes)).cast("d")

    def add(self, counted: Counted, amount: float = 1.0) -> None:
        """Adds `amount`; to be called from one thread of one process only."""
        self._values[counted] += amount

    def set(self, counted: Counted, value: float) -> None:
        """Replaces a value; to be called from the thread that adds."""
        self._values[counted] = value

    def value(self, counted: Counted) -> float:
        """The current value."""
        return self._values[counted]
