"""What one pod can do within the target, and how many a load needs. Pure: formulas of steady state.

Source: ../shared/background/autoscaling.md 6.2 and 6.4. Slots: requests in decode batches, with a normal margin for
chance. Prefill: one server a pod with exponential waits (M/D/1, tail as of M/M/1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tandem_operator.scaling.policy import StepModel, Target

UP_SIGMAS, DOWN_SIGMAS = 2.3, 2.6
QUEUE_SHARE = 0.99
"""Of the requests, that shall find their prefill begun in time."""
_KV_SHARE = 0.95
_MOST_PREFILL_LOAD = 0.98


@dataclass(frozen=True)
class Load:
    """What requests are like."""

    prompt_tokens: float
    computed_tokens: float
    """Of them, that are not in the prefix cache."""
    output_tokens: float
    tokens_per_step: float = 1.0
    spread: float = 1.0
    """Of the time per output token: the slower requests' over the mean."""

    @property
    def context_tokens(self) -> float:
        """That a request holds in the KV cache, in the mean over its life."""
        return self.prompt_tokens + self.output_tokens / 2

    @property
    def steps(self) -> float:
        """Decode steps of a request."""
        return self.output_tokens / self.tokens_per_step


@dataclass(frozen=True)
class Engine:
    """One pod."""

    model: StepModel
    kv_tokens: float
    """0: not known, and not a limit."""
    most_requests: float
    derate: float = 1.0
    """Share of what the formulas say that can be had, by experience."""


@dataclass(frozen=True)
class Capacity:
    """Of one pod within the target."""

    requests: float
    """In its batch."""
    rate: float
    """Requests a second."""
    step_seconds: float
    """With so many."""


@dataclass(frozen=True)
class Shortage:
    """What so many pods cannot hold; as a text, for a person."""

    told: str
    figures: tuple[float, ...] = ()

    def __str__(self) -> str:
        return self.told.format(*self.figures)


TOO_SLOW = Shortage("requests come faster than they are answered")
PROMPTS_TOO_SLOW = Shortage("prompts come faster than they are computed")


class Sizing:
    """A load on engines of one kind, for a target."""

    def __init__(self, engine: Engine, load: Load, target: Target) -> None:
        self._engine, self._load, self._target = engine, load, target
        model = engine.model
        self._base = model.base
        self._slope = (
            model.prompt * load.computed_tokens / load.steps + model.context * load.context_tokens + model.request
        )
        self._prefill_seconds = model.base + model.prompt * load.computed_tokens
        self._most = self._most_in_batch()

    @property
    def alone_seconds(self) -> float:
        """To the first token of a request that has a pod for itself."""
        return self._prefill_seconds + self._base

    @property
    def is_in_reach(self) -> bool:
        """Whether any number of pods keeps the target for the first token."""
        limit = self._target.first_token_seconds
        return limit is None or self.alone_seconds <= limit

    def step_seconds(self, requests: float) -> float:
        """Of a step with so many requests, at the pace at which they replace each other."""
        return self._base + self._slope * requests

    def capacity(self) -> Capacity:
        """Of one pod."""
        seconds = self.step_seconds(self._most)
        return Capacity(self._most, self._most / (self._load.steps * seconds) if seconds > 0 else 0.0, seconds)

    def in_batch(self, rate: float) -> float:
        """Requests in a pod's batch in steady state, by Little's law; infinite where it cannot keep up."""
        entering = rate * self._load.steps
        share = entering * self._slope
        return entering * self._base / (1 - share) if share < 1 else math.inf

    def need(self, rate: float, *, most: int, sigmas: float) -> int | None:
        """The least number of pods with which all conditions hold; None where `most` are not enough."""
        return next((pods for pods in range(1, most + 1) if self.shortage(rate, pods, sigmas) is None), None)

    def shortage(self, rate: float, pods: int, sigmas: float) -> Shortage | None:
        """Which condition does not hold with so many pods; None where all do."""
        requests = self.in_batch(rate / pods)
        if math.isinf(requests):
            return TOO_SLOW
        at_once, room = requests * pods, pods * self._most
        with_chance = at_once + sigmas * math.sqrt(at_once)
        if with_chance > room:
            told = "{0:.1f} requests at once, and by chance up to {1:.1f}, where {2:.1f} have room"
            return Shortage(told, (at_once, with_chance, room))
        load = rate / pods * self._prefill_seconds
        if load >= _MOST_PREFILL_LOAD:
            return PROMPTS_TOO_SLOW
        limit = self._target.first_token_seconds
        if limit is None or not self.is_in_reach:  # more pods would not bring it any nearer
            return None
        tail = max(0.0, math.log(load / (1 - QUEUE_SHARE))) if load > 0 else 0.0
        waits = tail * self._prefill_seconds / (2 * (1 - load))
        seconds = self._prefill_seconds + waits + self.step_seconds(requests)
        return Shortage("a first token takes up to {0:.2f} s", (seconds,)) if seconds > limit else None

    def _most_in_batch(self) -> float:
        engine, load, limit = self._engine, self._load, self._target.output_token_seconds
        bounds = [engine.most_requests]
        if engine.kv_tokens:
            bounds.append(_KV_SHARE * engine.kv_tokens / load.context_tokens)
        if limit is not None and self._slope > 0:
            step_limit = limit * load.tokens_per_step / load.spread
            bounds.append((step_limit - self._base) / self._slope)
        # One request at least: a target that no engine keeps would else ask for every pod there may be.
        return max(1.0, engine.derate * min(bounds))
