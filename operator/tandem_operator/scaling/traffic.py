"""What requests are like, and how well they were served lately: sums over readings that fade with time. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tandem_operator.scaling.policy import Target
from tandem_operator.scaling.reading import NOTHING, Distribution, Reading

FADE_SECONDS = 150.0
_COUNTED = ("prompt_tokens", "cached_tokens", "answered", "answered_tokens", "output_tokens", "rejected")
_SUMS = ("started", "steps", *_COUNTED)
_DISTRIBUTIONS = ("first_token", "output_token")
_FADING = (*_DISTRIBUTIONS, "spreads")
_LEAST_REQUESTS = 5.0
_BATCH_REQUESTS = 20.0
_RATIOS = (*(0.05 * i for i in range(1, 61)), math.inf)
"""Bounds of the times per output token, over the mean of their batch; beyond the last one nothing is told apart."""


@dataclass(frozen=True)
class Traffic:
    """Sums that fade: what is FADE_SECONDS old counts 1/e."""

    started: float = 0.0
    """Requests whose prefill is over."""
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    answered: float = 0.0
    answered_tokens: float = 0.0
    output_tokens: float = 0.0
    steps: float = 0.0
    """Decode steps times the requests in them."""
    rejected: float = 0.0
    seconds: float = 0.0
    """In which all this has come."""
    first_token: Distribution = NOTHING
    output_token: Distribution = NOTHING
    batch: Distribution = NOTHING
    """Of `output_token`, what has come since a batch was full."""
    spreads: Distribution = NOTHING
    """Of the requests of all batches, over `_RATIOS`."""

    @property
    def is_known(self) -> bool:
        """Whether enough requests have ended to say what they are like."""
        return self.started >= _LEAST_REQUESTS and self.answered >= _LEAST_REQUESTS and self.steps > 0

    @property
    def at_rest(self) -> Traffic:
        """The same once nobody asks any more: what requests are like, and nothing of how they were served."""
        return replace(self, first_token=NOTHING, output_token=NOTHING, batch=NOTHING, rejected=0.0)

    @property
    def request_prompt_tokens(self) -> float:
        """Of a request, cached ones included."""
        return self.prompt_tokens / self.started

    @property
    def computed_share(self) -> float:
        """Of prompt tokens that were not in the prefix cache."""
        return max(0.01, 1 - self.cached_tokens / self.prompt_tokens) if self.prompt_tokens else 1.0

    @property
    def request_output_tokens(self) -> float:
        """Of a request."""
        return max(1.0, self.answered_tokens / self.answered)

    @property
    def tokens_per_step(self) -> float:
        """That a request gets in a decode step: 1 without speculation."""
        return max(1.0, (self.output_tokens - self.started) / self.steps)

    @property
    def tokens_rate(self) -> float:
        """Tokens of prompts and answers a second, those of prompts in the prefix cache included."""
        return (self.prompt_tokens + self.output_tokens) / self.seconds if self.seconds else 0.0

    @property
    def output_tokens_rate(self) -> float:
        """Tokens of answers a second."""
        return self.output_tokens / self.seconds if self.seconds else 0.0

    def spread(self, share: float) -> float:
        """How many times the mean time per output token the slower requests take, by a quantile of them.

        Compared with those of the same time: with fewer pods or more load all take longer, and beside earlier ones they
        would look like the slower ones.
        """
        found = self.spreads if self.spreads.count else _over_mean(self.output_token)
        return max(1.0, quantile_in(found, share)) if found.count >= _LEAST_REQUESTS else 1.0

    def attainments(self, target: Target) -> tuple[float | None, float | None, float]:
        """Shares of the requests within the targets, and by how much they may be wrong at most.

        Who was refused has missed each of them.
        """
        first, first_error = attained(self.first_token, target.first_token_seconds, rejected=self.rejected)
        output, output_error = attained(self.output_token, target.output_token_seconds, rejected=self.rejected)
        return first, output, max(first_error, output_error)


def passed(traffic: Traffic, readings: Mapping[str, Reading], *, before: Mapping[str, Reading]) -> Traffic:
    """The same with what readings add to those `before`, after fading by the time between them."""
    pairs = [(before[name], now) for name, now in readings.items() if name in before and now.at > before[name].at]
    if not pairs:
        return traffic
    fade = math.exp(-max(now.at - earlier.at for earlier, now in pairs) / FADE_SECONDS)
    faded: dict[str, Any] = {name: getattr(traffic, name) * fade for name in _SUMS}
    faded |= {name: getattr(traffic, name).times(fade) for name in _FADING}
    # Engines are not all read at once: the time that passes is what lies between the newest readings of any.
    passed_seconds = max(now.at for _, now in pairs) - max(earlier.at for earlier in before.values())
    faded["seconds"] = traffic.seconds * fade + max(0.0, passed_seconds)
    batch = traffic.batch
    for earlier, now in pairs:
        if now.finished < earlier.finished or now.first_token.count < earlier.first_token.count:
            continue  # it started anew
        faded["started"] += now.first_token.count - earlier.first_token.count
        faded["steps"] += now.steps.count - earlier.steps.count
        for name in _COUNTED:
            faded[name] += getattr(now, name) - getattr(earlier, name)
        for name in _DISTRIBUTIONS:
            faded[name] = _plus(faded[name], getattr(now, name), getattr(earlier, name))
        batch = _plus(batch, now.output_token, earlier.output_token)
    if batch.count >= _BATCH_REQUESTS:
        faded["spreads"] = _plus(faded["spreads"], _over_mean(batch), Distribution(_RATIOS, (0.0,) * len(_RATIOS), 0.0))
        batch = NOTHING
    return replace(traffic, **faded, batch=batch)


def attained(found: Distribution, target: float | None, *, rejected: float) -> tuple[float | None, float]:
    """The share of observations that took at most `target`, and the bound of its error.

    Exact where the target is a bound of the histogram. Between two bounds it is told as if the observations between
    them were spread evenly, and the error is at most the share of them.
    """
    total = found.count + rejected
    if target is None or total < _LEAST_REQUESTS:
        return None, 0.0
    below = above = 0.0
    low = 0.0
    for bound, count in zip(found.bounds, found.counts, strict=True):
        if math.isclose(bound, target, rel_tol=1e-9):
            return count / total, 0.0
        if bound > target:
            above = count
            part = 0.0 if math.isinf(bound) else (target - low) / (bound - low)
            return (below + (above - below) * part) / total, (above - below) / total
        low, below = bound, count
    return below / total, 0.0


def quantile_in(found: Distribution, share: float) -> float:
    """By linear interpolation within a bucket; the last finite bound where it lies beyond."""
    rank, low, below = share * found.count, 0.0, 0.0
    for bound, count in zip(found.bounds, found.counts, strict=True):
        if count >= rank:
            if math.isinf(bound) or count == below:
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


def _over_mean(found: Distribution) -> Distribution:
    """The same over its mean, as if observations between two bounds were spread evenly."""
    if found.count <= 0 or found.seconds <= 0:
        return NOTHING
    mean = found.seconds / found.count
    return Distribution(_RATIOS, tuple(_below(found, ratio * mean) for ratio in _RATIOS), found.count)


def _below(found: Distribution, seconds: float) -> float:
    """How many observations took at most so long."""
    low = below = 0.0
    for bound, count in zip(found.bounds, found.counts, strict=True):
        if seconds <= bound:
            return count if math.isinf(bound) else below + (count - below) * (seconds - low) / (bound - low)
        low, below = bound, count
    return found.count


def _plus(found: Distribution, now: Distribution, earlier: Distribution) -> Distribution:
    if now.bounds != earlier.bounds or not now.bounds:
        return found
    counts = tuple(max(0.0, a - b) for a, b in zip(now.counts, earlier.counts, strict=True))
    seconds = max(0.0, now.seconds - earlier.seconds)
    if found.bounds != now.bounds:  # another engine with another grid: what there was cannot be added to
        return Distribution(now.bounds, counts, seconds)
    return Distribution(now.bounds, tuple(map(sum, zip(found.counts, counts, strict=True))), found.seconds + seconds)
