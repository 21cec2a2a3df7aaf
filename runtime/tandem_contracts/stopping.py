"""How long each stage of an engine's end may take: the one place where these times are added up and checked.

A pod that ends goes through: preStop (nodes hear that it is no endpoint any more), SIGTERM to the launcher, the
engine's own wait for requests in flight, the launcher's limit on the engine, and the kubelet's SIGKILL. Each stage
must end before the one that would cut it off.
"""

from __future__ import annotations

import dataclasses

PRE_STOP_SECONDS = 5
STOP_MARGIN_SECONDS = 5
GRACE_MARGIN_SECONDS = 10
DEFAULT_DRAIN_SECONDS = 20
DRAIN_LIMIT_SECONDS = 3600


class InvalidStopTimesError(ValueError):
    """The stages of an engine's end would cut each other off; the message names value and range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopTimes:
    """The stages, in seconds. Raises InvalidStopTimesError unless they fit into each other.

    `engine_seconds` is vLLM's shutdown timeout, counted like `limit_seconds` from SIGTERM; `grace_seconds` is the
    pod's and includes preStop.
    """

    pre_stop_seconds: int
    engine_seconds: int
    limit_seconds: int
    grace_seconds: int

    @classmethod
    def of_drain(cls, drain_seconds: int) -> StopTimes:
        """Stages that leave requests in flight `drain_seconds` after SIGTERM."""
        limit = drain_seconds + STOP_MARGIN_SECONDS
        return cls(
            pre_stop_seconds=PRE_STOP_SECONDS,
            engine_seconds=drain_seconds,
            limit_seconds=limit,
            grace_seconds=PRE_STOP_SECONDS + limit + GRACE_MARGIN_SECONDS,
        )

    def __post_init__(self) -> None:
        if not 1 <= self.engine_seconds <= DRAIN_LIMIT_SECONDS:
            raise InvalidStopTimesError(
                f"the engine's wait (is {self.engine_seconds} s): must be from 1 to {DRAIN_LIMIT_SECONDS} s"
            )
        if self.pre_stop_seconds < 1:
            raise InvalidStopTimesError(f"preStop (is {self.pre_stop_seconds} s): must be at least 1 s")
        if self.limit_seconds <= self.engine_seconds:
            raise InvalidStopTimesError(
                f"the launcher's limit (is {self.limit_seconds} s): must be above the engine's {self.engine_seconds} s"
            )
        needed = self.pre_stop_seconds + self.limit_seconds
        if self.grace_seconds <= needed:
            raise InvalidStopTimesError(
                f"the grace period (is {self.grace_seconds} s): must be above preStop and the launcher's limit, "
                f"{needed} s"
            )
