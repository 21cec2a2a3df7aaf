"""Pearson's chi-square test of counts against the probabilities that they should have. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SIGNIFICANCE = 1e-6
"""One of so many tests of a sampler without fault alarms; a whole run has fewer than a hundred."""
LEAST_EXPECTED = 5.0
"""Of a cell; those with less are taken together."""


@dataclass(frozen=True)
class Verdict:
    """How improbable it is that counts come from the probabilities."""

    draws: int
    statistic: float
    freedom: int

    @property
    def p_value(self) -> float:
        """By Wilson and Hilferty's approximation, good to a few percent of itself from three degrees of freedom on."""
        if not self.freedom:
            return 1.0
        spread = 2 / (9 * self.freedom)
        deviations = ((self.statistic / self.freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
        return math.erfc(deviations / math.sqrt(2)) / 2

    @property
    def is_as_expected(self) -> bool:
        return self.p_value >= SIGNIFICANCE


def compared(counts: Sequence[Sequence[float]], probabilities: Sequence[Sequence[float]]) -> Verdict:
    """One row for each context: how often each token came after it, and how probable each was.

    What was counted and has no probability at all is infinitely improbable.
    """
    statistic, freedom, draws = 0.0, 0, 0
    for found, expected in zip(counts, probabilities, strict=True):
        total = sum(found)
        draws += round(total)
        cells, rest = [], [0.0, 0.0]
        for count, probability in zip(found, expected, strict=True):
            if not probability and count:
                return Verdict(draws, math.inf, 1)
            if total * probability >= LEAST_EXPECTED:
                cells.append((count, total * probability))
            else:
                rest = [rest[0] + count, rest[1] + total * probability]
        if rest[1] >= LEAST_EXPECTED or not cells:
            cells.append((rest[0], rest[1]))
        else:
            count, mean = cells.pop()
            cells.append((count + rest[0], mean + rest[1]))
        statistic += sum((count - mean) ** 2 / mean for count, mean in cells if mean)
        freedom += len(cells) - 1
    return Verdict(draws, statistic, freedom)
