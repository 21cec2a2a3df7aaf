"""Invariants of the decision over time, whatever the load is. I1 to I20: ../shared/background/autoscaling.md 6.7."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.need import figures_of, need_of
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Behavior, Bounds, Direction, Limit, Policy, Select, StepModel, Unit
from tests.unit.operator.scaling_world import MODEL, TICK, Engine, World, arrivals, make_policy

AT_ONCE = Behavior(up=Direction(()), down=Direction((), stabilization_seconds=300.0))
"""No limits but the hold."""
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A world takes a while: to look for the smallest example that fails would take minutes."""


def make_learned(**others: Any) -> World:
    """A world whose step times are known, of three pods."""
    world = World(**others)
    world.vary(240, low=1.0, high=8.0)
    assert world.decisions[-1].is_learned
    return world


LEARNED = make_learned(policy=make_policy(surge_quantile=0.0, bounds=Bounds(3, 3)))
RATES = st.floats(0.2, 30.0)


def learned_world(*, wanted: int = 3, rate: float = 3.0, **others: Any) -> World:
    """The same with so many pods, all Ready, which have had so many requests a second for a while."""
    world = copy.deepcopy(LEARNED)
    world.policy = replace(world.policy, bounds=Bounds(wanted, wanted))
    world.engines = [Engine(f"pod-{i}") for i in range(wanted)]
    world.wanted, world.rate = wanted, rate
    world.run(150)
    world.policy = make_policy(**{"surge_quantile": 0.0, "behavior": AT_ONCE, **others})
    world.decisions.clear()
    return world


def steps(world: World, before: int) -> list[int]:
    """By how much replicas have changed, each time that they have."""
    replicas = [before, *(decision.replicas for decision in world.decisions)]
    return [after - before for before, after in itertools.pairwise(replicas) if after != before]


# -- I4, I5: up, and no further ----------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, phases=UNSHRUNK)
@given(st.floats(1.0, 6.2), st.integers(1, 12))
def test_i4_i5_what_a_constant_load_needs_is_asked_for_within_two_ticks_and_not_again_while_pods_start(
    rate: float, pods: int
) -> None:
    world = learned_world(wanted=pods, rate=rate * pods)
    world.cold_start = 1e9
    world.run(2 * TICK)
    asked = world.wanted
    assert asked * 6.6 >= world.rate
    world.run(240)
    assert max(decision.replicas for decision in world.decisions[1:]) == asked


@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
def test_i4_a_load_that_jumps_beyond_what_pods_can_do_is_answered_within_two_ticks(factor: float) -> None:
    world = learned_world(wanted=4, rate=20.0)
    world.run(60)
    settled = world.wanted
    world.rate = 20.0 * factor
    world.run(2 * TICK)
    assert world.wanted > settled


# -- I7, I8: down, and how fast ----------------------------------------------------------------------------------------

LOADS = st.lists(st.tuples(RATES, st.integers(4, 100)), min_size=1, max_size=4)
"""Requests a second, for so many ticks."""


@settings(max_examples=10, deadline=None, phases=UNSHRUNK)
@given(LOADS, st.sampled_from([Behavior(), AT_ONCE]), st.sampled_from([0.0, 0.9]))
def test_i7_what_is_left_after_a_step_down_is_what_the_load_needs(
    loads: list[tuple[float, int]], behavior: Behavior, surge: float
) -> None:
    world = learned_world(behavior=behavior, surge_quantile=surge)

    def checked(policy: Policy, seen: Observed, memory: Memory) -> tuple[Decision, Memory]:
        decision, after = decide(policy, seen, memory)
        need, _ = need_of(policy, seen, after, figures_of(policy, seen, after))
        assert need.up <= need.down
        if decision.replicas < seen.wanted:
            assert decision.replicas >= need.up
            assert decision.replicas >= max(each.replicas for each in after.wanted if each.at > seen.now - 300)
        return decision, after

    for rate, ticks in [*loads, (0.2, 120)]:
        world.rate = rate
        for _ in range(ticks):
            world.tick(checked)


DIRECTIONS = st.builds(
    Direction,
    st.lists(
        st.builds(Limit, st.sampled_from(Unit), st.integers(1, 150), st.sampled_from([10.0, 30.0, 60.0, 120.0])),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.sampled_from([Select.MAX, Select.MIN]),
)


@dataclass
class Allowed:
    """What `behavior` allows, by what replicas were in the past, and by nothing that the decision remembers."""

    replicas: list[tuple[float, int]] = field(default_factory=list)

    def holds(self, way: Direction, sign: int) -> bool:
        """Whether the last change in this direction is within the limits."""
        ((_, before), (now, after)) = self.replicas[-2:]
        if (after - before) * sign <= 0:
            return True
        found = [self._holds(limit, now, after, sign) for limit in way.limits]
        return any(found) if way.select is Select.MAX else all(found)

    def _holds(self, limit: Limit, now: float, after: int, sign: int) -> bool:
        pairs = itertools.pairwise(self.replicas)
        changed = [b - a for (_, a), (at, b) in pairs if at > now - limit.period_seconds and (b - a) * sign > 0]
        begin = after - sum(changed)
        most = limit.value if limit.unit is Unit.PODS else math.ceil(begin * limit.value / 100)
        return abs(sum(changed)) <= most


@settings(max_examples=15, deadline=None, phases=UNSHRUNK)
@given(LOADS, DIRECTIONS, DIRECTIONS)
def test_i8_limits_in_pods_and_in_percent_hold_over_every_window(
    loads: list[tuple[float, int]], up: Direction, down: Direction
) -> None:
    world, allowed = learned_world(behavior=Behavior(up, down), cold_start_seconds=5.0), Allowed()
    world.cold_start = 10.0
    allowed.replicas.append((world.now, world.wanted))
    for rate, ticks in [*loads, (50.0, 30), (0.2, 60)]:
        world.rate = rate
        for _ in range(ticks):
            allowed.replicas.append((world.now + TICK, world.tick().replicas))
            assert allowed.holds(up, 1)
            assert allowed.holds(down, -1)


# -- loads that move all the time --------------------------------------------------------------------------------------


def jumping(ticks: int) -> World:
    """Two hours of a load of 20 requests a second and half of it more or less, which changes every so many ticks."""
    world = learned_world(wanted=7, rate=20.0, behavior=Behavior())
    for i in range(1440):
        world.rate = 30.0 if i // ticks % 2 else 10.0
        world.tick()
    return world


@pytest.mark.parametrize("ticks", [1, 2, 3])
def test_a_load_that_jumps_up_and_down_by_half_moves_replicas_ever_more_rarely(ticks: int) -> None:
    world = jumping(ticks)
    changes = [decision.replicas for decision in world.decisions]
    downs = [i * TICK for i, (a, b) in enumerate(itertools.pairwise(changes)) if b < a]
    late = [b - a for a, b in itertools.pairwise(downs) if a > 1800]
    assert all(each >= 2400 - 60 for each in late), "eight holds apart"
    assert max(changes[360:]) - min(changes[360:]) <= 1
    assert min(changes) * 6.6 > 20.0


@pytest.mark.parametrize("ticks", [1, 3])
def test_a_load_that_jumps_up_and_down_by_half_moves_no_replicas_up_and_down(ticks: int) -> None:
    world = jumping(ticks)
    assert len({decision.replicas for decision in world.decisions[720:]}) == 1


def test_i5_pods_that_are_starting_are_not_asked_for_again_while_the_others_have_too_much_to_do() -> None:
    world = learned_world(wanted=5, rate=20.0)
    world.rate, world.cold_start = 41.8, 1e9
    world.run(50)
    asked = world.wanted
    assert asked >= 7
    world.run(600)
    assert world.wanted <= asked + 1


def test_queues_that_come_and_go_with_each_reading_move_no_replicas_up_and_down() -> None:
    world = learned_world(wanted=4, rate=20.0, behavior=Behavior())
    for i in range(1440):
        for engine in world.engines:
            engine.waiting = 15.0 if i % 2 else 5.0
        world.tick()
    assert not [each for each in steps(world, 4)[1:] if each < 0]
    assert len({decision.replicas for decision in world.decisions[-720:]}) == 1


# -- a constant load, whose requests come by chance --------------------------------------------------------------------


def test_chance_alone_changes_replicas_twice_an_hour_at_most() -> None:
    rate, chance = 4.0, random.Random(1)
    world = learned_world(wanted=1, rate=rate, surge_quantile=0.9, behavior=Behavior())
    for _ in range(1440):
        world.rate = arrivals(rate * TICK, chance) / TICK
        world.tick()
    settled = [decision.replicas for decision in world.decisions[240:]]
    assert sum(a != b for a, b in itertools.pairwise(settled)) <= 2 * (1200 * TICK) / 3600
    assert min(settled) * 6.6 > rate


# -- I16, I17: what is not known ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", ["everything", "nothing"])
@pytest.mark.parametrize("at", [10, 30, 60, 90, 150])
def test_i16_a_restart_in_the_middle_of_a_surge_shrinks_nothing_and_goes_on_growing(at: int, keeps: str) -> None:
    world = learned_world(wanted=2, rate=8.0, behavior=Behavior())
    through = copy.deepcopy(world)
    for i in range(60):
        world.rate = through.rate = 8.0 + 0.5 * i  # half a request a second more in each tick
        if i * TICK == at:
            data = json.loads(json.dumps(world.memory.to_data()))
            world.memory = Memory.from_data(data) if keeps == "everything" else Memory()
        before = world.wanted
        assert world.tick().replicas >= before
        through.tick()
    world.run(120)
    assert world.wanted * 6.3 >= world.rate, "as many as the load needs, without anybody who remembers what was before"


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_i17_what_is_assumed_before_anything_is_known_may_be_wrong_by_half(factor: float) -> None:
    usual = make_policy(behavior=Behavior())

    def settled(policy: Policy) -> World:
        world = World(policy=policy, rate=10.0)
        world.vary(300, low=4.0, high=14.0)
        world.rate = 20.0
        world.run(5400)
        return world

    wrong = replace(
        usual,
        cold_start_seconds=usual.cold_start_seconds * factor,
        requests_per_pod=usual.requests_per_pod * factor,
    )
    right, found = settled(usual), settled(wrong)
    assert found.wanted == right.wanted
    assert all(engine.step <= 0.06 for engine in found.engines)
    assert found.decisions[-1].figures.output_token_attainment == 1.0


# -- I19, I20 ----------------------------------------------------------------------------------------------------------


def test_i19_two_revisions_of_different_pace_do_not_spoil_what_is_learned_of_each_other() -> None:
    slow = StepModel(*(2.5 * each for each in (MODEL.base, MODEL.prompt, MODEL.context, MODEL.request)))
    world = learned_world(wanted=6, rate=6.0, bounds=Bounds(6, 6))
    for engine in world.engines[3:]:
        engine.kind, engine.model, engine.created_at = "b", slow, engine.created_at + 1
    world.memory = replace(world.memory, learned={}, watches={}, readings={})
    world.vary(1200, low=2.0, high=10.0)

    def step_seconds(kind: str) -> float:
        model = world.memory.learned[kind].model
        assert model is not None
        return model.seconds(prompt_tokens=50, context_tokens=11_000, requests=10)

    true = MODEL.seconds(prompt_tokens=50, context_tokens=11_000, requests=10)
    assert step_seconds("a") == pytest.approx(true, rel=0.1)
    assert step_seconds("b") == pytest.approx(2.5 * true, rel=0.1)
    of_new = world.decisions[-1].figures.capacity_rate
    for engine in world.engines[3:]:
        engine.created_at -= 2
    assert world.tick().figures.capacity_rate > 2 * of_new, "what is planned with is what the newest pods can do"


def test_i20_a_decision_for_64_pods_takes_50_milliseconds_at_most() -> None:
    """Of a processor's time, in the mean of many; what it does take is a benchmark's to say."""
    world = learned_world(wanted=64, rate=200.0, bounds=Bounds(1, 64))
    taken = []

    def timed(policy: Policy, seen: Observed, memory: Memory) -> tuple[Decision, Memory]:
        begin = time.process_time()
        found = decide(policy, seen, memory)
        taken.append(time.process_time() - begin)
        return found

    for _ in range(60):
        world.tick(timed)
    assert world.wanted > 30
    assert sum(taken) / len(taken) <= 0.05
