"""What status says of scaling is written anew when it matters, and else seldom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem_operator.facts import Facts
from tandem_operator.observation import Observation
from tandem_operator.plan import Plan
from tandem_operator.scaling.decision import Decision, Figures, Health, Limited
from tandem_operator.scaling.policy import Target
from tandem_operator.scaling_status import STEADY_SECONDS, Scaled
from tandem_operator.status import status_of
from tests.unit.operator.scaling_world import make_policy

NOW = datetime(2026, 11, 27, tzinfo=UTC)
GOOD = Decision(3, "as many as the load asks for", figures=Figures(first_token_attainment=1.0))
MISSED = Decision(3, "late", figures=Figures(first_token_attainment=0.5))
AT_MAXIMUM = Decision(3, "not enough", limited=Limited.AT_MOST, figures=Figures(first_token_attainment=1.0))
BLIND = Decision(3, "answered 401", Health.BLIND)


class Teller:
    """Writes status as the operator does: what is equal to the last one is no write."""

    def __init__(self, decision: Decision = GOOD) -> None:
        self.status: dict[str, Any] = {}
        self.writes = 0
        self.seconds = 0.0
        self.tell(decision)

    def tell(
        self,
        decision: Decision,
        *,
        after: float = 0.0,
        changed: datetime | None = None,
        asked: datetime | None = None,
        **policy: object,
    ) -> str:
        """The reasons of the conditions of scaling that are told `after` so many seconds more."""
        self.seconds += after
        scaled = Scaled(make_policy(**policy), decision, changed, asked)
        observed = Observation("llm", 1, Facts(), Plan(), scaled=scaled)
        told = status_of(observed, previous=self.status, now=NOW + timedelta(seconds=self.seconds))
        self.writes += told != self.status
        self.status = told
        return " ".join(c["reason"] for c in told["conditions"] if c["type"].startswith(("Scaling", "Latency")))


@pytest.mark.parametrize(
    ("before", "seconds", "is_told"), [(BLIND, 59, False), (BLIND, 60, True), (GOOD, 299, False), (GOOD, 300, True)]
)
def test_another_reason_for_deciding_nothing_is_told_within_a_minute(
    before: Decision, seconds: int, *, is_told: bool
) -> None:
    teller = Teller(before)
    teller.tell(Decision(3, "Cannot connect", before.health, figures=before.figures), after=seconds)
    assert teller.status["scaling"]["reason"] == ("Cannot connect" if is_told else before.reason)


def test_the_same_reason_for_deciding_nothing_is_not_written_again() -> None:
    teller = Teller(BLIND)
    teller.tell(BLIND, after=299)
    assert teller.writes == 1


@pytest.mark.parametrize(("share", "told"), [(0.94996, "94.9"), (0.95, "95.0"), (0.57, "57.0"), (1.0, "100.0")])
def test_a_share_is_rounded_down_so_that_none_below_the_target_looks_like_it(share: float, told: str) -> None:
    teller = Teller(Decision(3, "late", figures=Figures(first_token_attainment=share)))
    assert teller.status["scaling"]["attainment"]["timeToFirstToken"] == told


@pytest.mark.parametrize(
    ("news", "reasons"),
    [
        (MISSED, "Deciding NotLimited TargetMissed"),
        (AT_MAXIMUM, "Deciding AtMaximum TargetMet"),
        (BLIND, "MetricsMissing NotLimited NoRequests"),
    ],
)
def test_what_has_been_so_for_long_and_is_no_more_is_told_within_a_minute(news: Decision, reasons: str) -> None:
    teller = Teller()
    teller.tell(GOOD, after=STEADY_SECONDS)
    assert teller.tell(news, after=59) == "Deciding NotLimited TargetMet"
    assert teller.tell(news, after=1) == reasons


@pytest.mark.parametrize("what", ["changed", "asked"])
def test_after_a_change_of_replicas_or_spec_the_first_turn_of_the_target_is_told_within_a_minute(what: str) -> None:
    teller = Teller()
    assert teller.tell(MISSED, after=60, **{what: NOW}) == "Deciding NotLimited TargetMissed"
    assert teller.tell(GOOD, after=60, **{what: NOW}) == "Deciding NotLimited TargetMissed", "it comes and goes"
    another = NOW + timedelta(seconds=120)
    assert teller.tell(GOOD, after=60, **{what: another}) == "Deciding NotLimited TargetMet"


def test_another_target_is_told_at_once_and_once_also_by_a_process_that_did_not_see_it_change() -> None:
    teller = Teller()
    writes = teller.writes
    assert teller.tell(MISSED, after=1, target=Target(99, 0.5, None)) == "Deciding NotLimited TargetMissed"
    asked = {c["type"]: c["message"] for c in teller.status["conditions"]}["LatencyTargetMet"]
    assert asked == "in time: time to first token 50.0 %; asked for 99 %: 0.5 s to the first token"
    for _ in range(10):
        teller.tell(MISSED, after=5, target=Target(99, 0.5, None))
    assert teller.writes == writes + 1


def test_what_is_said_follows_a_changed_spec_at_once_and_is_written_once() -> None:
    teller = Teller()
    teller.tell(GOOD, after=100.9)
    writes, asked = teller.writes, NOW + timedelta(seconds=101.5)
    by_count = replace(GOOD, reason="needs 3 by count")
    teller.tell(by_count, after=1.1, asked=asked)
    assert teller.status["scaling"]["reason"] == "needs 3 by count"
    for _ in range(10):
        teller.tell(by_count, after=5, asked=asked)
    assert teller.writes == writes + 1


def test_ten_minutes_after_a_change_of_replicas_a_turn_of_the_target_has_nothing_to_do_with_it() -> None:
    teller = Teller()
    teller.tell(GOOD, after=600, changed=NOW)
    assert teller.tell(MISSED, after=60, changed=NOW) == "Deciding NotLimited TargetMet"


@pytest.mark.parametrize("period", [45, 70, 120])
def test_a_target_that_comes_and_goes_after_a_change_is_one_piece_of_news(period: int) -> None:
    teller = Teller()
    before = teller.writes
    for second in range(5, 605, 5):
        teller.tell(GOOD if second % (2 * period) < period else MISSED, after=5, changed=NOW)
    assert teller.writes - before <= 600 / 300 + 1


def test_figures_are_written_anew_where_the_clock_was_set_back() -> None:
    teller = Teller()
    later = Decision(3, "as many as before", figures=GOOD.figures)
    teller.tell(later, after=-3600)
    assert teller.status["scaling"]["reason"] == later.reason
    teller.tell(GOOD, after=299)
    assert (teller.status["scaling"]["reason"], teller.writes) == (later.reason, 2), "and then as seldom as before"


def test_that_metrics_are_there_again_is_told_within_a_minute() -> None:
    assert Teller(BLIND).tell(GOOD, after=60) == "Deciding NotLimited TargetMet"


def test_the_first_requests_are_told_within_a_minute() -> None:
    teller = Teller(Decision(3, "no load"))
    assert teller.tell(MISSED, after=60) == "Deciding NotLimited TargetMissed"


@pytest.mark.parametrize("other", [MISSED, AT_MAXIMUM, BLIND, Decision(3, "one is silent", Health.PARTIAL)])
@pytest.mark.parametrize("period", [5, 45, 120, 400])
def test_what_comes_and_goes_writes_no_more_than_constant_load(other: Decision, period: int) -> None:
    teller = Teller()
    for second in range(0, 3600, 5):
        teller.tell(GOOD if second % (2 * period) < period else other, after=5)
    others = 12 if other is BLIND else 2  # the first one, and one piece of news; and each time that it sees again
    assert teller.writes <= 3600 / 300 + others


@pytest.mark.parametrize(
    ("decision", "policy", "reasons"),
    [
        (Decision(4, "one more"), {}, "Deciding NotLimited NoRequests"),
        (Decision(3, "none is Ready", Health.NO_PODS), {}, "NoReadyVerifier NotLimited NoRequests"),
        (GOOD, {"is_paused": True}, "Paused NotLimited TargetMet"),
    ],
)
def test_what_is_decided_and_that_nobody_decides_is_told_at_once(
    decision: Decision, policy: dict[str, object], reasons: str
) -> None:
    assert Teller().tell(decision, after=1, **policy) == reasons
