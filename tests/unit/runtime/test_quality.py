"""What quantizing has cost: paired, with its bound, and judged by thresholds that may change."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from tandem_contracts.quality import Quality, Thresholds, quality_of, shortcomings

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
    assert quality.increase_percent_upper == pytest.approx(100 * (math.exp(0.1 + 1.959964 * 0.1) - 1))


def test_a_ruined_model_is_told_and_does_not_overflow() -> None:
    quality = quality_of([1.0, 2.0], [1e6, 2e6], tokens=1, kl_divergence=9, top1_agreement=0, evaluation="")
    assert quality.increase_percent > 1e6
    assert len(shortcomings(quality, Thresholds.of_bits(4))) == 3


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


def test_figures_come_back_as_they_were_told() -> None:
    assert Quality.from_data(GOOD.to_data()) == GOOD


@pytest.mark.parametrize("harm", [{"klDivergence": float("nan")}, {"tokens": "many"}, {"evaluation": 7}])
def test_figures_that_are_none_are_refused(harm: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(harm))):
        Quality.from_data({**GOOD.to_data(), **harm})
