"""A port of Knative's pod autoscaler on concurrency, with its panic window.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go and config/core/configmaps/autoscaler.yaml. Concurrency
is what its proxies count, every two seconds here; it needs no scrape. Its activator holds what no pod can take.
"""

from __future__ import annotations

import math
from collections import deque

from benchmarks.scaling.controllers import Sight

TICK_SECONDS = 2.0
STABLE_SECONDS, PANIC_SECONDS = 60.0, 6.0
PANIC_THRESHOLD = 2.0
MOST_UP, MOST_DOWN = 1000.0, 2.0
UTILIZATION = 0.7
"""Of the concurrency that a pod may have, that is aimed at."""


class Knative:
    """`concurrency`: that a pod may have (`containerConcurrency`)."""

    tick_seconds = TICK_SECONDS
    scrape_seconds = 60.0

    def __init__(self, concurrency: float, *, delay_seconds: float = 0.0) -> None:
        self.target = concurrency * UTILIZATION
        self.delay_seconds = delay_seconds
        """`scale-down-delay`."""
        self._counts: deque[tuple[float, int]] = deque()
        self._decided: deque[tuple[float, int]] = deque()
        self._panic_since: float | None = None
        self._panic_most = 0
        self._is_begun = False

    def replicas(self, sight: Sight) -> int:
        """As the last tick says."""
        now = sight.now
        self._counts.append((now, sight.in_work))
        while self._counts[0][0] <= now - STABLE_SECONDS:
            self._counts.popleft()
        ready = max(1, sight.ready)
        if not self._is_begun:
            self._is_begun = True
            if sight.ready > 1:  # a new autoscaler has not seen what it should not shrink below
                self._panic_since, self._panic_most = now, sight.ready
        stable = self._pods(STABLE_SECONDS, now=now)
        panic = self._pods(PANIC_SECONDS, now=now)
        most, least = math.ceil(MOST_UP * ready), math.floor(ready / MOST_DOWN)
        desired = min(max(stable, least), most)
        desired_in_panic = min(max(panic, least), most)
        if panic / ready >= PANIC_THRESHOLD:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + STABLE_SECONDS < now:
            self._panic_since, self._panic_most = None, 0
        if self._panic_since is not None:
            self._panic_most = desired = max(desired, desired_in_panic, self._panic_most)
        return self._delayed(desired, now=now)

    def _pods(self, seconds: float, *, now: float) -> int:
        found = [count for at, count in self._counts if at > now - seconds]
        return math.ceil(sum(found) / len(found) / self.target)

    def _delayed(self, desired: int, *, now: float) -> int:
        if not self.delay_seconds:
            return desired
        self._decided.append((now, desired))
        while self._decided[0][0] <= now - self.delay_seconds:
            self._decided.popleft()
        return max(count for _, count in self._decided)
