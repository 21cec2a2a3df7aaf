"""What a decision says of itself: demand, what a pod does, and why fewer pods would be too few."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tandem_operator.scaling.capacity import UP_SIGMAS, Engine, Load, Sizing
from tandem_operator.scaling.decision import Figures, Limited
from tandem_operator.scaling.learning import Learned
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.need import Need, need_of
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.policy import Behavior, Bounds, Direction, Limit, Policy, StepModel, Strategy, Target, Unit
from tandem_operator.scaling.reading import Reading
from tandem_operator.scaling.traffic import Traffic
from tests.unit.operator.scaling_world import BEGIN, World, make_policy

MODEL = StepModel(base=0.02, prompt=0.0, context=0.0, request=0.001)
TRAFFIC = Traffic(
    started=100, prompt_tokens=1000, answered=100, answered_tokens=20000, output_tokens=20000, steps=20000
)
LOAD = Load(prompt_tokens=10, computed_tokens=10, output_tokens=200)


def need(rate: float, *, surge: float = 0.0, waiting: float = 0.0, derate: float = 1.0, **others: object) -> Need:
    """Of pods whose batch takes four requests, with answers of 200 tokens in steps of 24 ms at most."""
    policy: Policy = replace(make_policy(target=Target(95, 2.0, None), bounds=Bounds(1, 4), most_requests=4), **others)
    pod = Pod("a", "x", BEGIN - 600, ready_at=BEGIN - 500)
    reading = Reading(at=BEGIN, running=1.0, waiting=waiting, finished=100.0)
    seen = Observed(BEGIN, 1, (pod,), {"a": reading})
    memory = Memory(learned={"x": Learned(model=MODEL)}, traffic=TRAFFIC, derate=derate)
    return need_of(policy, seen, memory, Figures(requests_rate=rate, surge_rate=surge, cold_start_seconds=34.0))[0]


def test_few_requests_that_are_more_than_one_pod_takes_at_once_by_chance_say_so() -> None:
    found = need(0.4)
    assert found.up == 2
    assert found.reason == (
        "needs 2: 0.40 requests/s, 4.8 s each at most; a pod does 0.83 requests/s, 4.0 at once; "
        "with 1: 1.7 requests at once, and by chance up to 4.8, where 4.0 have room"
    )


def test_what_one_pod_does_is_told_without_a_word_of_fewer() -> None:
    assert need(0.2).reason == "needs 1: 0.20 requests/s, 4.8 s each at most; a pod does 0.83 requests/s, 4.0 at once"


@pytest.mark.parametrize(
    ("surge", "told"),
    [(0.04, "0.20 requests/s and 0.04 for what a cold start of 34 s may bring,"), (0.004, "0.20 requests/s, 4.8 s")],
)
def test_a_small_surge_is_told_as_what_it_is_and_none_where_it_is_nothing(surge: float, told: str) -> None:
    assert told in need(0.2, surge=surge).reason


def test_less_than_what_was_learned_is_told_with_the_reason() -> None:
    assert need(0.2, derate=0.75).reason.endswith(
        "a pod does 0.65 requests/s, 3.0 at once, counted as 75% of what was learned since requests missed the target"
    )


def test_more_than_the_most_pods_do_says_what_they_cannot_hold() -> None:
    found = need(40.0)
    assert (found.up, found.is_met) == (4, False)
    assert found.reason.startswith("needs more than 4: 40.0 requests/s")
    assert found.reason.endswith("; with 4: requests come faster than they are answered")


def test_what_waits_is_told() -> None:
    assert "0.20 requests/s and 3 that wait, " in need(0.2, waiting=3.0).reason


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (Strategy.CONCURRENCY, "needs 1: 1 request in work, 32 a pod"),
        (
            Strategy.HEADROOM,
            "needs 1: 1 request in work, 32 a pod as a rule of thumb while its pace is still to be learned",
        ),
    ],
)
def test_a_count_of_requests_is_called_a_rule_of_thumb_where_it_is_one(strategy: Strategy, told: str) -> None:
    pod = Pod("a", "x", BEGIN - 600, ready_at=BEGIN - 500)
    seen = Observed(BEGIN, 1, (pod,), {"a": Reading(at=BEGIN, running=1.0, waiting=0.0, finished=1.0)})
    assert need_of(make_policy(strategy=strategy), seen, Memory(), Figures())[0].reason == told


def test_prompts_and_first_tokens_have_words_of_their_own() -> None:
    engine = Engine(replace(MODEL, prompt=1e-4), kv_tokens=0, most_requests=256)
    long = replace(LOAD, prompt_tokens=8000, computed_tokens=8000, output_tokens=2)
    sizing = Sizing(engine, long, Target(95, 1.5, None))
    assert str(sizing.shortage(1.3, 1, UP_SIGMAS)) == "requests come faster than they are answered"
    assert str(sizing.shortage(1.0, 1, UP_SIGMAS)).startswith("a first token takes up to ")
    assert sizing.shortage(1.0, 50, UP_SIGMAS) is None
    patient = Sizing(engine, long, Target(95, 1e6, None))
    assert str(patient.shortage(1.2, 1, UP_SIGMAS)) == "prompts come faster than they are computed"


def test_a_number_that_is_not_what_the_load_needs_is_told_with_its_cause() -> None:
    world = World(wanted=2)
    world.vary(240, low=1.0, high=8.0)
    for rate in (9.0, 1.0, 6.0, 0.1):
        world.rate = rate
        world.run(1500)
    before, causes = 2, set()
    for decision in world.decisions:
        needed = decision.reason.partition("needs ")[2].partition(":")[0]
        if needed.isdigit() and int(needed) != decision.replicas:
            how = "stays at" if decision.replicas == before else "to"
            assert decision.reason.startswith(f"{how} {decision.replicas} ("), decision.reason
            causes.add(re.sub(r"\d+", "N", decision.reason.partition("(")[2].partition(")")[0]))
        before = decision.replicas
    assert causes >= {"a little more load would need N", "N were needed within N s"}


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (Bounds(5, 9), "to 5, which is minReplicas now; needs 1: "),
        (Bounds(1, 2), "to 2, which is maxReplicas now; needs 1: "),
    ],
)
def test_replicas_beyond_changed_bounds_go_to_them_and_say_so(bounds: Bounds, told: str) -> None:
    world = World(wanted=3)
    world.run(60)
    world.policy = replace(world.policy, bounds=bounds)
    assert world.tick().reason.startswith(told)
    assert "which is" not in world.tick().reason


def test_what_goes_beyond_a_changed_bound_at_once_is_not_told_as_going_to_it() -> None:
    at_once = Behavior(down=Direction((Limit(Unit.PERCENT, 100, 15.0),), stabilization_seconds=60.0))
    world = World(wanted=6, rate=0.0, policy=make_policy(bounds=Bounds(6, 9), behavior=at_once))
    world.run(1500)
    world.policy = replace(world.policy, bounds=Bounds(1, 4))
    decision = world.tick()
    assert decision.replicas == 1
    assert decision.reason.startswith("needs 1: ")


def test_bounds_hold_and_are_told_where_nothing_is_seen() -> None:
    world = World(wanted=3)
    world.run(60)
    world.silent = {each.name for each in world.engines}
    world.run(60)
    world.policy = replace(world.policy, bounds=Bounds(7, 9))
    decision = world.tick()
    assert decision.replicas == 7
    assert decision.reason.startswith("to 7, which is minReplicas now: 3 of 3 Ready pods say nothing new")


def test_what_is_taken_away_step_by_step_is_limited_by_behavior_until_the_least_is_there() -> None:
    world = World(wanted=10, policy=make_policy(bounds=Bounds(3, 20)), rate=0.0)
    world.run(1500)
    limits = [(decision.replicas, decision.limited) for decision in world.decisions]
    steps = [decision.reason for decision in world.decisions if decision.replicas == 5]
    assert steps[0].startswith("to 5 (spec.autoscaling.behavior allows no more at once); needs 1: 0 requests in work")
    assert steps[1].startswith("stays at 5 (spec.autoscaling.behavior allows no more at once); needs 1: ")
    going = {limited for replicas, limited in limits if 3 < replicas < 10}
    assert going == {Limited.BEHAVIOR}
    assert limits[-1] == (3, Limited.AT_LEAST)
