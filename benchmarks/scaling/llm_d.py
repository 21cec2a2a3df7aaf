"""A port of llm-d's SLO-aware law: KEDA's formula on the 90th percentile of latencies over their objectives.

Source: llm-d/llm-d, guides/workload-autoscaling, README.slo-aware.md, 2026. Rules every 15 s, smoothed over 45 s,
clamped at 2; NaN is 0, so that lost metrics look like no load. The published figure is with predicted latencies.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.scaling.controllers import Sight
from benchmarks.scaling.hpa import Behavior, Rule, average_value
from benchmarks.scaling.requests import Objective
from benchmarks.scaling.router_signals import Latencies

RULE_SECONDS = 15.0
SMOOTHED = 3
"""Evaluations of the rule in 45 s."""
CLAMP = 2.0
SHARE = 0.9
UP = Rule(pods=4, percent=100, period_seconds=60.0, stabilization_seconds=30.0)
DOWN = Rule(pods=1, percent=None, period_seconds=120.0, stabilization_seconds=180.0)


class Source(StrEnum):
    """Of the latencies."""

    MEASURED = "measured"
    PREDICTED = "predicted"


@dataclass(frozen=True)
class Band:
    """Of the signal, in which nothing changes."""

    up: float = 0.55
    down: float = 0.40


def desired_of(signal: float, *, replicas: int, ready: int, band: Band) -> int:
    """The formula of the ScaledObject."""
    if signal > band.up:
        credit = ready / replicas if 0 < ready < replicas else 1.0
        return replicas + math.ceil(replicas * (signal * credit / band.up - 1) - 1e-9)
    if signal < band.down:
        return replicas - math.floor(replicas * (1 - signal / band.down) + 1e-9)
    return replicas


class LlmD:
    """The rules, the formula and the HPA behind it."""

    tick_seconds = RULE_SECONDS
    scrape_seconds = 60.0

    def __init__(
        self,
        objective: Objective,
        *,
        least: int,
        most: int,
        source: Source = Source.PREDICTED,
        band: Band | None = None,
    ) -> None:
        self.objective = objective
        self.source = source
        self.band = band or Band()
        self.behavior = Behavior(least, most, UP, DOWN)
        self._signals: deque[float] = deque(maxlen=SMOOTHED)

    def replicas(self, sight: Sight) -> int:
        """As the last sync of its HPA says."""
        signals = sight.signals
        self._signals.append(
            self._raw(signals.predicted if self.source is Source.PREDICTED else signals.measured, sight)
        )
        signal = sum(self._signals) / len(self._signals)
        wanted = desired_of(signal, replicas=sight.staying, ready=sight.ready, band=self.band)
        desired = average_value(float(wanted), 1.0, replicas=sight.staying)
        return self.behavior.replicas(desired, current=sight.wanted, now=sight.now)

    def _raw(self, latencies: Latencies, sight: Sight) -> float:
        if not sight.is_seen:
            return 0.0
        first = latencies.first_token.quantile(SHARE, now=sight.now)
        output = latencies.output_token.quantile(SHARE, now=sight.now)
        shares = (
            (first or 0.0) / self.objective.first_token_seconds,
            (output or 0.0) / self.objective.output_token_seconds,
        )
        return min(max(shares), CLAMP)
