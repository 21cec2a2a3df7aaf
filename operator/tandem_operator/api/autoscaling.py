"""`spec.autoscaling`: latencies to keep, and how many replicas may be used for it. Never part of a revision."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field

from tandem_operator.api.fields import ApiModel, Duration, Rule, Rules, between, matching, members
from tandem_operator.scaling.policy import Bounds, Select, Strategy, Unit

_LATENCY = "^([0-9]{1,6}ms|[0-9]{1,4}([.][0-9]{1,3})?s)$"


def latency_seconds(text: str) -> float:
    """Seconds of a `Latency`."""
    found = re.fullmatch("([0-9.]+)(ms|s)", text)
    return float(found[1]) * (0.001 if found[2] == "ms" else 1.0) if found else 0.0


Latency = Annotated[
    str,
    Field(min_length=2, max_length=10),
    matching(_LATENCY, "a duration in milliseconds or seconds, such as 80ms, 2s or 1.5s"),
    Rules(
        Rule(
            f"!self.matches('{_LATENCY}')"
            " || (duration(self) >= duration('1ms') && duration(self) <= duration('1000s'))",
            lambda text: 0.001 <= latency_seconds(text) <= 1000,
            "must be from 1ms to 1000s",
        )
    ),
]

_SHARE = "^(0([.][0-9]{1,4})?|1([.]0{1,4})?)$"
Share = Annotated[
    str, Field(min_length=1, max_length=6), matching(_SHARE, 'a share from "0" to "1", such as "0.9", as a text')
]


class LatencyTargets(ApiModel):
    """What a share of the requests has to keep. One target at least; a request counts by each of them."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.timeToFirstToken) || has(self.timePerOutputToken)",
            lambda slo: slo.time_to_first_token is not None or slo.time_per_output_token is not None,
            "timeToFirstToken or timePerOutputToken is required",
        ),
    )

    percentile: Annotated[int, Field(ge=50, le=99)] = 95
    """Percent of the requests that have to keep it: 50 to 99."""
    time_to_first_token: Latency | None = None
    """From a request's arrival at its verifier pod to its first token, such as 2s. Exact for 1, 1.2, 1.5, 2, 2.5, 3, 4,
    5, 6 and 8 times a power of ten; of others the status says by how much the share may be wrong."""
    time_per_output_token: Latency | None = None
    """Mean time between the tokens of a request after its first, such as 80ms."""


class ReplicaBounds(ApiModel):
    """Least and most replicas of a role."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            lambda bounds: bounds.min_replicas <= bounds.max_replicas,
            "minReplicas must not be above maxReplicas",
            path=".minReplicas",
            given=members("minReplicas", "maxReplicas"),
        ),
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Never fewer."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Never more."""

    def clamped(self, replicas: int) -> int:
        """What comes nearest to it within the bounds."""
        return Bounds(self.min_replicas, self.max_replicas).clamped(replicas)


class DraftBounds(ReplicaBounds):
    """Least and most drafts."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Never fewer. 0: none while verifiers have measured that drafts do not pay."""


class ScalingLimit(ApiModel):
    """So many pods, or percent of what there was, in a period."""

    type: Unit
    """Pods or Percent."""
    value: Annotated[int, Field(ge=1, le=1000)]
    """How many."""
    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """In any period of this length."""


class ScalingRules(ApiModel):
    """Limits of one direction, as in autoscaling/v2."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Up: the least that was needed for so long. Down: the most. Omitted: 0 up, 300 down."""
    select_policy: Select = Select.MAX
    """Which of the policies counts: the one that allows most (Max) or least (Min), or no change at all (Disabled)."""
    policies: Annotated[
        tuple[ScalingLimit, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Omitted: 4 pods or 100 percent in 15 s up, 1 pod or 25 percent in 60 s down."""


class ScalingBehavior(ApiModel):
    """How fast replicas may change."""

    scale_up: ScalingRules = ScalingRules()
    """On the way up."""
    scale_down: ScalingRules = ScalingRules()
    """On the way down."""


class Idle(ApiModel):
    """To zero while nobody asks, and back with the first request, which is held until a verifier is Ready."""

    after: Annotated[Duration, between("30s", "168h")] = "10m"
    """How long no request may have come: 30s to 168h. While metrics are missing, none is taken for granted."""
    max_held_requests: Annotated[int, Field(ge=1, le=20000)] = 1000
    """Requests that may wait for the first verifier at once; more are answered 503 with Retry-After."""
    hold_timeout: Annotated[Duration, between("1s", "1h")] = "10m"
    """How long one may wait, 1s to 1h: longer than a cold start, which status.coldStart shows. Then it is answered 503
    with Retry-After."""


class Autoscaling(ApiModel):
    """Replicas by latency targets. An HPA or KEDA of your own: leave this out, they write the scale subresource."""

    slo: LatencyTargets
    """The latencies to keep with as few replicas as will do."""
    verifier: ReplicaBounds
    """Bounds of the verifiers. verifier.replicas is what it begins with."""
    draft: DraftBounds | None = None
    """Bounds of the drafts: as many as draft what verifiers ask for, and no more than minReplicas while drafts do not
    pay. draft.replicas is what it begins with. Omitted: draft.replicas counts."""
    strategy: Strategy = Strategy.HEADROOM
    """Headroom: demand over a capacity that is learned from the engines' step times. Concurrency: as many replicas as
    hold the requests in work."""
    requests_per_replica: Annotated[int, Field(ge=1, le=10000)] = 32
    """Running and waiting requests of a replica: for Concurrency, and for Headroom until it has learned."""
    surge_quantile: Share = "0.9"
    """Headroom's insurance: room for as much more load as came within one cold start, by this quantile of the last half
    hour. "0": none. More costs replicas."""
    behavior: ScalingBehavior = ScalingBehavior()
    """Limits on how fast replicas change."""
    idle: Idle | None = None
    """Omitted: never fewer than verifier.minReplicas."""
    paused: bool = False
    """Replicas stay as they are, at zero too."""
