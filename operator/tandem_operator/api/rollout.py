"""`spec.rollout`: how one revision gives way to the next. Never part of a revision."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from tandem_operator.api.fields import ApiModel, Duration, Rule, between, is_duration, members, seconds_of


class RolloutStrategy(StrEnum):
    """In which order new pods come and old ones go."""

    AUTO = "Auto"
    BLUE_GREEN = "BlueGreen"
    ROLLING = "Rolling"
    RECREATE = "Recreate"


class OnFailure(StrEnum):
    """What becomes of a rollout that does not succeed."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"


class Rollout(ApiModel):
    """How a change reaches the pods."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            # The API server judges the default of `rollout`, which is empty, before it fills in the fields' own.
            "!has(self.surgeWait) || !has(self.progressDeadline)"
            f" || !({is_duration('self.surgeWait', 'self.progressDeadline')})"
            " || duration(self.progressDeadline) > duration(self.surgeWait)",
            lambda rollout: rollout.progress_deadline_seconds > rollout.surge_wait_seconds,
            "progressDeadline must be longer than surgeWait",
            path=".progressDeadline",
            given=members("progressDeadline", "surgeWait"),
        ),
    )

    strategy: RolloutStrategy = RolloutStrategy.AUTO
    """BlueGreen: all new pods beside the old ones, then the switch. Rolling: one old pod goes for one new.
    Recreate: the old pods go first. Auto: BlueGreen, and Rolling when there is no room for it."""
    surge_wait: Annotated[Duration, between("1s", "1h")] = "2m"
    """How long a new pod may stay unschedulable before Auto goes on as Rolling: 1s to 1h, such as 90s or 2m."""
    drain_timeout: Annotated[Duration, between("1s", "1h")] = "10m"
    """Most time that an old pod gets to finish its requests, 1s to 1h. Pods that run already keep what they were made
    with."""
    progress_deadline: Annotated[Duration, between("10s", "24h")] = "30m"
    """A rollout without progress for this long has failed: 10s to 24h, and longer than surgeWait."""
    on_failure: OnFailure = OnFailure.ROLLBACK
    """Rollback: the revision before serves on and the failed one goes. Hold: both stay as they are."""

    @property
    def surge_wait_seconds(self) -> int:
        return seconds_of(self.surge_wait)

    @property
    def drain_timeout_seconds(self) -> int:
        return seconds_of(self.drain_timeout)

    @property
    def progress_deadline_seconds(self) -> int:
        return seconds_of(self.progress_deadline)
