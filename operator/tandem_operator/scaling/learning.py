"""How long a decode step takes, learned from engines that work: a ridge regression. Pure.

`T = base + prompt·p + context·c + request·n`, with no negative part. Samples of like load are kept as one, so that a
long time at one load does not outweigh the others. Source: ../shared/background/autoscaling.md 6.1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tandem_operator.scaling.policy import StepModel
from tandem_operator.scaling.reading import Reading

SAMPLE_SECONDS = 15.0
JITTER_SECONDS = 1.0
"""By which scrapes of every 15 seconds may be nearer to each other: without it each second one would be a sample."""
_LEAST_STEPS = 20.0
_LEAST_SAMPLES = 12.0
_LEAST_SPAN = 2.0
_CELLS_KEPT = 100
_MOST_WEIGHT = 20.0
"""A mean moves with a 20th of a new sample: so it follows an engine that changes."""
_RIDGE = 2e-5
"""So little that it decides where samples do not tell parts of a step from each other, and nowhere else."""
_OUTLIER = 4.0
"""Times the median error, beyond which a sample counts less (Huber)."""
_FEATURES = 4


@dataclass(frozen=True)
class Cell:
    """The mean of samples of like load."""

    seconds: float
    prompt_tokens: float
    context_tokens: float
    requests: float
    weight: float
    at: float

    @property
    def features(self) -> tuple[float, float, float, float]:
        """What the coefficients of a StepModel are multiplied with."""
        return 1.0, self.prompt_tokens, self.context_tokens, self.requests


Place = tuple[int, int, int]


@dataclass(frozen=True)
class Watch:
    """One engine since its last sample."""

    begin: Reading
    readings: int = 0
    running: float = 0.0
    context_tokens: float = 0.0
    """Sums over the readings."""


@dataclass(frozen=True)
class Learned:
    """Of one kind of pods."""

    cells: Mapping[Place, Cell] = field(default_factory=dict)
    samples: float = 0.0
    model: StepModel | None = None
    """None until the samples tell enough."""


def watched(watch: Watch | None, reading: Reading, *, context_of_request: float) -> tuple[Watch, Cell | None]:
    """An engine watched on, and a sample when one is due. Times when it had nothing to do are left out."""
    if watch is None or reading.steps.count < watch.begin.steps.count or reading.running <= 0:
        return Watch(reading), None
    if reading.at <= watch.begin.at:
        return watch, None
    tokens = reading.kv_usage * reading.kv_tokens or reading.running * context_of_request
    watch = Watch(watch.begin, watch.readings + 1, watch.running + reading.running, watch.context_tokens + tokens)
    if reading.at - watch.begin.at < SAMPLE_SECONDS - JITTER_SECONDS:
        return watch, None
    return Watch(reading), _sample(watch, reading)


def _sample(watch: Watch, reading: Reading) -> Cell | None:
    begin = watch.begin
    steps = reading.steps.count - begin.steps.count
    if steps < _LEAST_STEPS:
        return None
    seconds = (reading.steps.seconds - begin.steps.seconds) / steps
    computed = (reading.prompt_tokens - reading.cached_tokens) - (begin.prompt_tokens - begin.cached_tokens)
    if seconds <= 0 or computed < 0:
        return None
    return Cell(
        seconds=seconds,
        prompt_tokens=computed / (reading.at - begin.at) * seconds,
        context_tokens=watch.context_tokens / watch.readings,
        requests=watch.running / watch.readings,
        weight=1.0,
        at=reading.at,
    )


def learned_from(learned: Learned, samples: Sequence[Cell]) -> Learned:
    """The same with more samples."""
    if not samples:
        return learned
    cells = dict(learned.cells)
    for sample in samples:
        place = _place(sample)
        cells[place] = _merged(cells[place], sample) if place in cells else sample
    while len(cells) > _CELLS_KEPT:
        del cells[min(cells, key=lambda place: cells[place].at)]
    count = learned.samples + len(samples)
    found = list(cells.values())
    model = fitted(found) if _tells_enough(found, count) else None
    return Learned(cells, count, model)


def fitted(cells: Sequence[Cell]) -> StepModel:
    """The coefficients, none negative, that err least by share of the step, and by little where they differ."""
    weights = [cell.weight / cell.seconds**2 for cell in cells]
    scales = [max(max(cell.features[i] for cell in cells), 1e-9) for i in range(_FEATURES)]
    found: tuple[float, ...] = (0.0,) * _FEATURES
    for _ in range(3):
        found = _least_squares(cells, weights, scales)
        errors = [abs(_predicted(found, cell) - cell.seconds) / cell.seconds for cell in cells]
        usual = max(sorted(errors)[len(errors) // 2], 0.005)
        weights = [
            cell.weight / cell.seconds**2 * min(1.0, _OUTLIER * usual / max(error, 1e-9))
            for cell, error in zip(cells, errors, strict=True)
        ]
    return StepModel(*found)


def _predicted(found: Sequence[float], cell: Cell) -> float:
    return sum(a * b for a, b in zip(found, cell.features, strict=True))


def _least_squares(cells: Sequence[Cell], weights: Sequence[float], scales: Sequence[float]) -> tuple[float, ...]:
    """Over every choice of coefficients that may be above 0: with four there are few enough to try all."""
    rows = [[value / scale for value, scale in zip(cell.features, scales, strict=True)] for cell in cells]
    total = sum(weights)
    usual = sum(w * cell.seconds for w, cell in zip(weights, cells, strict=True)) / total
    gram = [
        [sum(w * row[i] * row[j] for w, row in zip(weights, rows, strict=True)) for j in range(4)] for i in range(4)
    ]
    right = [sum(w * r[i] * cell.seconds for w, r, cell in zip(weights, rows, cells, strict=True)) for i in range(4)]
    for i in range(_FEATURES):
        gram[i][i] += _RIDGE * total
    best: tuple[float, list[float]] = (math.inf, [usual, 0.0, 0.0, 0.0])
    for size in range(1, _FEATURES + 1):
        for chosen in itertools.combinations(range(_FEATURES), size):
            solved = _solved([[gram[i][j] for j in chosen] for i in chosen], [right[i] for i in chosen])
            if solved is None or min(solved) < 0:
                continue
            whole = [0.0] * _FEATURES
            for i, value in zip(chosen, solved, strict=True):
                whole[i] = value
            # Up to a constant, what is minimised: x·Gx − 2 r·x.
            cost = sum(whole[i] * (sum(gram[i][j] * whole[j] for j in range(4)) - 2 * right[i]) for i in range(4))
            best = min(best, (cost, whole))
    return tuple(value / scale for value, scale in zip(best[1], scales, strict=True))


def _solved(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Gauss with pivoting; None for a matrix that has no inverse."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        if abs(rows[i][i]) < 1e-12:
            return None
        for k in range(i + 1, size):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    solved = [0.0] * size
    for i in reversed(range(size)):
        rest = sum(rows[i][k] * solved[k] for k in range(i + 1, size))
        solved[i] = (rows[i][size] - rest) / rows[i][i]
    return solved


def _tells_enough(found: Sequence[Cell], count: float) -> bool:
    if count < _LEAST_SAMPLES:
        return False
    spans = [
        max(values) >= _LEAST_SPAN * max(min(values), 1e-9)
        for values in ([c.prompt_tokens for c in found], [c.context_tokens for c in found])
    ]
    return any(spans)


def _place(sample: Cell) -> Place:
    """Loads within about 40 % of each other are alike."""
    values = (sample.prompt_tokens, sample.context_tokens, sample.requests)
    prompt, context, requests = (round(2 * math.log2(1 + value)) for value in values)
    return prompt, context, requests


def _merged(cell: Cell, sample: Cell) -> Cell:
    weight = min(cell.weight + 1, _MOST_WEIGHT)
    part = 1 / weight

    def mean(a: float, b: float) -> float:
        return a + (b - a) * part

    return Cell(
        seconds=mean(cell.seconds, sample.seconds),
        prompt_tokens=mean(cell.prompt_tokens, sample.prompt_tokens),
        context_tokens=mean(cell.context_tokens, sample.context_tokens),
        requests=mean(cell.requests, sample.requests),
        weight=weight,
        at=sample.at,
    )
