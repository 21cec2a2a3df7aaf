"""What an engine says of itself, by its metrics page: counters, gauges and histograms at one time. Pure.

A page is one engine's. Data-parallel ranks (label `engine`) are summed, and so are the label sets of a counter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client.parser import text_string_to_metric_families

from tandem_contracts import metrics

_COUNTERS = (
    metrics.ENGINE_FINISHED,
    metrics.ENGINE_REJECTED,
    metrics.ENGINE_PROMPT_TOKENS,
    metrics.ENGINE_CACHED_TOKENS,
    metrics.ENGINE_OUTPUT_TOKENS,
)
_ANSWERED, _ANSWERED_TOKENS = f"{metrics.ENGINE_REQUEST_TOKENS}_count", f"{metrics.ENGINE_REQUEST_TOKENS}_sum"
_GAUGES = (metrics.ENGINE_RUNNING, metrics.ENGINE_WAITING)
"""Without them a page tells nothing."""
_HISTOGRAMS = (metrics.ENGINE_FIRST_TOKEN_SECONDS, metrics.ENGINE_OUTPUT_TOKEN_SECONDS)
_STEPS, _STEP_SECONDS = f"{metrics.ENGINE_STEP_SECONDS}_count", f"{metrics.ENGINE_STEP_SECONDS}_sum"
"""Of that histogram nobody asks for the buckets, which are a third of all that could be read."""
FAMILIES = (
    *_COUNTERS,
    *_GAUGES,
    *_HISTOGRAMS,
    _STEPS,
    _STEP_SECONDS,
    _ANSWERED,
    _ANSWERED_TOKENS,
    metrics.ENGINE_KV_USAGE,
    metrics.ENGINE_CACHE_CONFIG,
)
"""Names, or beginnings of names, of the series that are read."""
_SERIES_KNOWN, _LONGEST_KNOWN = 20_000, 500
"""A page may say anything: what is kept of it is bounded in number and in length."""
_MOST = 1e15
"""No counter of an engine gets there."""


@dataclass(frozen=True)
class Distribution:
    """A histogram of durations: `counts[i]` observations took at most `bounds[i]` seconds; the last is infinite."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    seconds: float = 0.0
    """The sum of all observations."""

    @property
    def count(self) -> float:
        """Observations."""
        return self.counts[-1] if self.counts else 0.0

    def times(self, factor: float) -> Distribution:
        """With each observation counted as `factor`."""
        return Distribution(self.bounds, tuple(count * factor for count in self.counts), self.seconds * factor)


NOTHING = Distribution()
"""No observation."""


@dataclass(frozen=True)
class Reading:
    """One engine at one time. Counters count from the engine's start; what it does not export is 0."""

    at: float
    """Seconds since the epoch."""
    running: float
    waiting: float
    finished: float = 0.0
    rejected: float = 0.0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    output_tokens: float = 0.0
    answered: float = 0.0
    """Requests that ended with an answer."""
    answered_tokens: float = 0.0
    """Of all these answers."""
    kv_usage: float = 0.0
    """From 0 to 1."""
    kv_tokens: float = 0.0
    """Tokens that its KV cache holds; 0 while it does not say."""
    steps: Distribution = NOTHING
    """How many and how long together, without bounds between them."""
    first_token: Distribution = NOTHING
    output_token: Distribution = NOTHING


@dataclass(frozen=True)
class Sample:
    """One series at one time."""

    name: str
    labels: Mapping[str, str]
    value: float


def reading_in(page: str, *, at: float) -> Reading | None:
    """What a page tells; None where it does not tell how many requests run and wait, or something is not a number."""
    samples = samples_in(page, FAMILIES)
    return None if samples is None else reading_of(samples, at=at)


def samples_in(page: str, families: tuple[str, ...]) -> list[Sample] | None:
    """The series of a page whose names begin with one of `families`; None where one of them cannot be read."""
    samples = []
    for line in page.splitlines():
        if line.startswith(families):
            series, _, value = line.rpartition(" ")
            named = _series(series) if len(series) <= _LONGEST_KNOWN else _parsed(series)
            if named is None:
                return None
            try:
                samples.append(Sample(*named, float(value)))
            except ValueError:
                return None
    return samples


def reading_of(samples: Iterable[Sample], *, at: float) -> Reading | None:
    """The same from samples, such as those that Prometheus answers for one pod."""
    sums: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {name: {} for name in _HISTOGRAMS}
    kv_tokens, kv_usage = 0.0, 0.0
    for sample in samples:
        name, value = sample.name, sample.value
        if not 0 <= value <= _MOST:  # false for what is not a number, too
            return None
        if name == metrics.ENGINE_CACHE_CONFIG:
            kv_tokens += _kv_tokens(sample.labels)
        elif name == metrics.ENGINE_KV_USAGE:
            kv_usage = max(kv_usage, value)
        elif name.endswith("_bucket") and (family := name.removesuffix("_bucket")) in buckets:
            bound = _number(sample.labels.get("le", ""))
            if bound is None:
                return None
            buckets[family][bound] = buckets[family].get(bound, 0.0) + value
        else:
            sums[name] = sums.get(name, 0.0) + value
    if any(name not in sums for name in _GAUGES):
        return None
    first_token, output_token = (
        Distribution(tuple(sorted(found)), tuple(found[bound] for bound in sorted(found)), sums.get(f"{name}_sum", 0.0))
        for name, found in buckets.items()
    )
    return Reading(
        at=at,
        running=sums[metrics.ENGINE_RUNNING],
        waiting=sums[metrics.ENGINE_WAITING],
        finished=sums.get(metrics.ENGINE_FINISHED, 0.0),
        rejected=sums.get(metrics.ENGINE_REJECTED, 0.0),
        prompt_tokens=sums.get(metrics.ENGINE_PROMPT_TOKENS, 0.0),
        cached_tokens=sums.get(metrics.ENGINE_CACHED_TOKENS, 0.0),
        output_tokens=sums.get(metrics.ENGINE_OUTPUT_TOKENS, 0.0),
        answered=sums.get(_ANSWERED, 0.0),
        answered_tokens=sums.get(_ANSWERED_TOKENS, 0.0),
        kv_usage=min(kv_usage, 1.0),
        kv_tokens=kv_tokens,
        steps=Distribution((math.inf,), (sums.get(_STEPS, 0.0),), sums.get(_STEP_SECONDS, 0.0)),
        first_token=first_token,
        output_token=output_token,
    )


@lru_cache(maxsize=_SERIES_KNOWN)
def _series(text: str) -> tuple[str, Mapping[str, str]] | None:
    """Name and labels of a series. The same series come in every page, so each is parsed once."""
    return _parsed(text)


def _parsed(text: str) -> tuple[str, Mapping[str, str]] | None:
    try:
        (family,) = text_string_to_metric_families(f"{text} 0\n")
        (sample,) = family.samples
    except (ValueError, KeyError, IndexError):
        return None
    return sample.name, sample.labels


def _kv_tokens(labels: Mapping[str, str]) -> float:
    blocks, size = _number(labels.get("num_gpu_blocks", "")), _number(labels.get("block_size", ""))
    return blocks * size if blocks and size and math.isfinite(blocks * size) else 0.0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
