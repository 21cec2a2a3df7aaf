"""Arrivals by flow balance: right in overload, and whatever becomes of the pods that were counted."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from tandem_operator.scaling.flow import Flow, flowed
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.reading import Reading
from tests.unit.operator.scaling_world import arrivals

BEGIN = 1000.0


class Counting:
    """Pods that are sent requests, and end at most `capacity` of them a second."""

    def __init__(self, pods: int, *, capacity: float = 100.0) -> None:
        self.now, self.capacity, self.flow = BEGIN, capacity, Flow()
        self.pods = {f"p{i}": Reading(at=BEGIN, running=0, waiting=0) for i in range(pods)}
        self.ready = dict.fromkeys(self.pods, BEGIN - 100)
        self.before: dict[str, Reading] = {}
        self.silent: set[str] = set()
        self.look()

    def look(self) -> None:
        readings = {n: replace(r, at=self.now) for n, r in self.pods.items() if n not in self.silent}
        pods = tuple(Pod(name, "a", at, at) for name, at in self.ready.items() if name in self.pods)
        seen = Observed(self.now, len(pods), pods, readings)
        self.flow = flowed(self.flow, seen, before=self.before, history_seconds=1800)
        self.before = {name: r for name, r in {**self.before, **readings}.items() if name in self.pods}

    def run(self, seconds: float, rate: float) -> None:
        for _ in range(round(seconds / 5)):
            self.now += 5
            for name, r in self.pods.items():
                work = r.running + r.waiting + rate * 5 / len(self.pods)
                done = min(work, self.capacity * 5 / len(self.pods))
                self.pods[name] = replace(
                    r, finished=r.finished + done, running=min(work - done, 8), waiting=max(work - done - 8, 0)
                )
            self.look()

    def rate(self, seconds: float = 60.0) -> float:
        return self.flow.rate(seconds, now=self.now)


def test_the_rate_is_that_of_arrivals_also_when_engines_cannot_keep_up() -> None:
    world = Counting(2, capacity=3.0)
    world.run(180, 10.0)
    assert world.pods["p0"].finished < 300
    assert world.rate() == pytest.approx(10.0, rel=0.01)


def test_a_pod_that_starts_anew_and_one_that_goes_leave_the_rate_as_it_is() -> None:
    world = Counting(4)
    world.run(120, 8.0)
    world.pods["p0"] = Reading(at=world.now, running=0, waiting=0)
    world.run(30, 8.0)
    del world.pods["p1"]
    world.run(30, 8.0)
    world.pods["new"], world.ready["new"] = Reading(at=world.now, running=0, waiting=0), world.now
    world.run(30, 8.0)
    assert world.rate() == pytest.approx(8.0, rel=0.05)


def test_what_came_while_a_pod_was_silent_came_in_all_that_time() -> None:
    world = Counting(2)
    world.run(120, 6.0)
    world.silent = {"p0", "p1"}
    world.run(300, 6.0)
    assert world.rate() == 0.0
    world.silent = set()
    world.run(5, 6.0)
    assert world.rate() == pytest.approx(6.0, rel=0.05)
    assert world.rate(20.0) == pytest.approx(6.0, rel=0.05)


def test_what_engines_had_done_before_anybody_looked_is_no_arrival() -> None:
    world = Counting(1)
    world.pods = {"p0": Reading(at=BEGIN, running=50, waiting=9, finished=1e6)}
    world.flow, world.before = Flow(), {}
    world.look()
    world.run(60, 2.0)
    assert world.rate() == pytest.approx(2.0, rel=0.01)


def test_requests_that_an_engine_turned_away_have_arrived_too() -> None:
    world = Counting(1)
    world.run(60, 1.0)
    for _ in range(12):
        world.pods["p0"] = replace(world.pods["p0"], rejected=world.pods["p0"].rejected + 5)
        world.run(5, 1.0)
    assert world.rate() == pytest.approx(2.0, rel=0.01)


def test_a_step_is_seen_within_seconds_and_noise_is_none() -> None:
    world = Counting(1)
    world.run(300, 2.0)
    assert world.flow.estimate(now=world.now) == pytest.approx(2.0, rel=0.01)
    world.run(20, 10.0)
    assert world.flow.estimate(now=world.now) == pytest.approx(10.0, rel=0.05)
    world.run(60, 2.0)
    assert world.flow.estimate(now=world.now) == pytest.approx((20 * 10 + 100 * 2) / 120, rel=0.1), "slow to fall"


def test_chance_is_taken_for_a_step_once_in_three_hours_at_most() -> None:
    found = 0
    for rate, seed in itertools.product((1.0, 4.0, 8.0), (1, 2, 3)):
        world, chance, was_step = Counting(1), random.Random(seed), False
        world.run(120, rate)
        for _ in range(3 * 720):
            world.run(5, arrivals(rate * 5, chance) / 5)
            is_step = world.flow.estimate(now=world.now) > max(world.rate(60), world.rate(120))
            found, was_step = found + (is_step and not was_step), is_step
    assert found <= 27 / 3


def test_the_surge_is_how_much_the_load_has_grown_within_a_cold_start() -> None:
    world = Counting(1)
    for rate in (2, 4, 6, 8):
        world.run(300, rate)
    grown = world.flow.surge(quantile=1.0, horizon_seconds=100)
    assert grown == pytest.approx(2.0, rel=0.05)
    assert 0 <= world.flow.surge(quantile=0.5, horizon_seconds=100) < grown
    assert world.flow.surge(quantile=0.0, horizon_seconds=100) == 0.0
    assert Flow().surge(quantile=0.9, horizon_seconds=100) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_pods_that_come_and_go_at_random_leave_the_rate_within_a_twentieth(seed: int) -> None:
    chance, world = random.Random(seed), Counting(6)
    for i in range(60):
        world.run(10, 12.0)
        name = chance.choice(sorted(world.pods))
        match chance.randrange(3):
            case 0:
                world.pods[name] = Reading(at=world.now, running=0, waiting=0)
            case 1 if len(world.pods) > 2:
                del world.pods[name]
            case _:
                world.pods[f"n{i}"], world.ready[f"n{i}"] = Reading(at=world.now, running=0, waiting=0), world.now
        if i > 12:
            assert world.rate() == pytest.approx(12.0, rel=0.05)
