"""What llm-d's endpoint picker tells of latencies: histograms over a minute, with its own bounds.

It can tell what was measured, or what its predictor expected when it chose a pod. That predictor is a regression of
the 90th percentile (`LATENCY_QUANTILE_ALPHA`) on a pod's queue, cache and batch. Here it is what the simulated engine
takes by its own constants, times how far the 90th percentile of requests lies from that: a predictor that has learned
all. Bounds: llm-d/llm-d-router, pkg/epp/metrics. They matter: times that all lie between 40 and 60 ms are told as 58.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

from benchmarks.scaling.engine import Engine
from benchmarks.scaling.fleet import Fleet
from benchmarks.scaling.requests import Request
from tandem_operator.scaling.reading import Distribution
from tandem_operator.scaling.traffic import quantile_in

FIRST_TOKEN_BOUNDS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0,
    8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0,
)  # fmt: skip
OUTPUT_TOKEN_BOUNDS = (
    0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.0,
)  # fmt: skip
WINDOW_SECONDS = 60.0
FIRST_TOKEN_TAIL, OUTPUT_TOKEN_TAIL = 1.03, 1.10
"""Measured over expected of the simulated engine, 90th percentile of requests at a half to all of its capacity."""


@dataclass
class Window:
    """Observations of the last minute."""

    bounds: tuple[float, ...]
    _found: deque[tuple[float, float]] = field(default_factory=deque)

    def observe(self, at: float, value: float) -> None:
        """Times may come a little out of order."""
        self._found.append((at, value))

    def quantile(self, share: float, *, now: float) -> float | None:
        """As `histogram_quantile` over the window tells it; None without observations."""
        while self._found and self._found[0][0] <= now - WINDOW_SECONDS:
            self._found.popleft()
        if not self._found:
            return None
        counts = [0.0] * (len(self.bounds) + 1)
        for _, value in self._found:
            counts[bisect_left(self.bounds, value)] += 1
        total, cumulative = 0.0, []
        for count in counts:
            total += count
            cumulative.append(total)
        return quantile_in(Distribution((*self.bounds, float("inf")), tuple(cumulative)), share)


@dataclass
class Latencies:
    """Of first and of further tokens."""

    first_token: Window = field(default_factory=lambda: Window(FIRST_TOKEN_BOUNDS))
    output_token: Window = field(default_factory=lambda: Window(OUTPUT_TOKEN_BOUNDS))


@dataclass
class RouterSignals:
    """Measured and predicted."""

    measured: Latencies = field(default_factory=Latencies)
    predicted: Latencies = field(default_factory=Latencies)

    def chosen(self, request: Request, engine: Engine, *, at: float) -> None:
        """What a request will take on the engine that it is sent to; before it is sent."""
        profile = engine.profile
        ahead = engine.queued_prompt_tokens + request.prompt_tokens
        waits = 0.0
        if engine.waiting:
            # The cache is full: it empties at the pace at which answers end.
            missing = engine.kv_usage * profile.kv_tokens + ahead - profile.kv_tokens
            waits = max(0.0, missing) / profile.kv_tokens * engine.step_seconds * request.output_tokens
        first = profile.front_seconds + profile.prompt_seconds * ahead + 1.5 * engine.step_seconds + waits
        self.predicted.first_token.observe(at, FIRST_TOKEN_TAIL * first)
        of_others = profile.prompt_seconds * request.prompt_tokens / max(1, request.output_tokens) * engine.running
        self.predicted.output_token.observe(at, OUTPUT_TOKEN_TAIL * (engine.step_seconds + of_others))

    def collect(self, fleet: Fleet) -> None:
        """What engines have done since the last time."""
        for pod in (*fleet.pods, *fleet.gone):
            if pod.engine is None:
                continue
            for request in pod.engine.begun:
                if request.first_token_at is not None:
                    self.measured.first_token.observe(request.first_token_at, request.first_token_at - request.arrival)
            for request in pod.engine.ended:
                seconds = request.output_token_seconds
                if request.finished_at is not None and seconds is not None and request.output_tokens > 1:
                    self.measured.output_token.observe(request.finished_at, seconds)
            pod.engine.begun.clear()
            pod.engine.ended.clear()
