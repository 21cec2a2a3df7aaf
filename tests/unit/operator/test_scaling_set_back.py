"""A clock that is set back: what was seen before is no longer ahead of all that is seen from then on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem_operator.pace import is_due
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.reading import Reading
from tests.unit.operator.drafts_world import DraftsWorld
from tests.unit.operator.scaling_world import BEGIN, TICK, World

LONG_AGO = BEGIN - 1_000_000


def make_world(rate: float = 4.0) -> World:
    """Whose pods are older than any clock goes back."""
    world = World(rate=rate)
    for engine in world.engines:
        engine.created_at = engine.ready_at = LONG_AGO
    return world


@pytest.mark.parametrize("back", [3.0, 20.0, 120.0, 3600.0, 86400.0])
def test_the_rate_of_arrivals_is_known_again_with_the_second_reading(back: float) -> None:
    world = make_world()
    world.run(600)
    before = world.decisions[-1]
    assert before.figures.requests_rate == pytest.approx(4.0, rel=0.05)
    world.now -= back
    world.run(2 * TICK)
    for decision in world.decisions[-2:]:
        assert decision.figures.requests_rate == pytest.approx(4.0, rel=0.15)
        assert decision.replicas == before.replicas
    world.run(300)
    assert world.decisions[-1].figures.requests_rate == pytest.approx(4.0, rel=0.05)
    assert {each.replicas for each in world.decisions[-60:]} == {before.replicas}


def test_a_load_that_rises_after_the_clock_was_set_back_is_seen_at_once() -> None:
    world = make_world()
    world.vary(1200, low=1.0, high=8.0)
    world.rate = 4.0
    world.run(1200)
    replicas = world.wanted
    world.now -= 7200
    world.rate = 40.0
    assert world.run(30).replicas > replicas


def test_what_an_engine_is_said_to_have_told_in_a_time_to_come_is_not_new() -> None:
    reading = Reading(at=BEGIN + 3600, running=0, waiting=0)
    seen = Observed(BEGIN, 1, readings={"a": reading, "b": replace(reading, at=BEGIN + 1)})
    assert (seen.is_fresh("a"), seen.is_fresh("b")) == (False, True)
    assert list(seen.possible) == ["b"]


def test_the_memory_of_an_earlier_process_whose_clock_was_ahead_is_as_old_as_it_can_be() -> None:
    world = make_world()
    world.run(600)
    world.memory = Memory.from_data(world.memory.to_data())
    world.now -= 7200
    world.run(TICK)
    assert max(each.at for each in world.memory.wanted) == world.now
    assert len(world.memory.wanted) > 1, "what was needed before still counts"
    assert all(at < world.now for at, _ in world.memory.flow.history)


def test_what_drafts_were_needed_for_before_does_not_count_until_the_clock_is_there_again() -> None:
    world = DraftsWorld(asked=3000.0, wanted=2)
    for pod in (*world.drafts, *world.verifiers):
        pod.created_at = pod.ready_at = LONG_AGO
    world.run(300)
    before = world.decisions[-1]
    world.now -= 3600
    world.asked = 100.0
    assert (before.replicas, world.run(60).replicas, world.run(300).replicas) == (2, 2, 1)


@pytest.mark.parametrize(
    ("now", "due"), [(99.0, False), (100.0, True), (200.0, True), (95.0, False), (94.0, True), (-5000.0, True)]
)
def test_what_is_read_each_five_seconds_is_due_after_them_or_once_the_clock_was_set_back(
    now: float, *, due: bool
) -> None:
    assert is_due(100.0, now=now, every_seconds=5.0) is due
