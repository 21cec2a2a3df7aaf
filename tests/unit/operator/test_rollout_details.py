"""Single steps of a rollout: which pods may be there now, given what is seen of each revision."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator.api.rollout import Rollout
from tandem_operator.facts import Facts, PodFacts, RevisionFacts, WorkloadFacts
from tandem_operator.names import Reason
from tandem_operator.rollout import Clock, Step, Want, draft_step, drained_pods_of, verifier_step
from tests.builders import CLOCK, make_pod, make_service, make_workload

OLDER, OLD, NEW = "aaa", "bbb", "ccc"
"""In the order of their names, which are digests and say nothing of age."""
FAILED = "pod x: out of memory"


def ago(seconds: float) -> datetime:
    return CLOCK.now - timedelta(seconds=seconds)


def revision(name: str, role: Role = Role.VERIFIER, *, failed: str = "") -> RevisionFacts:
    return RevisionFacts(role, name, 1, {}, {}, {}, failed=failed)


def workload(name: str, *, wanted: int = 3, ready: int = 0, role: Role = Role.VERIFIER, **parts: Any) -> WorkloadFacts:
    return replace(make_workload(role, name, wanted=wanted, ready=ready), **parts)


def pod(name: str = NEW, *, number: int = 0, **parts: Any) -> PodFacts:
    return make_pod(Role.VERIFIER, name, name=f"{name}-{number}", **{"is_ready": False, **parts})


def without_room(seconds: float, *, number: int = 0) -> PodFacts:
    """A pod of the new revision that the scheduler has had no node for since so many seconds ago."""
    return pod(number=number, unschedulable="0/3 nodes", unschedulable_since=ago(seconds))


def seen(*workloads: WorkloadFacts, pods: tuple[PodFacts, ...] = (), failed: str = "") -> Facts:
    """Deployments with their ControllerRevisions, and pods; `failed`: why the new revision has failed."""
    revisions = tuple(revision(w.revision, w.role, failed=failed if w.revision == NEW else "") for w in workloads)
    return Facts(revisions=revisions, workloads=workloads, pods=pods)


def step(
    facts: Facts,
    *,
    serving: str = OLD,
    target: str = NEW,
    replicas: int = 3,
    is_rolling: bool = False,
    idle: frozenset[str] = frozenset(),
    **limits: str,
) -> Step:
    """The next step of the verifiers, towards so many pods of the target."""
    service = replace(make_service(Role.VERIFIER, serving), is_rolling=is_rolling)
    want = Want(facts.revision(Role.VERIFIER, target) or revision(target), replicas)
    clock = Clock(CLOCK.now, Rollout.model_validate(limits))
    made = verifier_step(facts, service, want, asked_replicas=None, idle=idle, clock=clock)
    assert made is not None
    return made


def reasons(made: Step) -> list[Reason]:
    return [wait.reason for wait in made.waits]


# -- one way or the other ----------------------------------------------------------------------------------------------


def test_recreate_makes_no_new_pod_before_the_last_old_one_has_ended() -> None:
    ending = workload(OLD, wanted=0, replicas=1)
    assert step(seen(ending), strategy="Recreate").replicas == {OLD: 0, NEW: 0}
    assert step(seen(replace(ending, replicas=0)), strategy="Recreate").replicas == {NEW: 3}


def test_pods_of_a_still_older_revision_that_drain_are_waited_for_before_any_that_serves_goes() -> None:
    both = workload(OLD, ready=3), workload(NEW)
    draining = workload(OLDER, ready=3, draining_since=ago(200))
    made = step(seen(*both, draining, pods=(without_room(200),)))
    assert (made.is_rolling, made.replicas) == (False, {OLD: 3, NEW: 3, OLDER: 3})
    assert step(seen(*both, pods=(without_room(200),))).is_rolling, "the room that they held was not enough"


def test_what_serves_is_scaled_while_there_is_no_room_for_the_new_pods() -> None:
    made = step(seen(workload(OLD, wanted=1, ready=1), workload(NEW), pods=(without_room(200),)), strategy="BlueGreen")
    assert (reasons(made), made.replicas) == ([Reason.NO_ROOM_FOR_SURGE], {OLD: 3, NEW: 3})


def test_the_wait_for_room_is_counted_from_the_pod_that_has_waited_longest() -> None:
    waiting = without_room(100), without_room(10, number=1)
    for pods in (waiting, waiting[::-1]):
        assert step(seen(workload(OLD, ready=3), workload(NEW), pods=pods)).due_seconds == 20


# -- one for one -------------------------------------------------------------------------------------------------------


def test_the_service_does_not_leave_the_old_pods_for_a_revision_that_is_being_deleted() -> None:
    going = workload(NEW, ready=3, is_going=True)
    assert step(seen(workload(OLD, wanted=1, ready=1), going), is_rolling=True).is_rolling
    whole = step(seen(workload(OLD, wanted=1, ready=1), replace(going, is_going=False)), is_rolling=True)
    assert (whole.is_rolling, whole.serving) == (False, NEW)


def test_pods_of_a_deployment_that_is_being_deleted_are_replaced_at_once() -> None:
    going = workload(OLD, wanted=2, ready=2, is_going=True)
    assert step(seen(going, workload(NEW, wanted=1, ready=1)), is_rolling=True).replicas == {NEW: 3}


def test_of_several_old_revisions_the_one_that_the_service_leaves_goes_last() -> None:
    there = workload(OLDER, wanted=1, ready=1), workload(OLD, wanted=2, ready=2), workload(NEW, wanted=0)
    assert step(seen(*there), is_rolling=True).replicas == {NEW: 1, OLD: 2, OLDER: 0}
    assert step(seen(*there), serving=OLDER, is_rolling=True).replicas == {NEW: 1, OLDER: 1, OLD: 1}


def test_a_rollout_that_is_taken_back_is_no_failure_of_what_served_before() -> None:
    old, new = workload(OLD, ready=2, is_past_deadline=True), workload(NEW, wanted=1)
    taken_back = step(seen(old, new, pods=(pod(OLD),)), target=OLD, is_rolling=True)
    assert (taken_back.failed, taken_back.replicas) == ("", {OLD: 3, NEW: 0})
    assert step(seen(old, new, pods=(pod(OLD),)), serving=NEW, target=OLD, is_rolling=True).failed


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts", [{"is_over": True}, {"is_going": True}, {"is_ready": True}, {"unschedulable": "0/3 nodes"}], ids=str
)
def test_a_pod_that_has_ended_or_goes_or_is_ready_or_has_no_room_is_no_failure_of_its_revision(
    parts: dict[str, Any],
) -> None:
    late = workload(OLD, ready=3), workload(NEW, is_past_deadline=True)
    assert step(seen(*late, pods=(pod(**parts),))).failed == ""
    assert step(seen(*late, pods=(pod(**parts), pod(number=1, trouble=FAILED)))).failed == FAILED


def test_a_failed_revision_goes_without_a_drain_although_some_of_its_pods_are_ready() -> None:
    there = workload(OLD, ready=3), workload(NEW, ready=1)
    failed = step(seen(*there, failed=FAILED))
    assert (failed.replicas, failed.draining) == ({OLD: 3}, {})
    assert NEW in step(seen(*there), target=OLD).draining, "one that has not failed drains"


@pytest.mark.parametrize(("on_failure", "replicas"), [("Hold", {OLD: 2, NEW: 1}), ("Rollback", {OLD: 3, NEW: 0})])
def test_a_rolling_rollout_that_failed_is_held_with_the_pods_of_both_revisions_as_they_are(
    on_failure: str, replicas: dict[str, int]
) -> None:
    there = seen(workload(OLD, wanted=2, ready=2), workload(NEW, wanted=1), failed=FAILED)
    made = step(there, is_rolling=True, onFailure=on_failure)
    assert (made.replicas, made.is_rolling, reasons(made)) == (replicas, True, [Reason.ROLLOUT_FAILED])


@pytest.mark.parametrize(
    ("wanted", "replicas"),
    [(0, {OLD: 0, NEW: 0}), (2, {OLD: 2, NEW: 1}), (3, {OLD: 2, NEW: 1}), (6, {OLD: 5, NEW: 1})],
)
def test_while_a_failed_rolling_rollout_is_held_scaling_goes_to_what_serves(
    wanted: int, replicas: dict[str, int]
) -> None:
    there = seen(workload(OLD, wanted=2, ready=2), workload(NEW, wanted=1), failed=FAILED)
    made = step(there, is_rolling=True, onFailure="Hold", replicas=wanted)
    assert made.replicas == replicas
    assert made.is_rolling
    assert made.details == []


# -- drain -------------------------------------------------------------------------------------------------------------


def test_only_the_ready_pods_of_a_revision_that_drains_are_asked_for_their_requests() -> None:
    pods = tuple(
        pod(OLD, number=number, address=address, is_ready=is_ready)
        for number, (address, is_ready) in enumerate([("10.0.0.1", True), ("10.0.0.2", False), ("", True)])
    )
    draining = workload(OLD, ready=2, draining_since=ago(1))
    assert drained_pods_of(seen(draining, workload(NEW, ready=3), pods=pods)) == {OLD: ("10.0.0.1",)}


# -- drafts ------------------------------------------------------------------------------------------------------------


def draft(name: str, **parts: Any) -> WorkloadFacts:
    return workload(name, role=Role.DRAFT, **parts)


def drafts(facts: Facts, *selected: str) -> Step:
    """The next step of the drafts towards three of the new revision."""
    want = Want(facts.revision(Role.DRAFT, NEW) or revision(NEW, Role.DRAFT), 3)
    return draft_step(facts, frozenset(selected), want, asked_replicas=None, clock=CLOCK)


def test_verifiers_move_to_new_drafts_once_those_are_as_many_as_the_old_ones() -> None:
    assert drafts(seen(draft(OLD, ready=2), draft(NEW, ready=1)), OLD).serving == OLD
    assert drafts(seen(draft(OLD, ready=1), draft(NEW, ready=1)), OLD).serving == NEW


def test_a_failed_draft_gives_the_old_ones_their_room_back() -> None:
    made = drafts(seen(draft(OLD, wanted=1, ready=1), draft(NEW), failed=FAILED), OLD)
    assert (made.replicas, made.serving) == ({OLD: 3}, OLD)


@pytest.mark.parametrize(("wanted", "left"), [(1, 1), (2, 2), (5, 3)])
def test_old_drafts_on_their_way_out_are_never_scaled_up(wanted: int, left: int) -> None:
    there = draft(OLD, wanted=wanted, ready=wanted), draft(NEW)
    assert drafts(seen(*there), OLD).replicas == {OLD: left, NEW: 3}
    waiting = replace(without_room(200), role=Role.DRAFT)
    assert drafts(seen(*there, pods=(waiting,)), OLD).replicas == {OLD: min(left, 2), NEW: 3}, "one goes for one"
