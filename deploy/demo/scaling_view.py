"""What the demo of scaling shows: a picture that moves in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

LINE_EVERY_SECONDS = 10.0
HISTORY = 60
OLD_SECONDS = 30.0
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Frame:
    """What is seen at one time."""

    part: str
    clients: int
    rate: float
    """Requests answered a second."""
    first_token_seconds: float | None
    """The longest of the last ones; None without any."""
    within: float | None
    """Share of them within the target."""
    pods: int
    """Verifiers' that are there, also those that are going."""
    ready: int
    wanted: int
    is_at_gate: bool
    reason: str
    age_seconds: float = 0.0
    """Of the reason and of what is wanted."""


class View:
    """Shows frames for as long as the block lasts."""

    def __init__(self, stream: TextIO, *, target_seconds: float, target_share: float) -> None:
        self._console = Console(file=stream, highlight=False)
        self._target_seconds, self._target_share = target_seconds, target_share
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._frames: deque[Frame] = deque(maxlen=HISTORY)
        self._begun = time.monotonic()
        self._told_at = float("-inf")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, frame: Frame) -> None:
        """The next frame."""
        is_new = not self._frames or self._frames[-1].part != frame.part
        self._frames.append(frame)
        if self._live:
            if is_new:
                self._live.console.print(f"{self._seconds:7.0f} s  {frame.part}")
            self._live.update(self.picture(), refresh=True)
        elif is_new or time.monotonic() - self._told_at >= LINE_EVERY_SECONDS:
            self._told_at = time.monotonic()
            self._console.print(f"{self._seconds:7.0f} s  {frame.part if is_new else self.line(frame)}", soft_wrap=True)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def line(self, frame: Frame) -> str:
        """A frame in one line."""
        where = ", at the gate" if frame.is_at_gate else ""
        return (
            f"  {_clients(frame)}, {frame.rate:.1f} requests/s, first token {_seconds_of(frame)} at most, "
            f"{_percent(frame.within)} in time; {frame.ready} of {frame.wanted} verifiers{where}; {_reason(frame)}"
        )

    def picture(self) -> Group:
        """The last frames."""
        now = self._frames[-1]
        is_met = now.within is None or now.within >= self._target_share
        table = Table.grid(padding=(0, 2))
        table.add_row("load", _clients(now), bars([each.rate for each in self._frames]), f"{now.rate:.1f}/s")
        target = f"{self._target_share:.0%} within {self._target_seconds:g} s"
        within = bars([each.within for each in self._frames], most=1.0)
        share = Text(f"{_percent(now.within)}, {_seconds_of(now)} at most", style="green" if is_met else "red")
        table.add_row("first token", target, within, share)
        ready = bars([float(each.ready) for each in self._frames])
        pods = "●" * now.ready + "○" * max(0, now.wanted - now.ready) + (" gate" if now.is_at_gate else "")
        table.add_row("verifiers", f"{now.ready} of {now.wanted}", ready, pods)
        return Group("", table, Text(_reason(now), style="dim"), "")


def bars(values: list[float | None], *, most: float = 0.0) -> str:
    """A bar for each value, as high as its share of `most`, or of the largest one; nothing for None."""
    highest = most or max((value for value in values if value is not None), default=0.0)
    steps = len(_BARS) - 1

    def bar(value: float | None) -> str:
        share = 0.0 if value is None or highest <= 0 else min(max(value / highest, 0.0), 1.0)
        return _BARS[0 if value is None else max(1, round(share * steps))]

    return "".join(map(bar, values)).rjust(HISTORY)


def _reason(frame: Frame) -> str:
    """With its age, where it is not of now: status says it anew every five minutes while nothing is decided."""
    is_old = frame.age_seconds >= OLD_SECONDS
    return f"{frame.reason} ({frame.age_seconds:.0f} s ago)" if is_old else frame.reason


def _clients(frame: Frame) -> str:
    return f"{frame.clients} client{'' if frame.clients == 1 else 's'}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _seconds_of(frame: Frame) -> str:
    return "–" if frame.first_token_seconds is None else f"{frame.first_token_seconds:.2f} s"
