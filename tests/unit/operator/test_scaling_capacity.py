"""What a pod can do and how many a load needs, by formula; how step times are learned; how fast replicas may change."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.scaling.behavior import Change, limited
from tandem_operator.scaling.capacity import Engine, Load, Sizing
from tandem_operator.scaling.learning import Cell, Learned, Watch, fitted, learned_from, watched
from tandem_operator.scaling.policy import Behavior, Direction, Limit, Select, StepModel, Target, Unit
from tandem_operator.scaling.reading import Distribution, Reading

MODEL = StepModel(base=0.02, prompt=8e-5, context=3e-8, request=1e-4)
LOAD = Load(prompt_tokens=1000, computed_tokens=1000, output_tokens=200)
ENGINE = Engine(MODEL, kv_tokens=400_000, most_requests=256)
TARGET = Target(95, 2.0, 0.06)


def test_the_batch_is_bounded_by_the_first_of_target_memory_and_slots() -> None:
    slope = 8e-5 * 1000 / 200 + 3e-8 * 1100 + 1e-4
    assert Sizing(ENGINE, LOAD, TARGET).capacity().requests == pytest.approx((0.06 - 0.02) / slope)
    small = Sizing(replace(ENGINE, kv_tokens=22_000), LOAD, TARGET).capacity()
    assert small.requests == pytest.approx(0.95 * 22_000 / 1100)
    assert Sizing(replace(ENGINE, most_requests=8), LOAD, TARGET).capacity().requests == 8
    derated = Sizing(replace(ENGINE, most_requests=8, derate=0.75), LOAD, TARGET).capacity()
    assert derated.requests == 6


def test_in_steady_state_as_many_are_in_the_batch_as_little_says() -> None:
    sizing = Sizing(ENGINE, LOAD, TARGET)
    requests = sizing.in_batch(2.0)
    assert requests == pytest.approx(2.0 * 200 * sizing.step_seconds(requests))
    assert sizing.in_batch(1000.0) == math.inf


def test_a_pod_at_its_capacity_keeps_the_target() -> None:
    capacity = Sizing(ENGINE, LOAD, TARGET).capacity()
    assert capacity.step_seconds == pytest.approx(0.06)
    assert capacity.rate == pytest.approx(capacity.requests / (200 * 0.06))


def test_the_slower_requests_have_to_keep_the_pace_and_more_tokens_a_step_help_them() -> None:
    slope = 8e-5 * 1000 / 200 + 3e-8 * 1100 + 1e-4
    slower = Sizing(ENGINE, replace(LOAD, spread=1.5), TARGET).capacity()
    assert slower.requests == pytest.approx((0.06 / 1.5 - 0.02) / slope)
    slope = 8e-5 * 1000 / 100 + 3e-8 * 1100 + 1e-4
    quicker = Sizing(ENGINE, replace(LOAD, tokens_per_step=2.0), TARGET).capacity()
    assert quicker.requests == pytest.approx((2 * 0.06 - 0.02) / slope)


LONG = Load(prompt_tokens=8000, computed_tokens=8000, output_tokens=2)
"""Requests of which a pod computes 1.5 prompts a second, and hardly anything else."""


def test_requests_that_wait_for_the_prompts_of_those_before_them_need_more_pods() -> None:
    def needed(rate: float, limit: float) -> int | None:
        return Sizing(ENGINE, LONG, Target(95, limit, None)).need(rate, most=50, sigmas=2.3)

    assert needed(1.0, 60.0) == 1
    alone = Sizing(ENGINE, LONG, TARGET).alone_seconds
    assert alone < 0.7
    assert needed(1.0, 1.5) == 7, "one of a hundred waits for more than a prompt as long as its own"
    assert needed(0.005, 0.75) == 1, "nobody is before most of them"


def test_the_first_token_comes_with_the_first_step_after_the_prompt() -> None:
    def needed(limit: float) -> int | None:
        return Sizing(ENGINE, LOAD, Target(95, limit, None)).need(3.0, most=50, sigmas=2.3)

    load, alone = 3.0 * 0.1, 0.1
    waited = math.log(load / 0.01) * alone / (2 * (1 - load))
    step = Sizing(ENGINE, LOAD, TARGET).step_seconds(Sizing(ENGINE, LOAD, TARGET).in_batch(3.0))
    assert needed(alone + waited + 1.1 * step) == 1
    assert needed(alone + waited + 0.9 * step) == 2


def test_there_is_room_for_more_requests_at_once_than_there_are_in_the_mean() -> None:
    sizing = Sizing(replace(ENGINE, most_requests=8), LOAD, TARGET)
    rate = 7 / (200 * sizing.step_seconds(7))
    assert sizing.need(rate, most=9, sigmas=0.0) == 1
    assert sizing.need(rate, most=9, sigmas=2.3) == 2


def test_a_pod_that_computes_prompts_all_the_time_is_not_enough_whatever_may_be_waited() -> None:
    sizing = Sizing(ENGINE, LONG, Target(95, 1e6, None))
    assert sizing.need(1.45, most=50, sigmas=2.3) == 1
    assert sizing.need(1.5, most=50, sigmas=2.3) == 2
    assert sizing.need(1.5, most=1, sigmas=2.3) is None


RATES = st.floats(0.1, 60)
LOADS = st.builds(
    lambda prompt, share, output, step: Load(prompt, prompt * share, output, step),
    st.floats(10, 8000),
    st.floats(0.05, 1),
    st.floats(2, 2000),
    st.floats(1, 4),
)


def _need(load: Load, rate: float, target: Target = TARGET) -> int:
    return Sizing(ENGINE, load, target).need(rate, most=500, sigmas=2.3) or 501


@given(LOADS, RATES, st.floats(1, 3))
def test_i3_more_requests_never_need_fewer_pods(load: Load, rate: float, factor: float) -> None:
    assert _need(load, rate) <= _need(load, rate * factor)


@given(LOADS, RATES, st.floats(1, 2))
def test_i3_longer_answers_never_need_fewer_pods(load: Load, rate: float, factor: float) -> None:
    """But for the room for chance: a batch of very short requests is small, and chance weighs more in it."""
    longer = replace(load, output_tokens=load.output_tokens * factor)

    def needed(load: Load) -> int:
        return Sizing(ENGINE, load, TARGET).need(rate, most=500, sigmas=0.0) or 501

    assert needed(load) <= needed(longer)
    assert _need(load, rate) <= _need(longer, rate) + 1


@given(LOADS, RATES, st.floats(1, 2))
def test_i3_longer_prompts_never_need_fewer_pods(load: Load, rate: float, factor: float) -> None:
    longer = replace(load, prompt_tokens=load.prompt_tokens * factor, computed_tokens=load.computed_tokens * factor)
    assert _need(load, rate) <= _need(longer, rate)


@given(LOADS, RATES, st.floats(1, 4))
def test_i3_more_slack_never_needs_more_pods(load: Load, rate: float, factor: float) -> None:
    slack = Target(95, 2.0 * factor, 0.06 * factor)
    assert _need(load, rate, slack) <= _need(load, rate)


def test_a_load_that_no_number_of_pods_can_do_is_said() -> None:
    assert Sizing(ENGINE, LOAD, TARGET).need(1e6, most=3, sigmas=2.3) is None


@pytest.mark.parametrize("rate", [0.001, 1.0, 20.0])
def test_a_target_that_no_number_of_pods_keeps_asks_for_no_more_than_the_load_does(rate: float) -> None:
    beyond = Sizing(ENGINE, LOAD, Target(95, 0.001, None))
    assert not beyond.is_in_reach
    assert beyond.need(rate, most=100, sigmas=2.3) == Sizing(ENGINE, LOAD, Target(95, 1e6, None)).need(
        rate, most=100, sigmas=2.3
    )


# -- learning -------------------------------------------------------------------------------------------------------


def _samples(model: StepModel, count: int, *, noise: float = 0.0, seed: int = 1) -> list[Cell]:
    chance = random.Random(seed)
    found = []
    for i in range(count):
        prompt, requests = chance.uniform(0, 400), chance.uniform(1, 80)
        context = requests * chance.uniform(500, 3000)
        seconds = model.seconds(prompt_tokens=prompt, context_tokens=context, requests=requests)
        found.append(Cell(seconds * (1 + chance.gauss(0, noise)), prompt, context, requests, 1.0, float(i)))
    return found


def test_a_model_is_found_in_samples_of_different_loads() -> None:
    learned = learned_from(Learned(), _samples(MODEL, 200, noise=0.03))
    assert learned.model is not None
    for prompt, context, requests in ((0.0, 5e3, 4.0), (300.0, 1e5, 60.0), (50.0, 4e4, 30.0)):
        told = learned.model.seconds(prompt_tokens=prompt, context_tokens=context, requests=requests)
        true = MODEL.seconds(prompt_tokens=prompt, context_tokens=context, requests=requests)
        assert told == pytest.approx(true, rel=0.08)


def test_a_few_samples_that_are_far_off_hardly_count() -> None:
    cells = _samples(MODEL, 60)
    off = [replace(cell, seconds=cell.seconds * 8) for cell in cells[:4]]
    told = fitted([*off, *cells[4:]]).seconds(prompt_tokens=100, context_tokens=4e4, requests=30)
    assert told == pytest.approx(MODEL.seconds(prompt_tokens=100, context_tokens=4e4, requests=30), rel=0.1)


def test_nothing_is_learned_from_few_samples_or_from_one_load() -> None:
    assert learned_from(Learned(), _samples(MODEL, 11)).model is None
    same = [Cell(0.03, 100, 4e4, 30, 1.0, float(i)) for i in range(50)]
    learned = learned_from(Learned(), same)
    assert learned.model is None
    assert len(learned.cells) == 1, "a long time at one load is one sample"


@given(st.lists(st.builds(Cell, *(st.floats(1e-4, 1e4),) * 4, st.just(1.0), st.floats(0, 1e9)), max_size=30))
def test_whatever_is_measured_a_step_never_takes_less_than_nothing(cells: list[Cell]) -> None:
    learned = learned_from(Learned(), cells)
    model = learned.model
    parts = (model.base, model.prompt, model.context, model.request) if model else ()
    assert all(math.isfinite(part) and part >= 0 for part in parts)


# -- behavior -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "target", "changes", "allowed"),
    [
        (4, 20, (), 8),
        (10, 40, (), 20),
        (8, 20, (Change(95.0, 4),), 8),
        (8, 20, (Change(80.0, 4),), 16),
        (8, 1, (), 6),
        (3, 1, (), 2),
        (6, 1, (Change(70.0, -2),), 6),
        (6, 1, (Change(30.0, -2),), 4),
        (5, 5, (), 5),
    ],
)
def test_the_usual_limits(wanted: int, target: int, changes: tuple[Change, ...], allowed: int) -> None:
    assert limited(Behavior(), wanted=wanted, now=100.0, target=target, changes=changes) == allowed


def one(unit: Unit, value: int, *, select: Select = Select.MAX, pods: int | None = None) -> Behavior:
    """The same limit for both directions, and one in pods beside it."""
    limits = (Limit(unit, value, 60.0), *([Limit(Unit.PODS, pods, 60.0)] if pods else []))
    return Behavior(up=Direction(limits, select), down=Direction(limits, select))


@pytest.mark.parametrize(
    ("behavior", "wanted", "changes", "most", "least"),
    [
        (one(Unit.PERCENT, 50), 10, (), 15, 5),
        (one(Unit.PERCENT, 10), 4, (), 5, 3),  # one at least, or nothing would ever change
        (one(Unit.PERCENT, 25), 10, (), 13, 7),  # up to a whole pod
        (one(Unit.PERCENT, 50), 12, (Change(70.0, 4),), 12, 6),  # half of the 8 that there were have come already
        (one(Unit.PERCENT, 50), 12, (Change(30.0, 4),), 18, 6),  # that was longer ago
        (one(Unit.PERCENT, 50), 6, (Change(70.0, -2),), 9, 4),
        (one(Unit.PERCENT, 50, select=Select.MIN, pods=2), 10, (), 12, 8),
        (one(Unit.PERCENT, 10, select=Select.MIN, pods=2), 10, (), 11, 9),
        (one(Unit.PERCENT, 50, pods=2), 10, (), 15, 5),
        (one(Unit.PERCENT, 10, pods=2), 10, (), 12, 8),
        (one(Unit.PODS, 3, select=Select.DISABLED), 10, (), 10, 10),
        (Behavior(up=Direction(()), down=Direction(())), 10, (), 90, 1),
    ],
)
def test_limits_in_percent_are_of_what_there_was_and_select_policy_says_which_of_several_counts(
    behavior: Behavior, wanted: int, changes: tuple[Change, ...], most: int, least: int
) -> None:
    assert limited(behavior, wanted=wanted, now=100.0, target=90, changes=changes) == most
    assert limited(behavior, wanted=wanted, now=100.0, target=1, changes=changes) == least


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 40))
def test_the_limits_hold_over_every_window(targets: list[int], begin: int) -> None:
    behavior = Behavior(
        up=Direction((Limit(Unit.PODS, 3, 30.0),)), down=Direction((Limit(Unit.PODS, 2, 60.0),), Select.MAX)
    )
    wanted, changes = begin, [Change(-1000.0, 0)]
    for i, target in enumerate(targets):
        allowed = limited(behavior, wanted=wanted, now=5.0 * i, target=target, changes=changes)
        changes.append(Change(5.0 * i, allowed - wanted))
        wanted = allowed
    for end in (change.at for change in changes):
        ups = sum(c.by for c in changes if end - 30 < c.at <= end and c.by > 0)
        downs = sum(c.by for c in changes if end - 60 < c.at <= end and c.by < 0)
        assert ups <= 3
        assert downs >= -2


@pytest.mark.parametrize("every", [5.0, 14.6, 15.4, 30.0])
def test_there_is_a_sample_each_quarter_of_a_minute_or_each_reading_that_is_rarer(every: float) -> None:
    """Scrapes of every 15 seconds are never on the second."""
    watch: Watch | None = None
    found = []
    for count in range(round(4 * max(15.0, every) / every) + 1):
        steps = Distribution((math.inf,), (5000.0 * count,), 100.0 * count)
        reading = Reading(at=1000 + count * every, running=3, waiting=0, prompt_tokens=10.0 * count, steps=steps)
        watch, sample = watched(watch, reading, context_of_request=200)
        found += [sample] if sample else []
    assert [(each.seconds, each.requests, each.context_tokens) for each in found] == [(0.02, 3, 600)] * 4
