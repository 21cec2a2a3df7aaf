"""The test of distributions: no false alarm, and a bias found that is smaller than any error of a sampler."""

import math
import random

import pytest

from tests.runtime.proof.chi_square import SIGNIFICANCE, Verdict, compared

ROWS = [[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25], [0.9, 0.1, 0.0, 0.0]]


def drawn(probabilities: list[list[float]], draws: int, seed: int) -> list[list[float]]:
    chance = random.Random(seed)
    counts = [[0.0] * len(row) for row in probabilities]
    for number in range(draws):
        row = number % len(probabilities)
        counts[row][chance.choices(range(len(probabilities[row])), probabilities[row])[0]] += 1
    return counts


@pytest.mark.parametrize(
    ("statistic", "freedom", "p_value"),
    [(7.815, 3, 0.05), (11.345, 3, 0.01), (67.505, 50, 0.05), (86.661, 50, 0.001), (149.449, 100, 0.001)],
)
def test_p_values_are_those_of_the_tables(statistic: float, freedom: int, p_value: float) -> None:
    assert Verdict(1, statistic, freedom).p_value == pytest.approx(p_value, rel=0.05)


def test_draws_from_the_distribution_are_as_expected_with_every_seed() -> None:
    values = [compared(drawn(ROWS, 3000, seed), ROWS).p_value for seed in range(200)]
    assert min(values) > SIGNIFICANCE
    assert 0.4 < sum(values) / len(values) < 0.6, "p-values of the right distribution are spread evenly"


def test_a_few_percent_of_bias_are_found() -> None:
    biased = [[0.46, 0.3, 0.15, 0.09], *ROWS[1:]]
    assert not compared(drawn(biased, 9000, 1), ROWS).is_as_expected


def test_what_cannot_be_drawn_is_found_at_once() -> None:
    counts = drawn(ROWS, 3000, 1)
    counts[2][3] += 1
    assert math.isinf(compared(counts, ROWS).statistic)
    assert not compared(counts, ROWS).is_as_expected


def test_cells_with_few_expected_draws_are_taken_together_and_none_is_lost() -> None:
    verdict = compared([[6, 4, 3, 2, 1]], [[0.5, 0.2, 0.1, 0.1, 0.1]])
    assert (verdict.draws, verdict.freedom) == (16, 1)
    assert compared([[2, 1]], [[0.5, 0.5]]).freedom == 0
