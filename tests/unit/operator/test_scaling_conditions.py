"""What conditions say of scaling: whether the target is met, whether replicas follow the load, and what limits them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tandem_operator.api.status import ScalingStatus
from tandem_operator.names import ConditionType, Reason
from tandem_operator.scaling.decision import Decision, Figures, Health, Limited
from tandem_operator.scaling.drafts import DraftDecision
from tandem_operator.scaling_status import Scaled, ScaledDrafts, scaling_verdicts, told_of_scaling
from tandem_operator.verdict import Verdict
from tests.unit.operator.drafts_world import make_draft_policy
from tests.unit.operator.scaling_world import make_policy

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def told_of(decision: Decision, drafts: ScaledDrafts | None = None) -> ScalingStatus:
    """Status of a target of 95 %."""
    return told_of_scaling(Scaled(make_policy(), decision, drafts=drafts), {}, now=NOW)


def is_active(told: ScalingStatus) -> Verdict:
    return scaling_verdicts(told)[ConditionType.SCALING_ACTIVE]


def is_limited(told: ScalingStatus) -> Verdict:
    return scaling_verdicts(told)[ConditionType.SCALING_LIMITED]


def is_target_met(told: ScalingStatus) -> Verdict:
    return scaling_verdicts(told)[ConditionType.LATENCY_TARGET_MET]


def attained(first: float | None, output: float | None, error: float = 0.0) -> ScalingStatus:
    """Status where such shares were within the targets."""
    figures = Figures(first_token_attainment=first, output_token_attainment=output, attainment_error=error)
    return told_of(Decision(3, "needs 3", figures=figures))


@pytest.mark.parametrize(
    ("first", "output", "error", "target"),
    [
        (0.95, 0.99, 0.0, "Met"),
        (0.949, 0.99, 0.0, "Missed"),
        (0.99, 0.949, 0.0, "Missed"),
        (0.95, None, 0.0, "Met"),
        (None, 0.5, 0.0, "Missed"),
        (0.90, 0.99, 0.06, "Met"),  # as far as the histogram tells
        (0.88, 0.99, 0.06, "Missed"),  # whatever it does not tell
        (None, None, 0.0, "Unknown"),
    ],
)
def test_the_target_is_missed_only_where_no_error_of_the_histogram_explains_it(
    first: float | None, output: float | None, error: float, target: str
) -> None:
    told = attained(first, output, error)
    assert told.target == target
    verdict = is_target_met(told)
    assert (verdict.holds, verdict.is_known) == (target == "Met", target != "Unknown")


def test_a_share_that_may_be_wrong_is_told_with_by_how_much() -> None:
    message = is_target_met(attained(0.9, None, 0.06)).message
    asked = "; asked for 95 %: 2 s to the first token, 0.06 s for each further one"
    assert message == f"in time: time to first token 90.0 % (wrong by 6.0 points at most){asked}"
    message = is_target_met(attained(0.97, 0.99)).message
    assert message == f"in time: time to first token 97.0 %, time per output token 99.0 %{asked}"


@pytest.mark.parametrize(
    ("health", "holds", "reason", "message"),
    [
        (Health.GOOD, True, Reason.DECIDING, "because"),
        (Health.PARTIAL, True, Reason.METRICS_INCOMPLETE, "up alone: because"),
        (Health.BLIND, False, Reason.METRICS_MISSING, "because"),
        (Health.NEW, True, Reason.NO_READY_VERIFIER, "because"),
        (Health.NO_PODS, True, Reason.NO_READY_VERIFIER, "because"),
    ],
)
def test_whether_replicas_follow_the_load_is_told_by_how_much_is_seen(
    health: Health, *, holds: bool, reason: Reason, message: str
) -> None:
    verdict = is_active(told_of(Decision(3, "because", health)))
    assert (verdict.holds, verdict.reason, verdict.message) == (holds, reason, message)


def test_drafts_that_cannot_be_seen_are_told_while_verifiers_can() -> None:
    policy, blind = make_draft_policy(), DraftDecision(2, "stays at 2", Health.BLIND)
    verdict = is_active(told_of(Decision(3, "needs 3"), ScaledDrafts(policy, blind)))
    assert (verdict.holds, verdict.reason, verdict.message) == (True, Reason.METRICS_INCOMPLETE, "drafts: stays at 2")
    partial = ScaledDrafts(policy, replace(blind, health=Health.PARTIAL))
    assert is_active(told_of(Decision(3, "needs 3"), partial)).reason is Reason.DECIDING


@pytest.mark.parametrize(
    ("limited", "reason", "message"),
    [
        (Limited.NO, Reason.NOT_LIMITED, "neither bounds nor policies keep replicas from what the load asks for"),
        (Limited.AT_MOST, Reason.AT_MAXIMUM, "maxReplicas, 3, are not enough"),
        (Limited.AT_LEAST, Reason.AT_MINIMUM, "fewer than minReplicas, 3, would do"),
        (Limited.BEHAVIOR, Reason.LIMITED_BY_BEHAVIOR, "spec.autoscaling.behavior allows no more at once"),
    ],
)
def test_what_keeps_replicas_from_what_the_load_asks_for_is_told(
    limited: Limited, reason: Reason, message: str
) -> None:
    verdict = is_limited(told_of(Decision(3, "needs 3", limited=limited)))
    assert (verdict.holds, verdict.reason, verdict.message) == (limited is not Limited.NO, reason, message)
