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
_FADING = (*_DISTRIBUTIONS, "before_step")
_LEAST_REQUESTS = 5.0
_MOST_SPREAD = 3.0


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
    before_step: Distribution = NOTHING
    """Of `output_token`, what came before pods were taken away last."""

    @property
    def is_known(self) -> bool:
        """Whether enough requests have ended to say what they are like."""
        return self.started >= _LEAST_REQUESTS and self.answered >= _LEAST_REQUESTS and self.steps > 0

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

        Fewer pods take longer for each: beside what came before, all requests since would look like the slower ones.
        """
        found = _since(self.before_step, self.output_token)
        found = found if found.count >= _LEAST_REQUESTS else self.before_step
        if found.count < _LEAST_REQUESTS or found.seconds <= 0:
            return 1.0
        return min(max(1.0, quantile_in(found, share) * found.count / found.seconds), _MOST_SPREAD)

    def attainments(self, target: Target) -> tuple[float | None, float | None, float]:
        """Shares of the requests within the targets, and by how much they may be wrong at most."""
        first, first_error = attained(self.first_token, target.first_token_seconds, rejected=self.rejected)
        output, output_error = attained(self.output_token, target.output_token_seconds, rejected=0.0)
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
    for earlier, now in pairs:
        if now.finished < earlier.finished or now.first_token.count < earlier.first_token.count:
            continue  # it started anew
        faded["started"] += now.first_token.count - earlier.first_token.count
        faded["steps"] += now.steps.count - earlier.steps.count
        for name in _COUNTED:
            faded[name] += getattr(now, name) - getattr(earlier, name)
        for name in _DISTRIBUTIONS:
            faded[name] = _plus(faded[name], getattr(now, name), getattr(earlier, name))
    return replace(traffic, **faded)


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


def stepped_down(traffic: Traffic) -> Traffic:
    """The same when pods are taken away."""
    return replace(traffic, before_step=traffic.output_token)


def _since(before: Distribution, now: Distribution) -> Distribution:
    if before.bounds != now.bounds:  # nothing was before, or an engine with another grid
        return now
    counts = tuple(max(0.0, a - b) for a, b in zip(now.counts, before.counts, strict=True))
    return Distribution(now.bounds, counts, max(0.0, now.seconds - before.seconds))


def _plus(found: Distribution, now: Distribution, earlier: Distribution) -> Distribution:
    if now.bounds != earlier.bounds or not now.bounds:
        return found
    more = _since(earlier, now)
    if found.bounds != now.bounds:  # another engine with another grid: what there was cannot be added to
        return more
    counts = tuple(map(sum, zip(found.counts, more.counts, strict=True)))
    return Distribution(now.bounds, counts, found.seconds + more.seconds)
