"""What status says of scaling is written anew when it matters, and else seldom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tandem_operator.scaling.decision import Decision, Health
from tandem_operator.scaling_status import Scaled, told_of_scaling
from tests.unit.operator.scaling_world import make_policy

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def make_scaled(reason: str, health: Health) -> Scaled:
    return Scaled(make_policy(), Decision(3, reason, health))


@pytest.mark.parametrize(
    ("health", "seconds", "is_told"),
    [(Health.BLIND, 59, False), (Health.BLIND, 60, True), (Health.GOOD, 299, False), (Health.GOOD, 300, True)],
)
def test_another_reason_for_deciding_nothing_is_told_within_a_minute(
    health: Health, seconds: int, *, is_told: bool
) -> None:
    before = told_of_scaling(make_scaled("answered 401", health), None, now=NOW).model_dump(by_alias=True)
    after = told_of_scaling(make_scaled("Cannot connect", health), before, now=NOW + timedelta(seconds=seconds))
    assert after.reason == ("Cannot connect" if is_told else "answered 401")


def test_the_same_reason_for_deciding_nothing_is_not_written_again() -> None:
    blind = make_scaled("answered 401", Health.BLIND)
    before = told_of_scaling(blind, None, now=NOW)
    assert told_of_scaling(blind, before.model_dump(by_alias=True), now=NOW + timedelta(seconds=299)) == before
