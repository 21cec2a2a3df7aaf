"""What the operator or a Prometheus reads of the engines' pages: readings, their history, and queries over them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.scaling.page import without_numbers
from tandem_operator.scaling.reading import Distribution, Reading, reading_in
from tandem_operator.scaling.traffic import quantile_in

KEPT_SECONDS = 300.0


class Fault(StrEnum):
    """What may be wrong with a page."""

    NO = ""
    OUTAGE = "outage"
    """No pod answers."""
    NAN = "nan"
    """The pages of every fourth pod tell NaN where requests run and wait."""
    STALE = "stale"
    """Pages stay as they were."""


@dataclass
class Scraped:
    """Of all pods. A scrape that fails ends the series, as Prometheus does it with a staleness marker."""

    latest: dict[str, Reading] = field(default_factory=dict)
    """The last good one of each pod, however old."""
    history: dict[str, deque[Reading]] = field(default_factory=dict)
    _current: set[str] = field(default_factory=set)
    _spoiled: set[str] = field(default_factory=set)
    """Of the current ones, whose gauges are NaN."""
    _pages: dict[str, str] = field(default_factory=dict)

    def scrape(self, name: str, page: Callable[[], str], *, at: float, fault: Fault) -> None:
        """One pod at one time."""
        if fault is Fault.OUTAGE:
            self._current.discard(name)
            return
        text = self._pages[name] if fault is Fault.STALE and name in self._pages else page()
        self._pages[name] = text
        reading = reading_in(text, at=at)
        if reading is None:
            self._current.discard(name)
            return
        self._current.add(name)
        if fault is Fault.NAN and reading_in(without_numbers(text), at=at) is None:
            self._spoiled.add(name)
        else:
            self._spoiled.discard(name)
            self.latest[name] = reading
        # Also of a page with a gauge of NaN: Prometheus takes every series for itself, and the histograms are whole.
        history = self.history.setdefault(name, deque())
        history.append(reading)
        while history[0].at < at - KEPT_SECONDS:
            history.popleft()

    def forget(self, name: str) -> None:
        """A pod that is gone."""
        for kept in (self.latest, self.history, self._pages):
            kept.pop(name, None)
        self._current.discard(name)
        self._spoiled.discard(name)

    def total(self, of: Callable[[Reading], float]) -> float | None:
        """`sum(metric)`; None for the empty result of no series, and for NaN, which one NaN makes of all."""
        if self._spoiled or not self._current:
            return None
        return sum(of(self.latest[name]) for name in self._current)

    def quantile(
        self, share: float, of: Callable[[Reading], Distribution], *, now: float, window_seconds: float
    ) -> float | None:
        """`histogram_quantile(share, sum by (le) (rate(metric_bucket[window])))`; None for NaN or no series."""
        bounds: tuple[float, ...] = ()
        rates: list[float] = []
        for history in self.history.values():
            found = [reading for reading in history if reading.at > now - window_seconds]
            if len(found) < 2:
                continue
            first, last = of(found[0]), of(found[-1])
            if not last.bounds or not first.bounds:
                continue
            seconds = found[-1].at - found[0].at
            bounds = last.bounds
            grown = [max(0.0, b - a) / seconds for a, b in zip(first.counts, last.counts, strict=True)]
            rates = [a + b for a, b in zip(rates, grown, strict=True)] if rates else grown
        if not rates or rates[-1] <= 0:
            return None
        value = quantile_in(Distribution(bounds, tuple(rates)), share)
        return value if math.isfinite(value) else None
