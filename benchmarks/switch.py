"""How a benchmark tells a running engine's proposer where drafts come from and how deep, and hears of each step.

Standard library only: the benchmark and the engine's worker process both import it.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from enum import IntEnum
from pathlib import Path

VARIABLE = "TANDEM_BENCHMARK_SWITCH"
"""Environment variable with the folder of the switch."""
NOTHING = "nothing"
"""The source of an engine whose `custom_class` returns nothing."""
ADAPTIVE = -1
"""In the place of a depth: the one that the proposer chooses."""


class Ahead(IntEnum):
    """Whether draft pods go on drafting while a draft is verified."""

    BY_RULE = 0
    NEVER = 1
    ALWAYS = 2


class _Position(IntEnum):
    SOURCE = 0
    DEPTH = 1
    START = 2
    AHEAD = 3


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One call of the proposer. 0 for what did not happen in it."""

    rows: float
    depth: float
    """That was asked for."""
    propose_seconds: float
    wait_seconds: float
    """Of those: waiting for drafts."""
    answer_seconds: float
    """Of the last draft that came: from the question to the answer."""
    compute_seconds: float
    """Of those: drafting."""
    step_depth: float
    """Of the engine's step before the call."""
    step_seconds: float
    """Of that: without proposing."""


_RECORD = struct.Struct("8d")


class Switch:
    """A folder that both sides know."""

    def __init__(self, folder: Path) -> None:
        self._sources, self._records = folder / "sources.json", folder / "steps"
        with (folder / "switch").open("a+b") as file:
            file.truncate(8 * len(_Position))
            self._values = memoryview(mmap.mmap(file.fileno(), 8 * len(_Position))).cast("q")
        self._file = os.open(self._records, os.O_CREAT | os.O_RDWR | os.O_APPEND)

    # -- the benchmark's side --------------------------------------------------------------------------------------

    def offer(self, sources: Mapping[str, str]) -> None:
        """Name the addresses that drafts can come from, before the engine starts."""
        self._sources.write_text(json.dumps({NOTHING: "", **sources}))

    def set(self, source: str, depth: int, ahead: Ahead = Ahead.BY_RULE) -> None:
        """From the next step on."""
        self._values[_Position.DEPTH], self._values[_Position.AHEAD] = depth, ahead
        self._values[_Position.SOURCE] = list(self.sources()).index(source)

    def start_anew(self) -> None:
        """Have the proposer forget what it has measured."""
        self._values[_Position.START] += 1

    def records(self) -> list[StepRecord]:
        """Of the steps since the last call."""
        data = b""
        while part := os.read(self._file, 1 << 20):
            data += part
        return [StepRecord(*values) for values in _RECORD.iter_unpack(data)]

    # -- the proposer's side ---------------------------------------------------------------------------------------

    def sources(self) -> dict[str, str]:
        """Addresses by name."""
        found: dict[str, str] = json.loads(self._sources.read_text())
        return found

    @property
    def source(self) -> int:
        """Position of the source among `sources`."""
        return self._values[_Position.SOURCE]

    @property
    def depth(self) -> int:
        return self._values[_Position.DEPTH]

    @property
    def ahead(self) -> Ahead:
        return Ahead(self._values[_Position.AHEAD])

    @property
    def start(self) -> int:
        """Another number each time that everything is to be forgotten."""
        return self._values[_Position.START]

    def record(self, step: StepRecord) -> None:
        os.write(self._file, _RECORD.pack(*astuple(step)))
