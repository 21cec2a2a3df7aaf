"""What scaling says: of whoever else writes replicas, of a load that is not asked, and of what it has changed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tandem_contracts.launch import Role
from tandem_operator.facts import Manifest, Ref
from tandem_operator.names import ConditionType
from tandem_operator.objects.event import Rescaled
from tandem_operator.scaling.decision import Decision, Health
from tandem_operator.scaling.policy import Bounds
from tandem_operator.scaling_status import Scaled, rescaled, scaling_verdicts, told_of_scaling
from tandem_operator.scaling_terms import TakenOver
from tandem_operator.verdict import Verdict
from tests.unit.operator.scaling_world import make_policy

NOW = datetime(2026, 11, 27, tzinfo=UTC)
PAUSED = make_policy(is_paused=True)


def verdict(scaled: Scaled, kind: ConditionType) -> Verdict:
    return scaling_verdicts(told_of_scaling(scaled, {}, now=NOW), unheeded=scaled.unheeded)[kind]


@pytest.mark.parametrize(
    ("scaled", "told"),
    [
        (
            Scaled(make_policy(), Decision(3, "needs 3")),
            "neither bounds nor policies keep replicas from what the load asks for",
        ),
        (
            Scaled(PAUSED, Decision(3, "paused")),
            "nothing is limited: the load is not asked while spec.autoscaling.paused",
        ),
        (
            Scaled(PAUSED, Decision(3, "paused"), conflict="hpa"),
            "nothing is limited: the load is not asked while somebody else writes the replicas",
        ),
        (
            Scaled(make_policy(), Decision(3, "answered 401", Health.BLIND)),
            "nothing is limited: what the load asks for is not known",
        ),
        (
            Scaled(make_policy(), Decision(3, "no pod is Ready", Health.NO_PODS)),
            "nothing is limited: what the load asks for is not known while no verifier is Ready",
        ),
    ],
    ids=["deciding", "paused", "conflict", "blind", "no pods"],
)
def test_what_limits_replicas_is_said_of_a_load_that_was_asked_alone(scaled: Scaled, told: str) -> None:
    limited = verdict(scaled, ConditionType.SCALING_LIMITED)
    assert (limited.holds, limited.message) == (False, told)


def test_while_paused_nobody_says_that_the_load_decides_again() -> None:
    other = TakenOver(Ref("Deployment", "x"), "kubectl", NOW, 9)
    told = other.told(Bounds(2, 8), is_paused=True)
    assert told.endswith("by kubectl: 9, above maxReplicas, 8; spec.autoscaling.paused keeps them")


@pytest.mark.parametrize(
    ("by", "replicas", "told"),
    [
        (
            "kubectl",
            5,
            "its replicas were written by kubectl: 5; after 10 minutes the load decides again. "
            "spec.autoscaling.paused keeps replicas for longer",
        ),
        ("kubectl-edit", 9, "written by kubectl-edit: 9, above maxReplicas, 8; after 10 minutes"),
        (
            "kube-controller-manager",
            1,
            "written by kube-controller-manager: 1, below minReplicas, 2; take that autoscaler away, "
            "or spec.autoscaling; 10 minutes later the load decides again",
        ),
    ],
)
def test_who_writes_the_replicas_is_told_in_words_that_fit(by: str, replicas: int, told: str) -> None:
    other = TakenOver(Ref("Deployment", "pair-verifier-0badcafe"), by, NOW, replicas)
    scaled = Scaled(PAUSED, Decision(replicas, "paused"), conflict=other.told(Bounds(2, 8)))
    assert told in verdict(scaled, ConditionType.SCALING_ACTIVE).message


def test_what_has_no_effect_is_said_beside_the_decision() -> None:
    scaled = Scaled(make_policy(), Decision(3, "needs 3"), unheeded="kubectl has asked in vain")
    assert verdict(scaled, ConditionType.SCALING_ACTIVE).message == "needs 3; kubectl has asked in vain"


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"desiredVerifiers": 2}, {"desiredVerifiers": 3, "reason": "needs 3"}, [(Role.VERIFIER, 2, 3, "needs 3")]),
        ({"desiredVerifiers": 2}, {"desiredVerifiers": 2, "reason": "needs 2"}, []),
        ({}, {"desiredVerifiers": 3}, []),
        ({"desiredVerifiers": "2"}, {"desiredVerifiers": 3}, []),
        ({"desiredVerifiers": 2}, {"desiredVerifiers": 5, "health": "Conflict"}, []),
        ({"desiredVerifiers": 5, "health": "Conflict"}, {"desiredVerifiers": 2}, [(Role.VERIFIER, 5, 2, "")]),
        ({"desiredVerifiers": 2}, {}, []),
        (
            {"desiredVerifiers": 1, "desiredDrafts": 1},
            {"desiredVerifiers": 0, "reason": "idle", "desiredDrafts": 0, "draftReason": "none"},
            [(Role.VERIFIER, 1, 0, "idle"), (Role.DRAFT, 1, 0, "none")],
        ),
        ({"desiredDrafts": 1}, {"desiredDrafts": 3, "draftHealth": "Conflict"}, []),
    ],
    ids=[
        "another number",
        "the same number",
        "what it begins with",
        "somebody has spoilt it",
        "somebody else's",
        "our own again",
        "scaled no more",
        "both roles",
        "somebody else's drafts",
    ],
)
def test_every_number_that_scaling_has_decided_anew_is_news(
    before: Manifest, after: Manifest, found: list[tuple[Role, int, int, str]]
) -> None:
    assert rescaled({"scaling": before}, {"scaling": after}) == tuple(Rescaled(*each) for each in found)
