"""Invariants of the decision: what no load, no engine and no number may bring about.

The names I1 to I20 are those of ../shared/background/autoscaling.md 6.7; what they say of capacity, of arrivals and of
limits is tested beside this file.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision, Limited
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.policy import Behavior, Bounds, Strategy
from tandem_operator.scaling.reading import Distribution, Reading
from tests.unit.operator.scaling_world import BEGIN, Engine, World, make_policy


def learned_world(**others: Any) -> World:
    """A world whose step times are known."""
    world = World(**others)
    world.vary(240, low=1.0, high=8.0)
    assert world.decisions[-1].is_learned
    return world


@pytest.fixture(scope="module")
def learned() -> Memory:
    return learned_world().memory


# -- I1, I12, I18: whatever is seen ------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0.0, 1e-300, 0.5, 5.0, 40.0, 1e6, 1e15])
DISTRIBUTIONS = st.builds(
    lambda counts, seconds: Distribution((0.1, 1.0, math.inf), tuple(counts), seconds),
    st.lists(NUMBERS, min_size=3, max_size=3),
    NUMBERS,
)
READINGS = st.builds(
    Reading,
    at=st.floats(BEGIN - 100, BEGIN + 100),
    **{f.name: NUMBERS for f in fields(Reading) if f.name not in {"at", "steps", "first_token", "output_token"}},
    steps=DISTRIBUTIONS,
    first_token=DISTRIBUTIONS,
    output_token=DISTRIBUTIONS,
)
PODS = st.lists(
    st.builds(
        Pod,
        name=st.sampled_from("abcd"),
        kind=st.sampled_from("xy"),
        created_at=st.floats(BEGIN - 1e4, BEGIN + 100),
        ready_at=st.one_of(st.none(), st.floats(BEGIN - 1e4, BEGIN + 100)),
        is_going=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda pod: pod.name,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PODS, st.dictionaries(st.sampled_from("abcd"), READINGS)), min_size=1, max_size=4),
    st.integers(0, 30),
    st.sampled_from(list(Strategy)),
)
def test_i1_i12_i18_whatever_engines_say_replicas_are_within_bounds_and_the_same_again(
    seen: list[tuple[list[Pod], dict[str, Reading]]], wanted: int, strategy: Strategy
) -> None:
    policy = make_policy(bounds=Bounds(2, 9), strategy=strategy)

    def run() -> list[Decision]:
        memory, asked, found = Memory(), wanted, []
        for i, (pods, readings) in enumerate(seen):
            observed = Observed(BEGIN + 5 * i, asked, tuple(pods), readings)
            decision, memory = decide(policy, observed, memory)
            asked = decision.replicas
            found.append(decision)
            json.dumps(memory.to_data(), allow_nan=True)
        return found

    decisions = run()
    assert all(2 <= decision.replicas <= 9 for decision in decisions)
    assert all(decision.reason for decision in decisions)
    assert decisions == run()


# -- I2, I6: what never goes down --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["waiting", "missed", "warming"])
def test_i6_nothing_goes_while_requests_wait_or_miss_or_a_pod_is_starting(change: str) -> None:
    world = learned_world(wanted=6)
    world.rate = 0.2
    if change == "waiting":
        world.engines[0].waiting = 1.0
    elif change == "missed":
        world.rate = 6.0
        for engine in world.engines:
            engine.first = 5.0
    else:
        world.engines.append(Engine("stuck", created_at=world.now, ready_at=None))
        world.cold_start = 1e9
        world.wanted = 7
    before = world.wanted
    world.run(1500)
    assert world.wanted >= before


def test_i6_a_need_has_to_be_lower_for_the_whole_hold() -> None:
    world = learned_world(wanted=6)
    world.rate = 24.0
    settled = world.run(1800).replicas
    before = len(world.decisions)
    for _ in range(8):
        world.rate = 2.0
        world.run(240)
        world.rate = 24.0
        world.run(60)
    assert min(decision.replicas for decision in world.decisions[before:]) >= settled, "the peak's, at any time"


# -- I4, I5, I7: up ----------------------------------------------------------------------------------------------------


def test_i4_after_a_step_there_is_enough_at_once_and_but_for_its_surge_nothing_changes_any_more() -> None:
    world = learned_world(wanted=3)
    before = len(world.decisions)
    world.rate = 12.0
    world.run(5400)
    counts = [decision.replicas for decision in world.decisions[before:]]
    settled = counts[-1]
    assert min(counts[60 // 5 :]) >= settled, "enough within a minute, and never less"
    half_an_hour = 1800 // 5
    assert set(counts[half_an_hour + 900 // 5 :]) == {settled}, "the surge of the step leaves the history by then"
    assert len(set(counts)) <= 4, "up at once, and down once or twice"


def test_i5_pods_that_are_starting_are_counted_and_not_asked_for_again() -> None:
    world = learned_world(wanted=3, cold_start=600.0)
    world.rate = 20.0
    world.run(120)
    asked = world.wanted
    assert asked > 3
    world.run(300)
    assert world.wanted <= asked + 1


def test_i7_what_is_left_after_a_step_down_is_enough() -> None:
    world = learned_world(wanted=8)
    world.rate = 3.0
    before = world.wanted
    for _ in range(400):
        decision = world.tick()
        if decision.replicas < before:
            world.run(300)
            assert world.wanted <= decision.replicas
            assert world.decisions[-1].figures.requests_rate < (
                decision.replicas * world.decisions[-1].figures.capacity_rate
            )
        before = world.wanted
    assert world.wanted < 8


def test_more_load_than_the_most_replicas_can_do_is_told() -> None:
    world = learned_world(wanted=3, policy=make_policy(bounds=Bounds(1, 4)))
    world.rate = 60.0
    decision = world.run(300)
    assert (decision.replicas, decision.limited) == (4, Limited.AT_MOST)
    assert decision.reason.startswith("needs more than 4:")


def test_changed_bounds_hold_at_once_whatever_the_limits_are() -> None:
    world = learned_world(wanted=6)
    world.policy = replace(world.policy, bounds=Bounds(1, 2))
    assert world.tick().replicas == 2
    world.policy = replace(world.policy, bounds=Bounds(12, 20))
    assert world.tick().replicas == 12


# -- I9, I16, I19 ------------------------------------------------------------------------------------------------------


def test_i9_paused_changes_nothing_and_goes_on_learning() -> None:
    world = World(policy=make_policy(is_paused=True))
    world.vary(900, low=1.0, high=40.0)
    assert {decision.replicas for decision in world.decisions} == {3}
    assert world.memory.learned["a"].model is not None


@pytest.mark.parametrize(
    ("bounds", "wanted", "told"),
    [
        (Bounds(1, 5), 3, "paused at 3"),
        (Bounds(1, 2), 3, "paused at 3, above maxReplicas, 2"),
        (Bounds(4, 5), 3, "paused at 3, below minReplicas, 4"),
        (Bounds(1, 5), 0, "paused at 0"),
    ],
)
def test_paused_says_which_bound_it_does_not_keep(bounds: Bounds, wanted: int, told: str) -> None:
    world = World(policy=make_policy(is_paused=True, bounds=bounds), wanted=wanted)
    assert (world.tick().reason, world.wanted) == (told, wanted)


def test_without_load_nor_experience_the_least_is_a_bound_and_no_need() -> None:
    world = World(policy=make_policy(bounds=Bounds(2, 5)), wanted=2, rate=0.0)
    world.run(600)
    assert (world.wanted, world.decisions[-1].limited) == (2, Limited.AT_LEAST)
    assert world.decisions[-1].reason.startswith("stays at 2 (the least, minReplicas); needs 1: 0 requests in work")


@pytest.mark.parametrize("keeps", ["everything", "nothing"])
def test_i16_a_restart_shrinks_nothing_for_a_whole_hold(keeps: str) -> None:
    world = learned_world(wanted=8)
    world.rate = 0.5
    data = json.loads(json.dumps(world.memory.to_data()))
    world.memory = Memory.from_data(data) if keeps == "everything" else Memory()
    world.run(295)
    assert world.wanted == 8
    world.run(1200)
    assert world.wanted < 8


def test_i16_what_is_learned_survives_a_restart(learned: Memory) -> None:
    again = Memory.from_data(json.loads(json.dumps(learned.to_data())))
    assert again.learned["a"].model is not None
    assert again.learned["a"].model.base == pytest.approx(learned.learned["a"].model.base, rel=1e-5)  # type: ignore[union-attr]
    assert again.flow.history
    assert again.to_data() == learned.to_data()
    assert len(json.dumps(again.to_data())) < 50_000


def test_revisions_that_are_long_gone_are_forgotten() -> None:
    world = World()
    for i in range(9):
        world.engines = [Engine(f"pod-{i}-{j}", kind=f"kind-{i}", created_at=world.now) for j in range(3)]
        for engine in world.engines:
            engine.ready_at = world.now
        world.vary(300, low=1.0, high=8.0)
    assert set(world.memory.learned) == {"kind-5", "kind-6", "kind-7", "kind-8"}


@pytest.mark.parametrize("data", [{}, {"version": 0}, {"version": 1}, {"version": 1, "learned": 3}, [], 3])
def test_what_nobody_has_written_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"version|remembers"):
        Memory.from_data(data)


def test_i19_two_revisions_are_learned_apart() -> None:
    world = learned_world()
    world.engines += [Engine("other", kind="b", created_at=world.now, ready_at=world.now)]
    world.wanted += 1
    world.policy = replace(world.policy, bounds=Bounds(world.wanted, 20))
    before = world.memory.learned["a"]
    world.vary(300, low=1.0, high=8.0)
    assert world.memory.learned["b"].samples < world.memory.learned["a"].samples
    assert world.memory.learned["a"].samples > before.samples


# -- cold starts, strategies, speed ------------------------------------------------------------------------------------


def test_concurrency_takes_as_many_replicas_as_hold_the_requests() -> None:
    world = World(policy=make_policy(strategy=Strategy.CONCURRENCY, requests_per_pod=10.0))
    world.rate = 12.0
    world.run(600)
    work = sum(engine.running for engine in world.engines)
    assert world.wanted == max(1, math.ceil(work / 10))
    assert "requests in work, 10 a pod" in world.decisions[-1].reason


def test_before_anything_is_learned_a_full_engine_is_worth_one_more() -> None:
    world = World()
    world.rate = 0.5
    world.engines[0].waiting = 3.0
    assert world.run(5).replicas == 4
    assert world.run(30).replicas == 4, "it is starting"


def test_up_waits_for_the_window_that_behavior_gives() -> None:
    usual = Behavior()
    behavior = replace(usual, up=replace(usual.up, stabilization_seconds=60.0))
    world = learned_world(policy=make_policy(behavior=behavior))
    before = world.wanted
    world.rate = 25.0
    world.run(40)
    assert world.wanted == before
    world.run(120)
    assert world.wanted > before


def test_i20_many_pods_are_decided_for_as_few_are() -> None:
    """How long that takes is a benchmark's to say (`benchmarks.scaling_costs`)."""
    world = learned_world(wanted=64, policy=make_policy(bounds=Bounds(1, 64)))
    world.rate = 200.0
    decision = world.run(600)
    assert decision.is_learned
    assert 200 / 6.6 < decision.replicas < 64


# -- what goes wrong at 3 a.m. -----------------------------------------------------------------------------------------


def test_i6_after_a_pause_the_hold_begins_anew() -> None:
    world = learned_world(wanted=6)
    world.policy = replace(world.policy, is_paused=True)
    world.rate = 0.2
    world.run(600)
    world.policy = replace(world.policy, is_paused=False)
    world.run(240)
    assert world.wanted == 6
    world.run(1200)
    assert world.wanted < 6


def test_a_pod_that_never_becomes_ready_does_not_keep_the_others_for_ever() -> None:
    world = learned_world(wanted=6)
    world.rate = 0.2
    world.engines.append(Engine("stuck", created_at=world.now, ready_at=None))
    world.wanted, world.cold_start = 7, 1e9
    world.run(1500)
    assert world.wanted == 7
    world.run(3600)
    assert world.wanted < 7


@pytest.mark.parametrize(
    "spoilt",
    [
        {"wanted": [[0, 1e999]]},
        {"patience": math.nan},
        {"derate": math.inf},
        {"changedAt": "x"},
        {"coldStarts": {"x": [math.nan]}},
        {"history": [[0]]},
        {"learned": {"x": {"samples": 1, "cells": [], "model": [1, 2, math.nan, 4]}}},
    ],
)
def test_a_memory_with_numbers_that_are_none_is_refused(spoilt: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whichever: it is learned anew
        Memory.from_data({**Memory().to_data(), **spoilt})


def test_a_memory_beyond_what_scaling_writes_is_brought_back_into_its_range() -> None:
    found = Memory.from_data({**Memory().to_data(), "patience": -1, "derate": 0})
    assert (found.patience, found.derate) == (1.0, 0.7)
