"""How many requests arrive: by flow balance, which stays right when engines cannot keep up. Pure.

Between two readings of an engine, as many have arrived as have ended, plus as many more as it has in its batch and its
queue. What ends alone would be no more than the capacity (../shared/background/autoscaling.md 6.3 has the formulas).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.reading import Reading

FAST_SECONDS, MIDDLE_SECONDS, SLOW_SECONDS = 20.0, 60.0, 120.0
_LEAST_SECONDS = 10.0
"""Over less, a rate is not told."""
_STEP_SIGMAS = 3.0
"""By so much the last seconds have to differ: with 2.5, chance alone is a step in every other hour."""
HISTORY_STEP_SECONDS = 10.0
SURGE_LAG_SECONDS = 20.0
"""From a rise of the load to a decision; it comes before the cold start."""


@dataclass(frozen=True)
class Arrivals:
    """So many requests arrived at one engine between two times."""

    begin: float
    end: float
    count: float


@dataclass(frozen=True)
class Flow:
    """What is known of arrivals."""

    since: float | None = None
    """When the first engine was read."""
    arrivals: tuple[Arrivals, ...] = ()
    """Of the last SLOW_SECONDS."""
    history: tuple[tuple[float, float], ...] = ()
    """Times and rates over MIDDLE_SECONDS, the oldest first."""

    def rate(self, seconds: float, *, now: float) -> float:
        """Arrivals a second in the last `seconds`; 0 while nothing can be said."""
        if self.since is None or now - self.since < _LEAST_SECONDS:
            return 0.0
        span = min(seconds, now - self.since)
        begin = now - span
        return max(0.0, sum(each.count * _share(each, begin) for each in self.arrivals) / span)

    def is_coming(self, *, now: float) -> bool:
        """Whether requests come. What those have missed that came before says nothing once none do."""
        return bool(self.rate(MIDDLE_SECONDS, now=now))

    def estimate(self, *, now: float) -> float:
        """The rate to plan for: slow to fall, and quick to rise where the last seconds differ by more than noise."""
        fast, middle, slow = (self.rate(s, now=now) for s in (FAST_SECONDS, MIDDLE_SECONDS, SLOW_SECONDS))
        rate = max(middle, slow)
        is_step = fast > middle + _STEP_SIGMAS * math.sqrt(middle / FAST_SECONDS)
        return max(rate, fast) if is_step else rate

    def surge(self, *, quantile: float, horizon_seconds: float) -> float:
        """So much has the rate grown within any `horizon_seconds`, by a quantile of the history; 0 without one."""
        if quantile <= 0:
            return 0.0
        growths = sorted(self._growths(horizon_seconds))
        return max(0.0, quantile_of(growths, quantile)) if growths else 0.0

    def _growths(self, horizon_seconds: float) -> Iterator[float]:
        """Between any two times of the history that are about so far apart."""
        later = 0
        for at, rate in self.history:
            while later < len(self.history) and self.history[later][0] < at + horizon_seconds - _LEAST_SECONDS / 2:
                later += 1
            if later < len(self.history) and self.history[later][0] < at + horizon_seconds + 2 * _LEAST_SECONDS:
                yield self.history[later][1] - rate


def flowed(flow: Flow, seen: Observed, *, before: Mapping[str, Reading], history_seconds: float) -> Flow:
    """The same with what has come in since the readings `before`."""
    fresh = {name: reading for name, reading in seen.readings.items() if _is_news(reading, before.get(name))}
    since = flow.since
    if since is None:
        since = min((reading.at for reading in seen.readings.values()), default=None)
    started = {pod.name: pod.ready_at for pod in seen.pods if pod.ready_at is not None}
    found = []
    for name, reading in fresh.items():
        earlier = before.get(name)
        begin = earlier.at if earlier else started.get(name)
        if begin is None or since is None or (earlier is None and begin < since):
            continue  # it worked before anybody looked: what it has is no news
        found.append(Arrivals(min(begin, reading.at - 1e-3), reading.at, _arrived(earlier, reading)))
    oldest = seen.now - SLOW_SECONDS
    arrivals = (*(each for each in flow.arrivals if each.end > oldest), *found)
    flow = replace(flow, since=since, arrivals=arrivals)
    return replace(flow, history=_continued(flow, seen.now, history_seconds=history_seconds))


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """Of sorted values, by linear interpolation."""
    place = quantile * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def _continued(flow: Flow, now: float, *, history_seconds: float) -> tuple[tuple[float, float], ...]:
    if flow.since is None or now - flow.since < MIDDLE_SECONDS:
        return flow.history
    history = flow.history
    if history and now - history[-1][0] < HISTORY_STEP_SECONDS:
        return history
    rate = flow.rate(MIDDLE_SECONDS, now=now)
    return tuple(entry for entry in (*history, (now, rate)) if entry[0] > now - history_seconds)


def _is_news(reading: Reading, before: Reading | None) -> bool:
    return before is None or reading.at > before.at


def _total(reading: Reading) -> float:
    return reading.finished + reading.rejected + reading.running + reading.waiting


def _arrived(before: Reading | None, reading: Reading) -> float:
    if before is None or reading.finished < before.finished:  # it started, or started anew
        return _total(reading)
    return _total(reading) - _total(before)


def _share(arrivals: Arrivals, begin: float) -> float:
    """Of an interval, the part that lies after a time."""
    if arrivals.begin >= begin:
        return 1.0
    return max(0.0, (arrivals.end - begin) / (arrivals.end - arrivals.begin))
