"""Each step to zero and back: made from what is there, and never before the one before it is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator.api.rollout import Rollout
from tandem_operator.facts import Facts, GateFacts, Ref, ServiceFacts, WorkloadFacts
from tandem_operator.gate_plan import NO_GATE, Gatekeeping, Rest, rest_of
from tandem_operator.objects.gate import GateTerms
from tandem_operator.rollout import Clock

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OLD, NEW = "0badcafe", "deadbeef"
TERMS = GateTerms("image", "pair", 1000, hold_seconds=60)
THERE = {Ref("Deployment", "pair-gate"): "g"}
DRAIN_SECONDS = 600
SETTLED_SECONDS = NO_GATE.settled_seconds


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def workload(revision: str = OLD, *, wanted: int = 1, ready: int = 1, since: datetime | None = None) -> WorkloadFacts:
    return WorkloadFacts(
        ref=Ref("Deployment", f"pair-verifier-{revision}"),
        uid="u",
        resource_version="1",
        role=Role.VERIFIER,
        revision=revision,
        wanted=wanted,
        replicas=wanted,
        ready=ready,
        is_observed=True,
        is_going=False,
        draining_since=since,
    )


def step(
    *workloads: WorkloadFacts,
    wanted: int = 0,
    is_at_gate: bool = False,
    gate: GateFacts = GateFacts(THERE, is_ready=True),  # noqa: B008 -- frozen
    **others: Any,
) -> Rest:
    service = ServiceFacts(Ref("Service", "pair"), "1", Role.VERIFIER, OLD, is_at_gate=is_at_gate)
    keeping = Gatekeeping(
        others.get("terms", TERMS), is_idle=others.get("is_idle", False), reading_seconds=others.get("every", 5.0)
    )
    clock = Clock(NOW, Rollout(drain_timeout=f"{DRAIN_SECONDS}s"))
    idle = frozenset(others.get("idle", ()))
    facts = Facts(workloads=workloads, gate=gate)
    return rest_of(facts, service, wanted=wanted, keeping=keeping, idle=idle, clock=clock)


def test_the_service_moves_only_to_a_gate_that_is_ready() -> None:
    rest = step(workload(), gate=GateFacts(THERE))
    assert (rest.replicas, rest.is_at_gate, rest.has_gate, rest.draining_since) == (1, False, True, None)
    rest = step(workload())
    assert (rest.replicas, rest.is_at_gate, rest.draining_since) == (1, True, NOW)


def test_a_rollout_ends_before_anything_goes() -> None:
    rest = step(workload(), workload(NEW), idle=(OLD, NEW))
    assert (rest.replicas, rest.is_at_gate) == (1, False)


@pytest.mark.parametrize(
    ("seconds", "idle", "left"),
    [
        (SETTLED_SECONDS - 1, True, 1),
        (SETTLED_SECONDS, True, 0),
        (DRAIN_SECONDS - 1, False, 1),
        (DRAIN_SECONDS, False, 0),
    ],
)
def test_verifiers_stay_until_they_are_settled_without_a_request_or_the_drain_is_over(
    seconds: float, idle: bool, left: int
) -> None:
    since = ago(seconds)
    rest = step(workload(since=since), is_at_gate=True, idle=(OLD,) if idle else ())
    assert (rest.replicas, rest.is_at_gate) == (left, True)
    assert rest.draining_since == (since if left else None)


@pytest.mark.parametrize(("every", "seconds", "left"), [(5, 10, 0), (15, 29, 1), (15, 30, 0)])
def test_verifiers_stay_for_two_readings_of_whoever_reads_them(every: float, seconds: float, left: int) -> None:
    rest = step(workload(since=ago(seconds)), is_at_gate=True, idle=(OLD,), every=every)
    assert rest.replicas == left


def test_a_gate_that_breaks_while_verifiers_drain_gives_the_service_back() -> None:
    rest = step(workload(since=ago(5)), is_at_gate=True, gate=GateFacts(THERE))
    assert (rest.replicas, rest.is_at_gate) == (1, False)
    rest = step(workload(ready=0, since=ago(5)), is_at_gate=True, gate=GateFacts(THERE))
    assert rest.is_at_gate, "nobody else would take a request"


def test_at_zero_the_gate_keeps_the_service_whatever_becomes_of_it() -> None:
    for gate in (GateFacts(), GateFacts(THERE), GateFacts(THERE, is_ready=True)):
        rest = step(workload(wanted=0, ready=0), is_at_gate=True, gate=gate)
        assert (rest.replicas, rest.is_at_gate, rest.has_gate) == (0, True, True)


@pytest.mark.parametrize("is_ready", [True, False])
@pytest.mark.parametrize("workloads", [(), (workload(wanted=0, ready=0),)])
def test_at_zero_the_service_moves_to_the_gate_once_that_is_ready(
    workloads: tuple[WorkloadFacts, ...], is_ready: bool
) -> None:
    rest = step(*workloads, gate=GateFacts(THERE, is_ready=is_ready))
    assert (rest.replicas, rest.is_at_gate, rest.has_gate) == (0, is_ready, True)


@pytest.mark.parametrize(("ready", "left"), [(1, 1), (0, 0)])
def test_verifiers_that_answer_nothing_do_not_stay_for_the_drain(ready: int, left: int) -> None:
    rest = step(workload(ready=ready, since=ago(5)), is_at_gate=True)
    assert (rest.replicas, rest.is_at_gate) == (left, True)


def test_the_service_leaves_the_gate_with_the_first_ready_verifier() -> None:
    rest = step(workload(ready=0), wanted=2, is_at_gate=True)
    assert (rest.replicas, rest.is_at_gate, rest.left_since) == (2, True, None)
    rest = step(workload(ready=1), wanted=2, is_at_gate=True, is_idle=True)
    assert (rest.is_at_gate, rest.has_gate, rest.left_since) == (False, True, NOW), "the gate goes in a later step"


def test_the_service_stays_at_the_gate_where_the_only_ready_verifiers_are_being_deleted() -> None:
    assert step(replace(workload(), is_going=True), wanted=1, is_at_gate=True).is_at_gate
    assert not step(replace(workload(), is_going=True), workload(NEW), wanted=1, is_at_gate=True).is_at_gate


@pytest.mark.parametrize(
    ("left", "is_idle", "has_gate"),
    [(5, False, True), (5, True, False), (DRAIN_SECONDS - 1, False, True), (DRAIN_SECONDS, False, False)],
)
def test_a_gate_goes_once_it_has_answered_what_it_has(left: float, is_idle: bool, has_gate: bool) -> None:
    gate = GateFacts(THERE, is_ready=True, left_since=ago(left))
    rest = step(workload(), wanted=1, gate=gate, is_idle=is_idle)
    assert (rest.has_gate, rest.is_at_gate) == (has_gate, False)


def test_without_a_gate_there_is_nothing_to_do() -> None:
    rest = step(workload(), wanted=1, gate=GateFacts())
    assert (rest.replicas, rest.has_gate, rest.left_since, rest.due_seconds) == (1, False, None, 0.0)


def test_zero_without_idle_is_zero_at_once() -> None:
    rest = step(workload(), wanted=0, terms=None, gate=GateFacts())
    assert (rest.replicas, rest.is_at_gate, rest.has_gate) == (0, False, False)
