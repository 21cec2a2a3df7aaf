"""How long each stage of an engine's end may take: the one place where these times are added up and checked.

A pod that ends goes through: preStop (nodes hear that it is no endpoint any more), SIGTERM to the launcher, a while in
which those who keep connections are told to open others, SIGTERM to the engine, its own wait for requests in flight,
the launcher's limit on it, and the kubelet's SIGKILL. Each stage must end before the one that would cut it off.
"""

from __future__ import annotations

import dataclasses

PRE_STOP_SECONDS = 5
LEAVING_SECONDS = 3
STOP_MARGIN_SECONDS = 5
GRACE_MARGIN_SECONDS = 10
DEFAULT_DRAIN_SECONDS = 20
DRAIN_LIMIT_SECONDS = 3600


class InvalidStopTimesError(ValueError):
    """The stages of an engine's end would cut each other off; the message names value and range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopTimes:
    """The stages, in seconds. Raises InvalidStopTimesError unless they fit into each other.

    `engine_seconds` is vLLM's shutdown timeout, counted like `limit_seconds` from its SIGTERM; `grace_seconds` is the
    pod's and includes preStop.
    """

    pre_stop_seconds: int
    leaving_seconds: int
    engine_seconds: int
    limit_seconds: int
    grace_seconds: int

    @classmethod
    def of_drain(cls, drain_seconds: int) -> StopTimes:
        """Stages that leave requests in flight `drain_seconds` after SIGTERM."""
        limit = drain_seconds + STOP_MARGIN_SECONDS
        return cls(
            pre_stop_seconds=PRE_STOP_SECONDS,
            leaving_seconds=LEAVING_SECONDS,
            engine_seconds=drain_seconds,
            limit_seconds=limit,
            grace_seconds=PRE_STOP_SECONDS + LEAVING_SECONDS + limit + GRACE_MARGIN_SECONDS,
        )

    def __post_init__(self) -> None:
        if not 1 <= self.engine_seconds <= DRAIN_LIMIT_SECONDS:
            raise InvalidStopTimesError(
                f"the engine's wait (is {self.engine_seconds} s): must be from 1 to {DRAIN_LIMIT_SECONDS} s"
            )
        if self.pre_stop_seconds < 1:
            raise InvalidStopTimesError(f"preStop (is {self.pre_stop_seconds} s): must be at least 1 s")
        if self.leaving_seconds < 0:
            raise InvalidStopTimesError(f"the leaving (is {self.leaving_seconds} s): must not be below 0 s")
        if self.limit_seconds <= self.engine_seconds:
            raise InvalidStopTimesError(
                f"the launcher's limit (is {self.limit_seconds} s): must be above the engine's {self.engine_seconds} s"
            )
        needed = self.pre_stop_seconds + self.leaving_seconds + self.limit_seconds
        if self.grace_seconds <= needed:
            raise InvalidStopTimesError(
                f"the grace period (is {self.grace_seconds} s): must be above preStop, leaving and the launcher's "
                f"limit, {needed} s"
            )
