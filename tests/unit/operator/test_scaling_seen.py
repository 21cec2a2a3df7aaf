"""What a decision takes from pods and pages: who is silent, new, stuck or starting, and what requests have missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem_operator.scaling.decide import decide, health_of
from tandem_operator.scaling.decision import Health
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.policy import Target
from tandem_operator.scaling.reading import Reading
from tests.unit.operator.scaling_world import BEGIN, World, make_policy
from tests.unit.operator.test_scaling_decide import learned_world


@pytest.mark.parametrize("silent", [1, 2, 3, 6])
def test_i2_engines_that_say_nothing_take_no_pod_away(silent: int) -> None:
    world = learned_world(wanted=6)
    world.rate = 0.2
    world.silent = {engine.name for engine in world.engines[:silent]}
    before = world.wanted
    world.run(1800)
    assert world.wanted >= before
    assert world.decisions[-1].health is (Health.PARTIAL if silent == 1 else Health.BLIND)


def test_i2_when_they_speak_again_the_pods_go_after_the_hold() -> None:
    world = learned_world(wanted=6)
    world.rate, world.silent = 0.2, {engine.name for engine in world.engines}
    world.run(600)
    world.silent = set()
    world.run(60)
    assert world.wanted == 6
    world.run(1200)
    assert world.wanted < 6


def test_misses_of_requests_that_are_long_over_keep_no_pod() -> None:
    world = learned_world(wanted=6)
    world.rate = 6.0
    for engine in world.engines:
        engine.first = 5.0
    world.run(300)
    assert world.wanted >= 6
    world.rate = 0.0
    world.run(600)
    assert world.wanted < 6


@pytest.mark.parametrize("stuck", [1, 6], ids=["one", "all"])
def test_pages_that_stand_still_while_requests_run_say_nothing_and_take_no_pod_away(stuck: int) -> None:
    world = learned_world(wanted=6)
    world.rate = 20.0
    world.run(1200)
    before, wanted = len(world.decisions), world.wanted
    world.stuck = {engine.name for engine in world.engines[:stuck]}
    world.run(900)
    found = world.decisions[before + 3 :]
    assert {decision.health for decision in found} == {Health.PARTIAL if stuck == 1 else Health.BLIND}
    assert min(decision.replicas for decision in found) >= wanted
    world.stuck = set()
    assert world.run(600).health is Health.GOOD


@pytest.mark.parametrize(("age", "health"), [(5.0, Health.NEW), (9.0, Health.NEW), (11.0, Health.BLIND)])
def test_a_first_pod_that_nobody_has_read_yet_is_new_and_makes_nobody_blind(age: float, health: Health) -> None:
    pod = Pod("a", "kind", BEGIN, ready_at=BEGIN + 60)
    assert health_of(Observed(BEGIN + 60 + age, 1, (pod,), interval_seconds=5.0))[0] is health


def test_pages_that_stand_still_while_no_request_runs_are_those_of_an_idle_engine() -> None:
    world = learned_world(wanted=3)
    world.rate = 0.0
    world.run(1200)
    assert {decision.health for decision in world.decisions[-100:]} == {Health.GOOD}
    assert world.wanted == 1


@pytest.mark.parametrize(
    "target", [Target(95.0, 2.0), Target(95.0, None, 0.08), Target(95.0, 2.0, 0.08)], ids=["first", "output", "both"]
)
def test_requests_that_are_refused_have_missed_each_target(target: Target) -> None:
    world = World(policy=make_policy(target=target), wanted=3)
    world.run(120)
    engine = world.engines[0]
    for _ in range(24):
        engine.rejected += 20
        decision = world.tick()
    told = decision.figures.first_token_attainment, decision.figures.output_token_attainment
    asked = target.first_token_seconds, target.output_token_seconds
    assert [share is not None for share in told] == [seconds is not None for seconds in asked]
    assert all(share < 0.5 for share in told if share is not None)
    assert decision.replicas >= 3


def test_cold_starts_are_learned_from_pods_that_were_seen_starting() -> None:
    world = learned_world(cold_start=90.0)
    assert world.decisions[-1].figures.cold_start_seconds == 60.0, "until one was seen"
    world.rate = 25.0
    world.run(300)
    assert world.decisions[-1].figures.cold_start_seconds == pytest.approx(90.0, abs=5.0)


def test_no_ready_pod_is_not_no_load() -> None:
    policy = make_policy()
    decision, _ = decide(policy, Observed(BEGIN, 5, (), {}), Memory())
    assert (decision.replicas, decision.health) == (5, Health.NO_PODS)


def test_a_pod_that_has_just_become_ready_is_not_called_silent() -> None:
    pods = (*(Pod(f"p{i}", "a", 0.0, 1.0) for i in range(3)), Pod("new", "a", 0.0, BEGIN - 3))
    readings = {f"p{i}": Reading(at=BEGIN, running=1, waiting=0) for i in range(3)}
    assert health_of(Observed(BEGIN, 4, pods, readings))[0] is Health.PARTIAL


def test_a_pod_that_was_not_ready_for_a_while_has_not_started_anew() -> None:
    world = learned_world(wanted=2)
    before = world.memory.cold_starts
    engine = world.engines[0]
    since, engine.ready_at = engine.ready_at, None
    world.run(10)
    engine.ready_at = world.now
    world.run(30)
    assert world.memory.cold_starts == before
    assert since is not None


def test_an_old_pod_that_is_not_ready_when_the_operator_starts_has_not_started_anew() -> None:
    policy, memory = make_policy(), Memory()
    old = Pod("a", "x", BEGIN - 259_200)
    _, memory = decide(policy, Observed(BEGIN, 1, (old,), {}), memory)
    _, memory = decide(policy, Observed(BEGIN + 60, 1, (replace(old, ready_at=BEGIN + 55),), {}), memory)
    assert memory.cold_starts == {}
    new = Pod("b", "x", BEGIN + 60)
    _, memory = decide(policy, Observed(BEGIN + 65, 1, (new,), {}), memory)
    _, memory = decide(policy, Observed(BEGIN + 125, 1, (replace(new, ready_at=BEGIN + 120),), {}), memory)
    assert memory.cold_starts == {"x": (60.0,)}
