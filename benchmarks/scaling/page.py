"""What a simulated engine counts, and its /metrics page as vLLM writes it: the text that the operator reads."""

from __future__ import annotations

import math
from bisect import bisect_left

from tandem_contracts import metrics

MODEL = "Qwen/Qwen3-32B"
_LABELS = f'engine="0",model_name="{MODEL}"'
_TOKEN_BOUNDS = tuple(float(m * 10**e) for e in range(5) for m in (1, 2, 5))


class Histogram:
    """Observations by upper bound, not cumulative until they are written."""

    def __init__(self, name: str, bounds: tuple[float, ...]) -> None:
        self.count = 0.0
        self.sum = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._head = f"# HELP {name} Simulated.\n# TYPE {name} histogram\n"
        labels = [f'engine="0",le="{_bound(b)}",model_name="{MODEL}"' for b in (*bounds, math.inf)]
        self._begins = [f"{name}_bucket{{{label}}} " for label in labels]
        self._count_begin, self._sum_begin = f"{name}_count{{{_LABELS}}} ", f"{name}_sum{{{_LABELS}}} "

    def observe(self, value: float, times: int = 1) -> None:
        """The same value so often."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.count += times
        self.sum += value * times

    def observe_rising(self, first: float, longer: float, *, steps: int, times: int) -> None:
        """`steps` values, each `longer` more than the one before, each of them `times` times."""
        done = 0
        while done < steps:
            place = bisect_left(self._bounds, first + longer * done)
            left = steps - done
            if longer > 0 and place < len(self._bounds):
                left = min(left, max(1, int((self._bounds[place] - first) / longer) + 1 - done))
            self._counts[place] += left * times
            done += left
        self.count += steps * times
        self.sum += (first * steps + longer * steps * (steps - 1) / 2) * times

    def lines(self) -> str:
        """In the text format."""
        total, parts = 0, [self._head]
        for begin, count in zip(self._begins, self._counts, strict=True):
            total += count
            parts.append(f"{begin}{total}.0\n")
        parts.append(f"{self._count_begin}{self.count}\n{self._sum_begin}{self.sum}\n")
        return "".join(parts)


class Counters:
    """All that one engine has counted since its start."""

    def __init__(self, kv_tokens: int, block_tokens: int) -> None:
        self.first_token = Histogram(metrics.ENGINE_FIRST_TOKEN_SECONDS, metrics.LATENCY_GRID)
        self.steps = Histogram(metrics.ENGINE_STEP_SECONDS, metrics.LATENCY_GRID)
        self.output_token = Histogram(metrics.ENGINE_OUTPUT_TOKEN_SECONDS, metrics.LATENCY_GRID)
        self.answers = Histogram(metrics.ENGINE_REQUEST_TOKENS, _TOKEN_BOUNDS)
        self.prompt_tokens = 0
        self.output_tokens = 0.0
        self.rejected = 0
        self.preemptions = 0
        blocks = f'block_size="{block_tokens}",engine="0",num_gpu_blocks="{kv_tokens // block_tokens}"'
        self._cache_config = (
            f"# HELP {metrics.ENGINE_CACHE_CONFIG} Simulated.\n# TYPE {metrics.ENGINE_CACHE_CONFIG} gauge\n"
            f"{metrics.ENGINE_CACHE_CONFIG}{{{blocks}}} 1.0\n"
        )

    def finished(self, output_tokens: int, token_seconds: float, *, is_single: bool) -> None:
        """A request ended with an answer."""
        self.answers.observe(output_tokens)
        if not is_single:
            self.output_token.observe(token_seconds)

    def page(self, *, running: int, waiting: int, kv_usage: float) -> str:
        """The whole page."""
        parts = [
            _single(metrics.ENGINE_RUNNING, "gauge", running),
            _single(metrics.ENGINE_WAITING, "gauge", waiting),
            _single(metrics.ENGINE_KV_USAGE, "gauge", kv_usage),
            self._cache_config,
            _single("vllm:num_preemptions_total", "counter", self.preemptions),
            _single(metrics.ENGINE_PROMPT_TOKENS, "counter", self.prompt_tokens),
            _single(metrics.ENGINE_CACHED_TOKENS, "counter", 0),
            _single(metrics.ENGINE_OUTPUT_TOKENS, "counter", self.output_tokens),
            _finished(self.answers.count),
            self.first_token.lines(),
            self.steps.lines(),
            self.output_token.lines(),
            self.answers.lines(),
        ]
        if self.rejected:
            parts.append(_rejected(self.rejected))
        return "".join(parts)


def _bound(bound: float) -> str:
    """As Prometheus' clients write it."""
    return "+Inf" if math.isinf(bound) else str(float(bound))


def without_numbers(page: str) -> str:
    """The same page with NaN where requests are told: what a broken exporter may serve."""
    spoiled = (metrics.ENGINE_RUNNING, metrics.ENGINE_WAITING)
    lines = (f"{line.rpartition(' ')[0]} NaN" if line.startswith(spoiled) else line for line in page.splitlines())
    return "\n".join(lines) + "\n"


def _single(name: str, kind: str, value: float) -> str:
    family = name.removesuffix("_total")
    return f"# HELP {family} Simulated.\n# TYPE {family} {kind}\n{name}{{{_LABELS}}} {float(value)}\n"


def _finished(count: float) -> str:
    family = metrics.ENGINE_FINISHED.removesuffix("_total")
    head = f"# HELP {family} Simulated.\n# TYPE {family} counter\n"
    of_reason = {"stop": 0.0, "length": count, "abort": 0.0}
    lines = (
        f'{metrics.ENGINE_FINISHED}{{engine="0",finished_reason="{reason}",model_name="{MODEL}"}} {value}\n'
        for reason, value in of_reason.items()
    )
    return head + "".join(lines)


def _rejected(count: int) -> str:
    family = metrics.ENGINE_REJECTED.removesuffix("_total")
    series = f'{metrics.ENGINE_REJECTED}{{model_name="{MODEL}",reason="max_num_queued_tokens"}}'
    return f"# HELP {family} Simulated.\n# TYPE {family} counter\n{series} {float(count)}\n"
