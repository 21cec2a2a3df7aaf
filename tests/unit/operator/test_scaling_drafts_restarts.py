"""I16: what a restart of the operator leaves of scaling's decisions on drafts, and what it must not do to them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tandem_operator.scaling.draft_memory import DraftMemory
from tandem_operator.scaling.drafts import HOLD_SECONDS, MARGIN
from tests.unit.operator.drafts_world import TICK, DraftsWorld


def restarted(world: DraftsWorld, keeps: str = "everything") -> None:
    """Another operator process, with what was written down, or without it."""
    data = json.loads(json.dumps(world.memory.to_data()))
    world.memory = DraftMemory.from_data(data) if keeps == "everything" else DraftMemory()


@pytest.mark.parametrize("keeps", ["everything", "nothing"])
def test_i16_a_restart_takes_no_draft_away_for_a_whole_hold(keeps: str) -> None:
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    restarted(world, keeps)
    world.asked = 100.0
    assert world.run(HOLD_SECONDS - TICK).replicas == 3
    assert world.run(600).replicas == 1


def test_i16_drafts_that_do_not_pay_are_not_brought_back_by_a_restart() -> None:
    world = DraftsWorld(load=40.0, pays=False)
    assert world.run(300).replicas == 0
    restarted(world)
    before = len(world.decisions)
    world.run(600)
    assert {(decision.replicas, decision.is_off) for decision in world.decisions[before:]} == {(0, True)}


def test_i16_with_which_load_drafts_did_not_pay_survives_a_restart() -> None:
    world = DraftsWorld(load=40.0, pays=False)
    world.run(300)
    restarted(world)
    world.load = 30.0
    assert world.run(600).replicas == 0, "that is not clearly less"
    world.load, world.pays = 20.0, True
    assert world.run(300).replicas == 1


def test_i16_when_and_of_which_pair_drafts_did_not_pay_survives_a_restart() -> None:
    world = DraftsWorld(pays=False)
    world.run(300)
    restarted(world)
    world.pair = "1/3"
    assert world.run(60).replicas == 1, "another pair is tried"
    hour = DraftsWorld(pays=False)
    hour.run(1800)
    restarted(hour)
    assert hour.run(1500).replicas == 0
    before = len(hour.decisions)
    hour.run(600)
    assert max(decision.replicas for decision in hour.decisions[before:]) == 1, "an hour after they went"


@pytest.mark.parametrize("keeps", ["everything", "nothing"])
def test_i16_a_restart_while_more_is_asked_for_takes_no_draft_away_and_goes_on_adding(keeps: str) -> None:
    world = DraftsWorld(asked=1000.0)
    world.run(120)
    world.asked = 7000.0
    world.run(20)
    before = world.wanted
    restarted(world, keeps)
    begin = len(world.decisions)
    world.run(300)
    assert min(decision.replicas for decision in world.decisions[begin:]) >= before
    assert world.wanted == math.ceil(MARGIN * 7000 / 2000)


@pytest.mark.parametrize("data", [None, {}, {"version": 0}, {"version": 1}, {"version": 1, "capacity": 3}, [], 3])
def test_what_nobody_has_written_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"version|remembers"):
        DraftMemory.from_data(data)


def test_i16_what_a_busy_draft_gives_survives_a_restart() -> None:
    world = DraftsWorld(asked=1900.0)
    world.run(300)
    restarted(world)
    world.asked, world.capacity = 300.0, 500.0  # small batches, of which nothing is learned
    world.run(60)
    assert world.decisions[-1].capacity_rate == pytest.approx(2000, rel=0.05)
