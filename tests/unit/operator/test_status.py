"""Situations and what the operator says about them; the same situation always gives the same words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.cold_start import ColdStart, StartPhase
from tandem_operator.facts import Facts, Manifest
from tandem_operator.names import ConditionType, Reason
from tandem_operator.observation import Observation
from tandem_operator.plan import Plan, plan
from tandem_operator.rollout import Want
from tandem_operator.status import flipped, status_of
from tandem_operator.targets import Problem
from tests.builders import (
    CLOCK,
    NAME,
    NAMESPACE,
    UID,
    make_pair_facts,
    make_revision,
    make_role,
    make_spec,
    make_workload,
)

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
VERIFIER, DRAFT = make_revision(), make_revision(role=Role.DRAFT)
NEW = make_revision(make_spec(verifier=make_role("new")), number=2)
NOW = datetime(2030, 5, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
WANTS = {Role.VERIFIER: Want(VERIFIER, 1), Role.DRAFT: Want(DRAFT, 1)}
NO_DRAFTS = make_revision(make_spec(speculation={"method": "NGram"}))


def observe(facts: Facts, wants: dict[Role, Want] | None = None, **parts: Any) -> Observation:
    made = plan(OWNER, facts, WANTS if wants is None else wants, clock=CLOCK)
    return Observation(**{"name": NAME, "generation": 3, "facts": facts, "plan": made, **parts})


def say(observation: Observation, previous: Manifest | None = None, now: datetime = NOW) -> Manifest:
    return status_of(observation, previous=previous or {}, now=now)


def conditions(status: Manifest) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


READY = make_pair_facts(VERIFIER, DRAFT)
STARTING = make_pair_facts(VERIFIER, DRAFT, verifier_ready=0, draft_ready=0)
DRAFTLESS = make_pair_facts(VERIFIER, DRAFT, draft_ready=0)
ROLLING = replace(READY, workloads=(*READY.workloads, make_workload(Role.VERIFIER, NEW.revision, ready=0)))
ROLLING_WANTS = {**WANTS, Role.VERIFIER: Want(NEW, 1)}
PROBLEM = Problem(Reason.INVALID_SPEC, "spec.verifier.replicas (is -1): too few")
ZERO = replace(
    READY,
    workloads=(make_workload(Role.VERIFIER, VERIFIER.revision, wanted=0, ready=0), READY.workloads[1]),
)
ALONE = Facts(
    revisions=(NO_DRAFTS,),
    workloads=(make_workload(Role.VERIFIER, NO_DRAFTS.revision),),
    services=(replace(READY.services[0], selected_revision=NO_DRAFTS.revision),),
)

PLAINTEXT = {"DraftTransportSecure": ("False", "DraftTransportPlaintext")}

SITUATIONS = {
    "nothing but a bad spec": (
        observe(Facts(), {}, problem=PROBLEM),
        {
            "Available": ("False", "NoReadyVerifier"),
            "Ready": ("False", "InvalidSpec"),
            "Stalled": ("True", "InvalidSpec"),
            "Accepted": ("False", "InvalidSpec"),
            "VerifierReady": ("False", "Absent"),
            "DraftReady": ("False", "Absent"),
        },
    ),
    "starting": (
        observe(STARTING),
        {
            "Available": ("False", "NoReadyVerifier"),
            "Ready": ("False", "PodsNotReady"),
            "Reconciling": ("True", "PodsNotReady"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("False", "PodsNotReady"),
            "DraftReady": ("False", "PodsNotReady"),
            **PLAINTEXT,
        },
    ),
    "serving before the drafts are there": (
        observe(DRAFTLESS),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "PodsNotReady"),
            "Reconciling": ("True", "PodsNotReady"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("False", "PodsNotReady"),
            **PLAINTEXT,
        },
    ),
    "rolled out": (
        observe(READY),
        {
            "Available": ("True", "Serving"),
            "Ready": ("True", "RolledOut"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "rolling out": (
        observe(ROLLING, ROLLING_WANTS),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "RollingOut"),
            "Reconciling": ("True", "RollingOut"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("False", "RollingOut"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "a bad spec over a good service": (
        observe(READY, {}, problem=PROBLEM),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "InvalidSpec"),
            "Stalled": ("True", "InvalidSpec"),
            "Accepted": ("False", "InvalidSpec"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "somebody else's object in the way": (
        observe(READY, problem=Problem(Reason.NAME_CONFLICT, "Service pair exists and nothing controls it")),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "NameConflict"),
            "Stalled": ("True", "NameConflict"),
            "Accepted": ("False", "NameConflict"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "objects of an earlier resource that are still there": (
        observe(READY, predecessors=("Service pair still belongs to an earlier LLMDeployment pair",)),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "PredecessorGoing"),
            "Reconciling": ("True", "PredecessorGoing"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "not answered by the API server": (
        observe(READY, unanswered=("Deployment x: 503: down",)),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "APIUnavailable"),
            "Reconciling": ("True", "APIUnavailable"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "refused by the API server": (
        observe(READY, refused=("Deployment x: exceeded quota",)),
        {
            "Available": ("True", "Serving"),
            "Ready": ("False", "APIRefused"),
            "Reconciling": ("True", "APIRefused"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "scaled to zero": (
        observe(ZERO, {**WANTS, Role.VERIFIER: Want(VERIFIER, 0)}),
        {
            "Available": ("False", "ScaledToZero"),
            "Ready": ("True", "RolledOut"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "ScaledToZero"),
            "DraftReady": ("True", "PodsReady"),
            **PLAINTEXT,
        },
    ),
    "a verifier without drafts": (
        observe(ALONE, {Role.VERIFIER: Want(NO_DRAFTS, 1)}),
        {
            "Available": ("True", "Serving"),
            "Ready": ("True", "RolledOut"),
            "Accepted": ("True", "Accepted"),
            "VerifierReady": ("True", "PodsReady"),
            "DraftReady": ("True", "NotUsed"),
        },
    ),
}
BY_NAME = pytest.mark.parametrize(("observation", "expected"), SITUATIONS.values(), ids=SITUATIONS.keys())


@BY_NAME
def test_a_situation_is_told_by_these_conditions(
    observation: Observation, expected: dict[str, tuple[str, str]]
) -> None:
    assert conditions(say(observation)) == expected


@BY_NAME
def test_equal_input_gives_equal_output_and_a_repeated_pass_changes_nothing(
    observation: Observation, expected: dict[str, tuple[str, str]]
) -> None:
    first = say(observation)
    assert first == say(observation)
    assert say(observation, first, LATER) == first
    assert flipped(first, say(observation, first, LATER)) == ()


@BY_NAME
def test_stalled_and_reconciling_are_there_only_while_true_and_never_together(
    observation: Observation, expected: dict[str, tuple[str, str]]
) -> None:
    told = conditions(say(observation))
    abnormal = [told[kind] for kind in ("Stalled", "Reconciling") if kind in told]
    assert all(status == "True" for status, _ in abnormal)
    assert len(abnormal) == (0 if told["Ready"][0] == "True" else 1)


@BY_NAME
def test_every_condition_speaks_of_the_generation_and_in_a_sentence(
    observation: Observation, expected: dict[str, tuple[str, str]]
) -> None:
    status = say(observation)
    assert status["observedGeneration"] == 3
    order = [kind.value for kind in ConditionType]
    kinds = [condition["type"] for condition in status["conditions"]]
    assert kinds == sorted(kinds, key=order.index)
    for condition in status["conditions"]:
        assert condition["observedGeneration"] == 3
        assert condition["message"]
        assert condition["reason"]


def test_ready_gives_the_message_of_the_first_cause() -> None:
    ready = next(c for c in say(observe(READY, {}, problem=PROBLEM))["conditions"] if c["type"] == "Ready")
    assert ready["message"] == PROBLEM.message


def test_the_time_of_a_transition_is_kept_while_the_status_is_the_same() -> None:
    first = say(observe(STARTING, refused=("Deployment x: exceeded quota",)))
    second = say(observe(DRAFTLESS), first, LATER)
    assert [conditions(status)["Ready"][1] for status in (first, second)] == ["APIRefused", "PodsNotReady"]
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["Ready"] == "2030-05-01T12:00:00Z", "still False, though for another reason"
    assert times["Available"] == times["VerifierReady"] == "2030-05-01T13:00:00Z"
    assert times["Accepted"] == "2030-05-01T12:00:00Z"


def test_a_condition_that_comes_back_begins_anew() -> None:
    first = say(observe(STARTING))
    ready = say(observe(READY), first, LATER)
    again = say(observe(STARTING), ready, LATER + timedelta(hours=1))
    times = {c["type"]: c["lastTransitionTime"] for c in again["conditions"]}
    assert times["Reconciling"] == times["Ready"] == "2030-05-01T14:00:00Z"


def test_times_are_written_in_utc() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert say(observe(READY), now=elsewhere) == say(observe(READY))


def test_status_of_a_role_counts_what_serves_and_selects_it_alone() -> None:
    status = say(observe(ROLLING, ROLLING_WANTS))
    verifier = status["verifier"]
    assert (verifier["revision"], verifier["targetRevision"]) == (VERIFIER.revision, NEW.revision)
    assert (verifier["replicas"], verifier["readyReplicas"], verifier["summary"]) == (1, 1, "1/1")
    assert verifier["selector"].split(",") == [
        f"{names.LABEL_DEPLOYMENT}={NAME}",
        f"{names.LABEL_ROLE}=verifier",
        f"{names.LABEL_REVISION}={VERIFIER.revision}",
    ]


def test_a_role_that_is_not_used_has_no_status() -> None:
    assert "draft" not in say(observe(ALONE, {Role.VERIFIER: Want(NO_DRAFTS, 1)}))
    assert say(Observation(name=NAME, generation=1, facts=Facts(), plan=Plan())).keys() == {
        "observedGeneration",
        "conditions",
    }


def test_what_hinders_the_pods_is_told() -> None:
    hindered = make_workload(Role.VERIFIER, VERIFIER.revision, ready=0, message="exceeded quota: gpus")
    facts = replace(STARTING, workloads=(hindered, STARTING.workloads[1]))
    ready = next(c for c in say(observe(facts))["conditions"] if c["type"] == "Ready")
    assert "exceeded quota: gpus" in ready["message"]
    assert "0 of 1 verifier pods" in ready["message"]


def test_a_message_without_end_is_cut_and_still_a_status() -> None:
    for observation in (
        observe(READY, refused=("x" * 100_000,)),
        observe(READY, {}, problem=Problem(Reason.INVALID_SPEC, "é" * 100_000)),
    ):
        messages = [condition["message"] for condition in say(observation)["conditions"]]
        assert max(len(message) for message in messages) <= 32768
        assert any(message.endswith("…") for message in messages)


def test_a_role_is_not_ready_before_its_deployment_has_as_many_pods_as_are_wanted() -> None:
    """All pods that its Deployment was asked for are Ready; the pass that asks for more has not been seen yet."""
    for wanted in (1, 3):
        status = say(observe(READY, {**WANTS, Role.VERIFIER: Want(VERIFIER, wanted)}))
        assert (conditions(status)["VerifierReady"] == ("True", "PodsReady")) is (wanted == 1)
        assert f"1 of {wanted} verifier pods" in next(
            c["message"] for c in status["conditions"] if c["type"] == "VerifierReady"
        )


def test_only_the_conditions_that_people_follow_are_told_as_events() -> None:
    first = say(observe(STARTING))
    assert [c["type"] for c in flipped({}, first)] == ["Ready"], "a new deployment is not available: no news"
    ready = say(observe(READY), first, LATER)
    assert [(c["type"], c["status"]) for c in flipped(first, ready)] == [("Available", "True"), ("Ready", "True")]
    stalled = say(observe(READY, {}, problem=PROBLEM), ready, LATER)
    told = [(c["type"], c["status"]) for c in flipped(ready, stalled)]
    assert told == [("Stalled", "True")], "Ready=False says the same"


def _scaling(**reasons: str) -> dict[str, Any]:
    kinds = ("ScalingActive", "ScalingLimited", "LatencyTargetMet")
    return {"conditions": [{"type": kind, "status": "True", "reason": reasons[kind]} for kind in kinds]}


@pytest.mark.parametrize(
    ("kind", "reason", "is_told"),
    [
        ("ScalingActive", "ScalingConflict", True),
        ("ScalingActive", "MetricsMissing", True),
        ("ScalingActive", "MetricsIncomplete", False),
        ("ScalingActive", "Paused", False),
        ("ScalingLimited", "AtMaximum", True),
        ("ScalingLimited", "AtMinimum", False),
        ("ScalingLimited", "LimitedByBehavior", False),
        ("LatencyTargetMet", "TargetMissed", True),
        ("LatencyTargetMet", "NoRequests", False),
    ],
)
def test_a_trouble_of_scaling_is_told_when_it_begins_and_when_it_is_over(
    kind: str, reason: str, *, is_told: bool
) -> None:
    well = {"ScalingActive": "Deciding", "ScalingLimited": "NotLimited", "LatencyTargetMet": "TargetMet"}
    before, meanwhile = _scaling(**well), _scaling(**{**well, kind: reason})
    expected = [kind] if is_told else []
    assert [c["type"] for c in flipped(before, meanwhile)] == expected
    assert [c["type"] for c in flipped(meanwhile, before)] == expected
    assert flipped(meanwhile, meanwhile) == ()
    assert [c["type"] for c in flipped({}, meanwhile)] == expected


def test_another_reason_is_news_and_another_message_is_not() -> None:
    first = say(observe(READY, refused=("one",)))
    assert flipped(first, say(observe(READY, refused=("two",)), first, LATER)) == ()
    rolling = say(observe(ROLLING, ROLLING_WANTS), first, LATER)
    assert [(c["type"], c["reason"]) for c in flipped(first, rolling)] == [("Ready", "RollingOut")]


def test_a_service_that_selects_nothing_known_is_not_available() -> None:
    lost = replace(READY, services=(replace(READY.services[0], selected_revision="zzz"), READY.services[1]))
    assert conditions(say(observe(lost)))["Available"] == ("False", "NoReadyVerifier")


START = ColdStart("pair-verifier-x", Role.VERIFIER, {StartPhase.SCHEDULE: 3.0, StartPhase.TOTAL: 108.0})
WRITTEN_START = {"pod": "pair-verifier-x", "schedule": "3.0s", "total": "108s"}


def test_the_last_start_is_shown_and_kept_until_a_newer_one_is_seen() -> None:
    first = status_of(observe(READY, cold_start=START), previous={}, now=NOW)
    assert first["coldStart"] == WRITTEN_START
    assert status_of(observe(READY), previous=first, now=NOW)["coldStart"] == WRITTEN_START
    newer = replace(START, pod="pair-verifier-y")
    assert status_of(observe(READY, cold_start=newer), previous=first, now=NOW)["coldStart"]["pod"] == newer.pod


@pytest.mark.parametrize("written", [None, {}, "fast", {"total": 3}, {"pod": 7}])
def test_a_start_that_somebody_else_wrote_is_dropped(written: object) -> None:
    assert "coldStart" not in status_of(observe(READY), previous={"coldStart": written}, now=NOW)
