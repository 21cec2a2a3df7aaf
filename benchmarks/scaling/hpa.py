"""A port of Kubernetes' HorizontalPodAutoscaler: ratio, tolerance, stabilisation and the limits of `behavior`.

Source: kubernetes/kubernetes, pkg/controller/podautoscaler, `replica_calculator.go` and `horizontal.go`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.scaling.controllers import Sight

SYNC_SECONDS = 15.0
SCRAPE_SECONDS = 15.0
TOLERANCE = 0.1


@dataclass(frozen=True)
class Rule:
    """A HPAScalingPolicy; `pods` and `percent` both given are two policies of which the one that allows more counts."""

    pods: int | None
    percent: int | None
    period_seconds: float
    stabilization_seconds: float


DEFAULT_UP = Rule(pods=4, percent=100, period_seconds=15.0, stabilization_seconds=0.0)
DEFAULT_DOWN = Rule(pods=None, percent=100, period_seconds=15.0, stabilization_seconds=300.0)


def average_value(total: float, target: float, *, replicas: int) -> int:
    """An external metric with AverageValue: `ceil(total / target)`, whatever is Ready. `replicas`: status.replicas."""
    if replicas and abs(1.0 - total / (target * replicas)) <= TOLERANCE:
        return replicas
    return math.ceil(total / target)


def value(measured: float, target: float, *, current: int, ready: int) -> int:
    """An external metric with Value: the ratio times the Ready pods. `current`: spec.replicas."""
    ratio = measured / target
    if current == 0:
        return math.ceil(ratio)
    if abs(1.0 - ratio) <= TOLERANCE:
        return current
    return math.ceil(ratio * ready)


@dataclass
class Behavior:
    """Stabilisation, then limits, as `normalizeDesiredReplicasWithBehaviors` has it."""

    least: int
    most: int
    up: Rule = DEFAULT_UP
    down: Rule = DEFAULT_DOWN
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)
    _is_begun: bool = False

    def replicas(self, desired: int, *, current: int, now: float) -> int:
        """What `spec.replicas` becomes."""
        stable = self._stabilized(desired, current=current, now=now)
        found = self._limited(stable, current=current, now=now)
        if found != current:
            self._changes.append((now, found - current))
        longest = max(self.up.period_seconds, self.down.period_seconds)
        self._changes = [change for change in self._changes if change[0] > now - longest]
        return found

    def _stabilized(self, desired: int, *, current: int, now: float) -> int:
        if not self._is_begun:
            self._is_begun = True
            self._recommended.append((now, current))
        least = most = desired
        for at, recommended in self._recommended:
            if at > now - self.up.stabilization_seconds:
                least = min(least, recommended)
            if at > now - self.down.stabilization_seconds:
                most = max(most, recommended)
        longest = max(self.up.stabilization_seconds, self.down.stabilization_seconds)
        self._recommended = [each for each in self._recommended if each[0] > now - longest]
        self._recommended.append((now, desired))
        return min(max(current, least), most)

    def _limited(self, desired: int, *, current: int, now: float) -> int:
        if desired > current:
            begin = self._period_start(current, self.up, now=now)
            allowed = [] if self.up.pods is None else [begin + self.up.pods]
            if self.up.percent is not None:
                allowed.append(math.ceil(begin * (1 + self.up.percent / 100)))
            return min(desired, max(current, *allowed), self.most)
        if desired < current:
            begin = self._period_start(current, self.down, now=now)
            allowed = [] if self.down.pods is None else [begin - self.down.pods]
            if self.down.percent is not None:
                allowed.append(int(begin * (1 - self.down.percent / 100)))
            return max(desired, min(current, *allowed), self.least)
        return min(max(current, self.least), self.most)

    def _period_start(self, current: int, rule: Rule, *, now: float) -> int:
        return current - sum(by for at, by in self._changes if at > now - rule.period_seconds)


class ConcurrencyHpa:
    """AverageValue on running plus waiting requests. No data: no change."""

    tick_seconds = SYNC_SECONDS
    scrape_seconds = SCRAPE_SECONDS

    def __init__(self, target: float, *, least: int, most: int) -> None:
        self.target = target
        self.behavior = Behavior(least, most)

    def replicas(self, sight: Sight) -> int:
        """As the last sync says."""
        total = sight.scraped.total(lambda reading: reading.running + reading.waiting)
        if total is None:
            return sight.wanted
        desired = average_value(total, self.target, replicas=sight.staying)
        return self.behavior.replicas(desired, current=sight.wanted, now=sight.now)


class FirstTokenHpa:
    """Value on the 95th percentile of the time to first token of a minute. No data: no change."""

    tick_seconds = SYNC_SECONDS
    scrape_seconds = SCRAPE_SECONDS

    def __init__(self, target_seconds: float, *, least: int, most: int) -> None:
        self.target = target_seconds
        self.behavior = Behavior(least, most)

    def replicas(self, sight: Sight) -> int:
        """As the last sync says."""
        measured = sight.scraped.quantile(0.95, lambda reading: reading.first_token, now=sight.now, window_seconds=60.0)
        if measured is None:
            return sight.wanted
        desired = value(measured, self.target, current=sight.wanted, ready=sight.ready)
        return self.behavior.replicas(desired, current=sight.wanted, now=sight.now)
