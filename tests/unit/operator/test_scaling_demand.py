"""What requests ask of pods: how many they are, what they are like, and what is not seen of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from tandem_operator.scaling.decision import Health, Limited
from tandem_operator.scaling.policy import Behavior, Bounds, Direction, Limit, Strategy, Target, Unit
from tandem_operator.scaling.reading import Distribution, Reading
from tandem_operator.scaling.traffic import Traffic, passed
from tests.unit.operator.scaling_world import OUTPUT, PROMPT, World, make_policy


def learned_world(**others: Any) -> World:
    """A world whose step times are known, and whose load has been the same for a while."""
    world = World(**{"policy": make_policy(surge_quantile=0.0), **others})
    world.vary(240, low=1.0, high=8.0)
    world.rate = 12.0
    world.run(300)
    assert world.decisions[-1].is_learned
    return world


# -- how many ----------------------------------------------------------------------------------------------------------


def needed(world: World) -> int:
    """Pods that the load asks for, by what the decision says."""
    return int(world.decisions[-1].reason.partition("needs ")[2].partition(":")[0])


def test_requests_that_wait_ask_for_as_many_pods_as_work_them_off_within_a_minute() -> None:
    policy = make_policy(surge_quantile=0.0, bounds=Bounds(20, 40))
    waiting, more = learned_world(wanted=20, policy=policy), learned_world(wanted=20, policy=policy)
    assert needed(waiting) == 3
    waiting.engines[0].waiting = 4800.0
    more.rate += 80.0
    assert " and 4800 that wait, " in waiting.run(300).reason
    more.run(300)
    assert needed(waiting) == pytest.approx(needed(more), abs=1)
    assert needed(more) > 12


@pytest.mark.parametrize("silent", [2, 4])
def test_engines_that_say_nothing_are_taken_to_have_as_many_requests_as_the_others(silent: int) -> None:
    policy = make_policy(surge_quantile=0.0, bounds=Bounds(15, 40))
    world = learned_world(wanted=15, policy=policy)
    world.rate = 75.0
    world.run(300)
    all_seen = needed(world)
    world.silent = {engine.name for engine in world.engines[:silent]}
    assert world.run(300).health is Health.PARTIAL
    assert needed(world) == pytest.approx(all_seen, abs=1)


def test_engines_that_say_nothing_count_for_as_much_also_where_requests_in_work_are_counted() -> None:
    policy = make_policy(strategy=Strategy.CONCURRENCY, requests_per_pod=10.0, bounds=Bounds(10, 60))
    world = World(policy=policy, wanted=10, rate=30.0)
    world.silent = {"pod-0", "pod-1", "pod-2"}
    work = 10 * world.run(5).replicas
    assert work == pytest.approx(sum(engine.running for engine in world.engines[:10]), abs=10)


# -- what they are like ------------------------------------------------------------------------------------------------


def capacity(**engine: float) -> float:
    """Requests a second that a pod does within the target, as it was learned of such engines."""
    world = World(policy=make_policy(surge_quantile=0.0, bounds=Bounds(3, 3)))
    for each in world.engines:
        for name, value in engine.items():
            setattr(each, name, value)
    world.vary(480, low=1.0, high=12.0)
    world.rate = 6.0
    decision = world.run(900)
    assert decision.is_learned
    return decision.figures.capacity_rate


def test_a_pod_does_more_requests_whose_prompts_are_in_its_prefix_cache() -> None:
    assert capacity(cached_share=0.9) > 1.2 * capacity()


def test_a_pod_does_more_requests_with_more_tokens_a_step() -> None:
    assert capacity(tokens_per_step=2.5) > 1.5 * capacity()


def test_a_pod_does_fewer_requests_where_some_take_much_longer_a_token_than_others() -> None:
    assert capacity(slow=2.0) < 0.8 * capacity()


def reading(at: float, requests: float, *, cached: float = 0.0, steps: float | None = None) -> Reading:
    """Of an engine that has answered so many requests in all."""
    tokens = requests * OUTPUT
    times = Distribution((0.1, math.inf), (requests, requests), requests * 0.05)
    return Reading(
        at=at,
        running=0,
        waiting=0,
        finished=requests,
        prompt_tokens=requests * PROMPT,
        cached_tokens=requests * PROMPT * cached,
        output_tokens=tokens,
        answered=requests,
        answered_tokens=tokens,
        steps=Distribution((math.inf,), (requests * (OUTPUT - 1) if steps is None else steps,), 1.0),
        first_token=times,
        output_token=times,
    )


def told(*readings: Reading, traffic: Traffic | None = None) -> Traffic:
    """What one engine tells, reading by reading."""
    traffic = traffic or Traffic()
    for before, now in itertools.pairwise(readings):
        traffic = passed(traffic, {"a": now}, before={"a": before})
    return traffic


def test_requests_are_what_was_counted_between_two_readings() -> None:
    traffic = told(reading(0, 1000), reading(5, 1010, cached=0.0))
    assert (traffic.request_prompt_tokens, traffic.request_output_tokens) == (PROMPT, OUTPUT)
    assert (traffic.started, traffic.answered, traffic.tokens_per_step) == (10, 10, 1.0)


def test_an_engine_that_starts_anew_takes_nothing_back_of_what_was_counted() -> None:
    before = told(reading(0, 1000), reading(5, 1010))
    after = told(reading(5, 1010), reading(10, 3), traffic=before)
    faded = math.exp(-5 / 150)
    assert after.started == pytest.approx(before.started * faded)
    assert after.prompt_tokens == pytest.approx(before.prompt_tokens * faded)
    assert after.output_token.count == pytest.approx(before.output_token.count * faded)
    assert after.is_known


def test_what_is_old_counts_less_and_less() -> None:
    traffic = told(reading(0, 0), reading(5, 100), reading(155, 100))
    assert traffic.started == pytest.approx(100 / math.e)


def test_prompts_that_were_cached_need_no_computing() -> None:
    assert told(reading(0, 0), reading(5, 10)).computed_share == 1.0
    assert told(reading(0, 0), reading(5, 10, cached=0.75)).computed_share == pytest.approx(0.25)
    assert told(reading(0, 0), reading(5, 10, cached=1.0)).computed_share == 0.01, "something always is"


def test_speculation_gives_a_request_several_tokens_a_step() -> None:
    steps = 10 * (OUTPUT - 1) / 2.5
    assert told(reading(0, 0), reading(5, 10, steps=steps)).tokens_per_step == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("counts", "seconds", "spread"),
    [
        ((0.0, 100.0, 100.0), 15.0, 1.3),  # all within one bucket, as far as that tells
        ((90.0, 100.0, 100.0), 9.0, 1.67),
        ((90.0, 100.0, 100.0), 2.0, 3.0),  # no more than that is believed
        ((4.0, 4.0, 4.0), 0.1, 1.0),  # too few to say
    ],
)
def test_the_spread_is_how_much_longer_the_slower_requests_take_a_token(
    counts: tuple[float, float, float], seconds: float, spread: float
) -> None:
    traffic = Traffic(output_token=Distribution((0.1, 0.2, math.inf), counts, seconds))
    assert traffic.spread(0.95) == pytest.approx(spread, rel=0.01)


# -- what keeps replicas from following --------------------------------------------------------------------------------


def test_that_behavior_allows_no_more_at_once_is_told() -> None:
    slowly = Direction((Limit(Unit.PODS, 1, 60.0),))
    world = learned_world(policy=make_policy(surge_quantile=0.0, behavior=replace(Behavior(), up=slowly)))
    assert world.decisions[-1].limited is Limited.NO
    world.rate = 40.0
    assert world.run(30).limited is Limited.BEHAVIOR
    assert world.wanted == 4
    assert world.run(900).limited is Limited.NO


def test_that_fewer_pods_than_the_least_would_do_is_told() -> None:
    world = learned_world(policy=make_policy(surge_quantile=0.0, bounds=Bounds(3, 20)))
    world.rate = 0.5
    decision = world.run(900)
    assert (decision.replicas, decision.limited) == (3, Limited.AT_LEAST)


def test_a_target_for_the_first_token_alone_asks_for_no_pace() -> None:
    world = learned_world(policy=make_policy(surge_quantile=0.0, target=Target(95, 2.0, None)))
    assert world.decisions[-1].figures.output_token_attainment is None
    assert world.decisions[-1].figures.first_token_attainment == 1.0
