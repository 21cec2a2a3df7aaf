"""I15: to zero only with proof, whatever engines say, or do not say; and back for whatever waits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_operator.gate_readings import gate_in
from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.flow import Flow
from tandem_operator.scaling.learning import Cell, Learned
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Gate, Observed, Pod
from tandem_operator.scaling.policy import Behavior, Bounds, Direction, Select, StepModel
from tandem_operator.scaling.reading import Distribution, Reading
from tandem_operator.scaling.traffic import Traffic
from tests.unit.operator.scaling_world import BEGIN, make_policy

STEP, IDLE = 5.0, 30.0
POLICY = make_policy(bounds=Bounds(1, 4), idle_seconds=IDLE)
KNOWN = Traffic(started=100, prompt_tokens=1000, answered=100, answered_tokens=20000, output_tokens=20000, steps=20000)
POD = Pod("a", "x", BEGIN - 600, ready_at=BEGIN - 500)


def reading(at: float, **counts: Any) -> Reading:
    return Reading(at=at, **{"running": 0.0, "waiting": 0.0, "finished": 0.0, **counts})


def having_served(at: float, count: float) -> Reading:
    """Of an engine with one request in work, after so many of 10 tokens and answers of 200."""
    return reading(
        at,
        running=1.0,
        finished=count,
        prompt_tokens=10 * count,
        answered=count,
        answered_tokens=200 * count,
        output_tokens=201 * count,
        steps=Distribution((math.inf,), (200 * count,), 4 * count),
        first_token=Distribution((2.0, math.inf), (count, count), count),
    )


def seen(at: float, *, wanted: int = 1, **others: Any) -> Observed:
    return Observed(at, wanted, **{"pods": (POD,), "readings": {"a": reading(at)}, **others})


SAYINGS = st.sampled_from(["idle", "idle", "idle", "busy", "waiting", "arrived", "silent", "warming", "gone"])


@settings(max_examples=300, deadline=None)
@given(st.lists(SAYINGS, min_size=1, max_size=40))
def test_i15_to_zero_only_once_every_engine_has_said_all_the_time_that_nobody_asks(sayings: list[str]) -> None:
    memory, finished, now, last, quiet = Memory(), 0.0, BEGIN, BEGIN, 0
    for saying in sayings:
        now += 4 * STEP if saying == "silent" else STEP  # for longer than a reading says anything
        finished += saying == "arrived"
        last = last if saying == "silent" else now
        counts = {"running": float(saying == "busy"), "waiting": float(saying == "waiting"), "finished": finished}
        pods = () if saying == "gone" else (POD,)
        pods += (Pod("b", "x", now),) if saying == "warming" else ()
        observed = Observed(now, 1, pods, {"a": reading(last, **counts)})
        decision, memory = decide(POLICY, observed, memory)
        quiet = quiet + 1 if saying == "idle" else 0
        if decision.replicas == 0:
            assert (quiet - 1) * STEP >= IDLE
            return


def at_zero() -> tuple[Decision, Memory]:
    """After a load that has grown, and requests that missed their target, and then nobody asked any more."""
    flow = Flow(since=BEGIN - 900, history=tuple((BEGIN - 600 + 10 * i, 0.1 * i) for i in range(60)))
    slow = Distribution((2.0, math.inf), (0.0, 50.0), 200.0)
    memory = Memory(flow=flow, traffic=Traffic(first_token=slow), cold_starts={"x": (34.0,)})
    for at in range(0, int(IDLE) + 120, 5):
        decision, memory = decide(POLICY, seen(BEGIN + at), memory)
        if decision.replicas == 0:
            return decision, memory
        assert memory.traffic.attainments(POLICY.target) == (0.0, None, 0.0)
        assert memory.flow.history
    raise AssertionError("it never went")


def test_at_zero_nothing_is_told_of_those_who_asked_before() -> None:
    decision, _ = at_zero()
    figures = decision.figures
    assert (figures.requests_rate, figures.surge_rate, figures.first_token_attainment) == (0.0, 0.0, None)


def test_paused_at_zero_nothing_is_told_of_them_either() -> None:
    _, memory = at_zero()
    missed = replace(memory, traffic=Traffic(first_token=Distribution((2.0, math.inf), (0.0, 50.0), 200.0)))
    observed = seen(BEGIN + 1000, wanted=0, pods=(), readings={})
    decision, memory = decide(replace(POLICY, is_paused=True), observed, missed)
    assert decision.figures.first_token_attainment is None
    assert memory.traffic.attainments(POLICY.target)[0] is None


def test_who_asks_after_a_rest_is_not_judged_by_those_who_asked_before() -> None:
    _, memory = at_zero()
    assert memory.traffic.first_token.count == 0
    now, served, derates = BEGIN + 1000, 0.0, set()
    for at in range(0, 300, 5):
        served += 2.0
        quick = Distribution((2.0, math.inf), (served, served), served)
        one = {"b": reading(now + at, finished=served, first_token=quick)}
        decision, memory = decide(POLICY, Observed(now + at, 1, (replace(POD, name="b"),), one), memory)
        assert decision.figures.first_token_attainment in {None, 1.0}
        derates.add(memory.derate)
    assert derates == {1.0}


def test_those_that_a_crowd_woke_are_not_taken_away_before_the_hold_is_over() -> None:
    _, memory = at_zero()
    now, wanted = BEGIN + 1000, 0
    decision, memory = decide(POLICY, seen(now, wanted=0, pods=(), readings={}, gate=Gate(now, held=100)), memory)
    assert decision.replicas == 4
    wanted = decision.replicas
    for at in range(40, 290, 5):
        pods = tuple(Pod(name, "x", now, ready_at=now + 35) for name in "bcde")
        observed = Observed(now + at, wanted, pods, {pod.name: reading(now + at, running=0.2) for pod in pods})
        decision, memory = decide(POLICY, observed, memory)
        assert decision.replicas == 4, (at, decision.reason)


def test_after_a_rest_one_request_brings_one_verifier_whatever_the_load_had_grown_by_before() -> None:
    _, memory = at_zero()
    now = BEGIN + 1000
    cells = {(0, n, n): Cell(0.02 + 0.001 * n, 0.0, 100.0 * n, float(n), 20.0, now) for n in (1, 2, 4)}
    learned = Learned(cells, samples=60, model=StepModel(0.02, 0.0, 0.0, 0.001))
    memory = replace(memory, traffic=KNOWN, learned={"x": learned})
    policy, waking = replace(POLICY, most_requests=3), Gate(now, held=1)
    decision, memory = decide(policy, seen(now, wanted=0, pods=(), readings={}, gate=waking), memory)
    assert (decision.replicas, decision.figures.cold_start_seconds) == (1, 34.0), "that of the pods that went"
    for passed in range(5, 600, 5):  # one client, a request of six seconds after the other
        pods = (Pod("b", "x", now, ready_at=now + 34 if passed >= 34 else None),)
        readings = {"b": having_served(now + passed, (passed - 34) // 6)} if passed > 34 else {}
        observed = Observed(now + passed, 1, pods, readings, gate=Gate(now + passed, held=int(passed < 40)))
        decision, memory = decide(policy, observed, memory)
        assert decision.replicas == 1, (passed, decision.reason)
    assert decision.is_learned
    assert decision.figures.requests_rate > 0.15


def test_i15_with_proof_it_does_go() -> None:
    memory, at = Memory(), BEGIN
    while at < BEGIN + IDLE:
        decision, memory = decide(POLICY, seen(at), memory)
        assert decision.replicas == 1
        at += STEP
    decision, memory = decide(POLICY, seen(at), memory)
    assert (decision.replicas, decision.reason) == (0, "to zero: no request for 30 s")


@pytest.mark.parametrize("change", ["none", "disabled", "paused"])
def test_without_idle_or_with_scale_down_disabled_or_paused_it_stays(change: str) -> None:
    policy = replace(POLICY, idle_seconds=None if change == "none" else IDLE, is_paused=change == "paused")
    if change == "disabled":
        policy = replace(policy, behavior=Behavior(down=Direction((), select=Select.DISABLED)))
    memory = Memory()
    for i in range(200):
        decision, memory = decide(policy, seen(BEGIN + STEP * i), memory)
        assert decision.replicas == 1


@pytest.mark.parametrize(
    ("held", "wanted", "expected"), [(1, 0, 1), (32, 0, 1), (33, 0, 2), (1000, 0, 4), (1, 3, 3), (0, 0, 0)]
)
def test_as_many_wake_as_hold_what_waits_and_none_is_taken_back(held: int, wanted: int, expected: int) -> None:
    observed = seen(BEGIN, wanted=wanted, pods=(), readings={}, gate=Gate(BEGIN, held=held))
    decision, memory = decide(POLICY, observed, Memory(changed_at=BEGIN))
    assert decision.replicas == expected
    assert memory.patience == 1, "a wake says nothing of steps that were taken back"
    assert memory.changes == (), "nor does `behavior` limit what comes after it"


@pytest.mark.parametrize("where", ["engine", "gate"])
def test_a_request_that_came_before_the_last_pod_went_brings_it_back(where: str) -> None:
    gate = Gate(BEGIN, answering=int(where == "gate"))
    readings = {"a": reading(BEGIN, running=float(where == "engine"))}
    decision, _ = decide(POLICY, seen(BEGIN, wanted=0, readings=readings, gate=gate), Memory(changed_at=BEGIN))
    assert decision.replicas == 1
    assert "1 request came" in decision.reason


def test_requests_too_short_to_be_seen_in_work_bring_the_last_pod_back_by_what_has_ended() -> None:
    memory = Memory()
    for i in range(10):
        decision, memory = decide(POLICY, seen(BEGIN + STEP * i, wanted=min(i, 1) if i < 8 else 0), memory)
    at = BEGIN + STEP * 10
    decision, _ = decide(POLICY, seen(at, wanted=0, readings={"a": reading(at, finished=2.0)}), memory)
    assert decision.replicas == 1
    assert "2 requests came before the last pod went" in decision.reason


@pytest.mark.parametrize(("silent", "expected"), [(59.0, 0), (61.0, 1)])
def test_a_silent_gate_is_not_believed_for_long(silent: float, expected: int) -> None:
    observed = seen(BEGIN, wanted=0, pods=(), readings={}, gate=Gate(BEGIN - silent))
    decision, _ = decide(POLICY, observed, Memory(since=BEGIN - 1000))
    assert decision.replicas == expected


@pytest.mark.parametrize("gate", [None, Gate(BEGIN - 86400)])
def test_an_operator_that_has_just_started_has_not_listened_to_the_gate_yet(gate: Gate | None) -> None:
    memory = Memory(changed_at=BEGIN - 86400)
    for i in range(12):
        observed = seen(BEGIN + STEP * i, wanted=0, pods=(), readings={}, gate=gate)
        decision, memory = decide(POLICY, observed, memory)
        assert decision.replicas == 0
    decision, _ = decide(POLICY, replace(observed, now=BEGIN + 65), memory)
    assert decision.replicas == 1


def test_requests_that_return_before_the_last_pods_have_gone_keep_all_of_them() -> None:
    pods = tuple(Pod(name, "x", BEGIN - 600, ready_at=BEGIN - 500, is_going=True) for name in "abcdef")
    readings = {pod.name: reading(BEGIN, running=20.0) for pod in pods}
    policy = replace(POLICY, bounds=Bounds(1, 8))
    decision, _ = decide(policy, seen(BEGIN, wanted=0, pods=pods, readings=readings), Memory(changed_at=BEGIN))
    assert decision.replicas == 6


def test_all_engines_have_to_say_that_nobody_asks() -> None:
    memory, pods = Memory(), (POD, replace(POD, name="b"))
    for i in range(20):
        at = BEGIN + STEP * i
        observed = seen(at, wanted=2, pods=pods, readings={"a": reading(at), "b": reading(BEGIN - 100)})
        decision, memory = decide(POLICY, observed, memory)
        assert decision.replicas == 2, "one of them is silent"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("tandem_gate_held 3\ntandem_gate_answering 1\n", Gate(1.0, held=3, answering=1)),
        ('tandem_gate_held 3.0\ntandem_gate_answering 0.0\nother{a="b"} 1\n', Gate(1.0, held=3)),
        ("tandem_gate_held 3\n", None),
        ("tandem_gate_held NaN\ntandem_gate_answering 0\n", None),
        ("tandem_gate_held +Inf\ntandem_gate_answering 0\n", None),
        ("tandem_gate_held three\n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_a_gate_is_believed_only_if_it_tells_both_numbers(page: str, expected: Gate | None) -> None:
    assert gate_in(page, at=1.0) == expected
