"""What experience teaches scaling: how much less pods can do than was thought, and how long to wait before they go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_operator.scaling.memory import LEAST_DERATE
from tandem_operator.scaling.policy import Behavior, Bounds, Direction, Select, StepModel, Target
from tandem_operator.scaling.remembering import MOST_PATIENCE, YOUNG_SECONDS
from tests.unit.operator.scaling_world import MODEL, TICK, Engine, World, make_policy

NEVER_MORE = Behavior(up=Direction((), Select.DISABLED))


def learned_world(**others: Any) -> World:
    """A world whose step times are known, and whose load has been 12 requests a second for a while."""
    world = World(**{"policy": make_policy(surge_quantile=0.0), **others})
    world.vary(240, low=1.0, high=8.0)
    world.rate = 12.0
    world.run(900)
    assert world.decisions[-1].is_learned
    assert world.memory.patience == 1.0
    return world


def with_misses(world: World) -> World:
    """All requests miss the target for the first token from now on."""
    world.first = 5.0
    return world


# -- misses ------------------------------------------------------------------------------------------------------------


def test_pods_whose_requests_miss_the_target_count_for_less_and_more_are_asked_for() -> None:
    world = learned_world()
    world.rate = 16.0
    world.run(900)
    before, usual = world.wanted, world.decisions[-1].figures.capacity_rate
    with_misses(world).run(600)
    assert world.decisions[-1].figures.capacity_rate < 0.92 * usual
    assert world.wanted > before


def test_pods_count_for_seven_tenths_at_least_however_long_requests_miss() -> None:
    world = with_misses(learned_world(policy=make_policy(behavior=NEVER_MORE, surge_quantile=0.0)))
    world.run(3600)
    assert world.memory.derate == LEAST_DERATE


def test_once_requests_keep_the_target_again_pods_slowly_count_for_what_they_did() -> None:
    world = with_misses(learned_world(policy=make_policy(behavior=NEVER_MORE, surge_quantile=0.0)))
    world.run(300)
    low = world.memory.derate
    assert low < 0.9
    world.first = 0.3
    world.run(900)
    assert low < world.memory.derate < 1.0, "that takes longer than it took to fall"
    world.run(3600)
    assert world.memory.derate == 1.0


def test_misses_while_a_pod_is_starting_say_nothing_of_what_pods_can_do() -> None:
    world = with_misses(learned_world())
    world.engines.append(Engine("starting", created_at=world.now, ready_at=None))
    world.wanted, world.cold_start = world.wanted + 1, 1e9
    world.run(600)
    assert world.memory.derate == 1.0


def test_misses_in_the_first_minute_after_a_change_say_nothing_of_what_pods_can_do() -> None:
    world = learned_world()
    world.memory = replace(world.memory, changed_at=world.now)
    with_misses(world).run(YOUNG_SECONDS)
    assert world.memory.derate == 1.0
    world.run(60)
    assert world.memory.derate < 1.0


def test_misses_of_before_say_nothing_of_what_pods_can_do_once_no_request_comes() -> None:
    world = with_misses(learned_world(policy=make_policy(behavior=NEVER_MORE, surge_quantile=0.0)))
    world.run(60)
    world.rate = 0.0
    world.run(120)  # the last ones are answered, and leave the minute that is looked at
    low = world.memory.derate
    world.run(1800)
    assert LEAST_DERATE < low == world.memory.derate


def test_misses_that_the_histogram_cannot_tell_from_hits_count_as_hits() -> None:
    world = learned_world(policy=make_policy(target=Target(95, 2.2, 0.06)))
    world.first = 2.1  # between the bounds 2 and 2.5
    world.run(600)
    first = world.decisions[-1].figures.first_token_attainment
    assert first is not None
    assert first < 0.95
    assert world.memory.derate == 1.0


def test_the_first_minute_of_a_pod_teaches_nothing_of_how_long_steps_take() -> None:
    world = learned_world()
    cold = StepModel(*(5 * each for each in (MODEL.base, MODEL.prompt, MODEL.context, MODEL.request)))
    world.engines.append(Engine("new", kind="b", created_at=world.now - 60, ready_at=world.now, model=cold))
    world.wanted += 1
    world.policy = replace(world.policy, bounds=Bounds(world.wanted, 20))
    world.run(YOUNG_SECONDS - TICK)
    assert "b" not in world.memory.learned
    world.run(60)
    assert world.memory.learned["b"].samples > 0


# -- how long pods are kept --------------------------------------------------------------------------------------------


def seconds_kept(world: World, *, rate: float) -> float:
    """How long no pod goes once the load is `rate`."""
    world.rate, begin, before = rate, world.now, world.wanted
    while world.tick().replicas >= before:
        assert world.now - begin < 4 * 3600
    return world.now - begin


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "assumed"])
def test_pods_are_kept_for_two_cold_starts_since_bringing_them_back_takes_one(*, is_seen: bool) -> None:
    assumed = 60.0 if is_seen else 400.0
    world = learned_world(policy=make_policy(cold_start_seconds=assumed, bounds=Bounds(1, 3)))
    world.memory = replace(world.memory, cold_starts={"a": (400.0,)} if is_seen else {})
    world.rate = 30.0
    world.run(60)
    assert 800 <= seconds_kept(world, rate=0.5) <= 950


def test_pods_that_start_quickly_are_kept_for_the_users_window() -> None:
    world = learned_world()
    assert 300 <= seconds_kept(world, rate=0.5) <= 450


def test_a_step_down_that_had_to_be_taken_back_makes_the_next_ones_wait_longer_up_to_eight_times() -> None:
    world = learned_world()
    kept = []
    for _ in range(5):
        world.rate = 30.0
        world.run(300)
        kept.append(seconds_kept(world, rate=0.5))
    assert kept[0] < 600
    assert kept == sorted(kept)
    assert all(any(300 * times <= seconds < 300 * times + 150 for times in (2, 4, 8)) for seconds in kept[1:]), kept
    assert kept[-1] >= 8 * 300
    assert world.memory.patience == MOST_PATIENCE


def test_an_hour_without_a_step_taken_back_halves_the_wait_again() -> None:
    world = learned_world()
    world.rate = 30.0
    world.run(300)
    seconds_kept(world, rate=0.5)
    world.rate = 30.0
    world.run(300)
    assert world.memory.patience == 2.0
    world.run(3700)
    assert seconds_kept(world, rate=0.5) < 450


def test_a_step_down_at_constant_load_is_not_taken_back_because_fewer_pods_take_longer() -> None:
    world = learned_world(policy=make_policy())
    world.rate = 20.0
    world.run(300)
    world.run(3600)
    replicas = [decision.replicas for decision in world.decisions[-720:]]
    assert replicas[-1] < replicas[0], "the surge of the step has left the history"
    assert replicas == sorted(replicas, reverse=True)
