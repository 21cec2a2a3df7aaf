"""What quantizing has cost: paired, with its bound, and judged by thresholds that may change."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from tandem_contracts.quality import (
    LongContext,
    Quality,
    TaskResult,
    Thresholds,
    quality_of,
    recovery_percent_of,
    shortcomings,
)

GOOD = Quality(
    tokens=20440,
    perplexity_source=67.7,
    perplexity=67.75,
    increase_percent=0.07,
    increase_percent_upper=0.11,
    kl_divergence=0.00017,
    top1_agreement=0.986,
    evaluation="ab" * 32,
)
TWO_BITS = replace(GOOD, increase_percent=2.6, increase_percent_upper=2.95, kl_divergence=0.0338, top1_agreement=0.824)
"""As measured of W2A16, whose perplexity alone would pass."""

ARC = TaskResult(name="arc", metric="acc_norm,none", source=0.5, quantized=0.49, recovery_percent=98.0)
RECALL = LongContext(tokens=16384, wanted_tokens=16384, recall_source=0.8, recall=0.75)
WHOLE = replace(GOOD, tasks=(ARC, replace(ARC, name="gsm8k")), long_context=RECALL)


def test_the_difficulty_of_the_text_cancels_out() -> None:
    chance = random.Random(3)
    source = [chance.uniform(1, 6) for _ in range(40)]
    losses = [loss + chance.gauss(0.01, 0.002) for loss in source]
    quality = quality_of(source, losses, tokens=1, kl_divergence=0, top1_agreement=1, evaluation="")
    assert quality.increase_percent == pytest.approx(100 * (math.exp(0.01) - 1), abs=0.1)
    assert quality.increase_percent < quality.increase_percent_upper < quality.increase_percent + 0.1


def test_the_bound_is_that_of_the_mean_of_the_differences() -> None:
    quality = quality_of([1.0, 1.0], [1.0, 1.2], tokens=1, kl_divergence=0, top1_agreement=1, evaluation="")
    assert quality.increase_percent == pytest.approx(100 * (math.exp(0.1) - 1))
    assert quality.increase_percent_upper == pytest.approx(100 * (math.exp(0.1 + 12.7062 * 0.1) - 1))


@pytest.mark.parametrize("windows", [2, 3, 5, 20, 22, 40])
def test_the_true_rise_lies_above_the_bound_as_rarely_as_is_said_however_few_windows_there_are(windows: int) -> None:
    chance, tries, true = random.Random(windows), 1500, 100 * (math.exp(0.02) - 1)
    above = 0
    for _ in range(tries):
        losses = [1.0 + chance.gauss(0.02, 0.02) for _ in range(windows)]
        told = quality_of([1.0] * windows, losses, tokens=1, kl_divergence=0, top1_agreement=1, evaluation="")
        above += told.increase_percent_upper < true
    assert 0.01 < above / tries < 0.04


def test_a_ruined_model_is_told_and_does_not_overflow() -> None:
    quality = quality_of([1.0, 2.0], [1e6, 2e6], tokens=1, kl_divergence=9, top1_agreement=0, evaluation="")
    assert quality.increase_percent > 1e6
    assert len(shortcomings(quality, Thresholds.of_bits(4))) == 3


@pytest.mark.parametrize("nothing", [math.nan, math.inf])
def test_a_model_that_says_no_numbers_is_ruined_and_fails_every_bound(nothing: float) -> None:
    quality = quality_of([1.0, 2.0], [nothing, 2.0], tokens=1, kl_divergence=nothing, top1_agreement=0, evaluation="")
    assert Quality.from_data(json.loads(json.dumps(quality.to_data()))).kl_divergence == quality.kl_divergence
    assert len(shortcomings(quality, Thresholds.of_bits(2))) == 3


def test_a_source_that_says_no_numbers_cannot_be_compared_with() -> None:
    with pytest.raises(ValueError, match="the source itself is not a finite number"):
        quality_of([math.nan, 2.0], [1.0, 2.0], tokens=1, kl_divergence=0, top1_agreement=1, evaluation="")


@pytest.mark.parametrize("losses", [([], []), ([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_too_few_windows_say_nothing(losses: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="at least 2 pairs"):
        quality_of(*losses, tokens=1, kl_divergence=0, top1_agreement=1, evaluation="")


def test_two_bits_are_refused_by_what_perplexity_hides() -> None:
    thresholds = Thresholds.of_bits(2)
    (told,) = shortcomings(TWO_BITS, thresholds)
    assert told == "the most likely token is the same in 82.4 % (needed: 92 %)"
    assert shortcomings(TWO_BITS, replace(thresholds, top1_agreement=0.8)) == ()


def test_what_is_good_enough_depends_on_the_bits_and_is_the_users_to_say() -> None:
    assert shortcomings(GOOD, Thresholds.of_bits(8)) == ()
    worse = replace(GOOD, increase_percent_upper=2.0, kl_divergence=0.03, top1_agreement=0.95)
    assert shortcomings(worse, Thresholds.of_bits(4)) == ()
    assert len(shortcomings(worse, Thresholds.of_bits(8))) == 3
    strict = Thresholds(perplexity_increase_percent=0.1, kl_divergence=1.0, top1_agreement=0.0)
    (told,) = shortcomings(GOOD, strict)
    assert told == "perplexity rises by 0.07 %, at most 0.11 % with 95 % confidence (allowed: 0.1 %)"


@pytest.mark.parametrize("quality", [GOOD, WHOLE, replace(GOOD, tasks=(ARC,)), replace(GOOD, long_context=RECALL)])
def test_figures_come_back_as_they_were_told(quality: Quality) -> None:
    assert Quality.from_data(json.loads(json.dumps(quality.to_data()))) == quality


def test_what_was_not_measured_is_not_told_so_that_older_figures_are_still_read() -> None:
    assert GOOD.to_data() == {
        "tokens": 20440,
        "perplexitySource": 67.7,
        "perplexity": 67.75,
        "increasePercent": 0.07,
        "increasePercentUpper": 0.11,
        "klDivergence": 0.00017,
        "top1Agreement": 0.986,
        "evaluation": "ab" * 32,
    }


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ({"tasks": 7}, "tasks"),
        ({"tasks": [7]}, "must be an object"),
        ({"tasks": [{**ARC.to_data(), "source": math.inf}]}, "source"),
        ({"longContext": {"tokens": 16384}}, "wantedTokens"),
    ],
)
def test_figures_of_tasks_and_long_contexts_that_are_none_are_refused(harm: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Quality.from_data({**GOOD.to_data(), **harm})


TASKS = replace(Thresholds.of_bits(8), min_task_recovery_percent={"arc": 97.0})
RECALLING = replace(Thresholds.of_bits(8), min_long_context_recall=0.9)


@pytest.mark.parametrize(
    ("quality", "thresholds", "told"),
    [
        (WHOLE, TASKS, ""),
        (WHOLE, Thresholds.of_bits(8), ""),
        (GOOD, TASKS, "task arc was not measured (needed: 97 % of the source's score)"),
        (
            replace(WHOLE, tasks=(replace(ARC, quantized=0.4, recovery_percent=80.0),)),
            TASKS,
            "task arc: acc_norm,none is 0.4, 80.0 % of the source's 0.5 (needed: 97 %)",
        ),
        (WHOLE, RECALLING, ""),
        (GOOD, RECALLING, "recall from a long context was not measured (needed: 90 % of the source's)"),
        (
            replace(WHOLE, long_context=replace(RECALL, recall=0.1)),
            RECALLING,
            "10 % is recalled from 16384 tokens, by the source 80 % (needed: 90 % of that)",
        ),
        (
            replace(WHOLE, long_context=replace(RECALL, recall_source=0.0, recall=0.0)),
            RECALLING,
            "the source itself recalls nothing from 16384 tokens, so that cannot be judged",
        ),
        (
            replace(WHOLE, long_context=replace(RECALL, recall_source=0.0, recall=0.0)),
            replace(RECALLING, min_long_context_recall=0.0),
            "",
        ),
    ],
)
def test_tasks_and_recall_are_judged_beside_the_source_where_they_are_wanted(
    quality: Quality, thresholds: Thresholds, told: str
) -> None:
    assert shortcomings(quality, thresholds) == ((told,) if told else ())


@pytest.mark.parametrize(("source", "quantized", "percent"), [(0.8, 0.6, 75), (0.5, 0.6, 120), (0, 0, 0), (0, 0.1, 0)])
def test_a_task_that_the_source_scores_nothing_at_shows_nothing(
    source: float, quantized: float, percent: float
) -> None:
    assert recovery_percent_of(source, quantized) == pytest.approx(percent)


@pytest.mark.parametrize("harm", [{"klDivergence": float("nan")}, {"tokens": "many"}, {"evaluation": 7}])
def test_figures_that_are_none_are_refused(harm: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(harm))):
        Quality.from_data({**GOOD.to_data(), **harm})
