"""What a user asks of scaling, and what is known beforehand, as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Strategy(StrEnum):
    """How the number of replicas is found."""

    HEADROOM = "Headroom"
    CONCURRENCY = "Concurrency"


class Select(StrEnum):
    """Which of several limits counts, as in autoscaling/v2."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class Unit(StrEnum):
    """Of a limit."""

    PODS = "Pods"
    PERCENT = "Percent"


@dataclass(frozen=True)
class Target:
    """Latencies that a share of the requests has to keep. One at least is not None."""

    percentile: float = 95.0
    first_token_seconds: float | None = None
    output_token_seconds: float | None = None

    @property
    def share(self) -> float:
        """Of the requests that have to keep it, from 0 to 1."""
        return self.percentile / 100


@dataclass(frozen=True)
class Bounds:
    """Least and most replicas."""

    least: int = 1
    most: int = 1

    def clamped(self, replicas: int) -> int:
        """What comes nearest to it within the bounds."""
        return min(max(replicas, self.least), self.most)

    def moved(self, replicas: int) -> str:
        """For a person: to which bound replicas that are beyond it go; empty where they are within."""
        if replicas > self.most:
            return f"to {self.most}, which is maxReplicas now"
        return f"to {self.least}, which is minReplicas now" if replicas < self.least else ""

    def beyond(self, replicas: int) -> str:
        """For a person: which bound is not kept; empty where both are."""
        if replicas > self.most:
            return f", above maxReplicas, {self.most}"
        return f", below minReplicas, {self.least}" if replicas < self.least else ""

    def paused_at(self, replicas: int) -> str:
        """For a person; at zero there may well be none."""
        return f"paused at {replicas}{self.beyond(replicas) if replicas else ''}"


@dataclass(frozen=True)
class Limit:
    """So many pods, or percent of what there was at the beginning, in any so many seconds."""

    unit: Unit
    value: int
    period_seconds: float


@dataclass(frozen=True)
class Direction:
    """Limits on going up, or down."""

    limits: tuple[Limit, ...]
    select: Select = Select.MAX
    stabilization_seconds: float = 0.0
    """Up: the least of what was wanted for so long. Down: the most."""


@dataclass(frozen=True)
class Behavior:
    """The schema of autoscaling/v2, as limits."""

    up: Direction = Direction((Limit(Unit.PERCENT, 100, 15.0), Limit(Unit.PODS, 4, 15.0)))
    down: Direction = Direction((Limit(Unit.PERCENT, 25, 60.0), Limit(Unit.PODS, 1, 60.0)), stabilization_seconds=300.0)


@dataclass(frozen=True)
class StepModel:
    """Time of a decode step: `base + prompt·p + context·c + request·n` seconds.

    `p`: prompt tokens that the step computes; `c`: tokens in the KV cache of the requests in the batch; `n`: requests.
    """

    base: float
    prompt: float
    context: float
    request: float

    def seconds(self, *, prompt_tokens: float, context_tokens: float, requests: float) -> float:
        """Of one step."""
        return self.base + self.prompt * prompt_tokens + self.context * context_tokens + self.request * requests


@dataclass(frozen=True)
class Policy:
    """All that deciding goes by, besides what is observed."""

    target: Target
    bounds: Bounds
    strategy: Strategy = Strategy.HEADROOM
    behavior: Behavior = field(default_factory=Behavior)
    surge_quantile: float = 0.9
    """Of how much the load has grown during one cold start, as insurance; 0: none."""
    surge_history_seconds: float = 1800.0
    cold_start_seconds: float = 120.0
    """Until it is learned."""
    most_requests: int = 256
    """That an engine runs at once."""
    requests_per_pod: float = 32.0
    """Running and waiting, of the strategy Concurrency and of Headroom's first minutes without a model."""
    idle_seconds: float | None = None
    """Without a request for so long, to zero; None: never."""
    is_paused: bool = False
