"""What verifiers have measured of remote drafts: from their metrics pages to what a person is told. Pure.

A verifier makes some steps without drafts among those with them, so it knows what drafts gain by itself
(`tandem_contracts.metrics`). Here several verifiers and readings become one figure each, and one that moves by less
than it is worth to be told of stays as it was: status is written when something has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from tandem_contracts import metrics
from tandem_operator.api.status import SpeculationStatus

LEAST_ROWS = 200
"""Rows of decode steps between two readings, below which they say nothing."""
LEAST_READINGS = 3
"""Readings with traffic before a speed-up is told."""
WORTH_TELLING = 0.05
"""A share of the value, by which a figure has to differ from the one that was told."""
EFFECTIVE = 1.02
"""Speed-up from which drafts are said to pay."""

_ACCEPTED, _DRAFTED = (metrics.DRAFT_TOKENS, "accepted"), (metrics.DRAFT_TOKENS, "drafted")
_ROWS = ((metrics.DRAFT_ROWS, "drafted"), (metrics.DRAFT_ROWS, "empty"))
_FAMILIES = (metrics.DRAFT_TOKENS, metrics.DRAFT_ROWS, metrics.DRAFT_DEPTH, metrics.DRAFT_SPEEDUP)


@dataclass(frozen=True)
class Reading:
    """What one verifier's page told. `speedup`: 0 while it is not known."""

    rows: float
    drafted: float
    accepted: float
    depth: float
    speedup: float


@dataclass(frozen=True)
class Measured:
    """Of all verifiers of a deployment. Speed-ups: the best depth over depth 0, lowest and highest seen; 0: none."""

    depth: int
    acceptance: float
    tokens_per_step: float
    speedup: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0


def reading_in(page: str) -> Reading | None:
    """What a launcher's metrics page tells of drafts; None when that is not all there, or not a number."""
    lines = [line for line in page.splitlines() if line.startswith(_FAMILIES)]
    found: dict[tuple[str, str], float] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                found[sample.name, sample.labels.get("outcome", "")] = sample.value
    except ValueError:
        return None
    unknown = float("nan")
    rows = sum(found.get(name, unknown) for name in _ROWS)
    told = Reading(
        rows=rows,
        drafted=found.get(_DRAFTED, unknown),
        accepted=found.get(_ACCEPTED, unknown),
        depth=found.get((metrics.DRAFT_DEPTH, ""), unknown),
        speedup=found.get((metrics.DRAFT_SPEEDUP, ""), 0.0),
    )
    values = (told.rows, told.drafted, told.accepted, told.depth, told.speedup)
    return told if all(0 <= value < float("inf") for value in values) else None


def measured_of(readings: Iterable[Sequence[Reading]]) -> Measured | None:
    """From the readings of each verifier, oldest first; None where too little was decoded with drafts."""
    rows = drafted = accepted = 0.0
    depths: list[float] = []
    speedups: list[float] = []
    telling = 0
    for told in readings:
        for before, after in itertools.pairwise(told):
            if after.rows - before.rows < LEAST_ROWS or after.accepted < before.accepted:  # idle, or started again
                continue
            if after.drafted == before.drafted:  # without drafts the other figures stay as they were last
                continue
            rows += after.rows - before.rows
            drafted += after.drafted - before.drafted
            accepted += after.accepted - before.accepted
            depths.append(after.depth)
            telling += 1
            speedups += [after.speedup] if after.speedup else []
    if not telling:
        return None
    measured = Measured(
        depth=round(sorted(depths)[len(depths) // 2]),
        acceptance=accepted / drafted if drafted else 0.0,
        tokens_per_step=1 + accepted / rows,
    )
    if len(speedups) < LEAST_READINGS:
        return measured
    middle = sorted(speedups)[len(speedups) // 2]
    return Measured(
        depth=measured.depth,
        acceptance=measured.acceptance,
        tokens_per_step=measured.tokens_per_step,
        speedup=middle,
        lowest=min(speedups),
        highest=max(speedups),
    )


def told_of(measured: Measured | None, previous: Mapping[str, object] | None) -> SpeculationStatus | None:
    """What status says: the previous figures while nothing new is known, or nothing that differs enough."""
    try:
        before = SpeculationStatus.model_validate(previous) if previous else None
    except ValidationError:
        before = None  # somebody else wrote it
    if measured is None:
        return before
    now = SpeculationStatus(
        depth=measured.depth,
        acceptance_rate=f"{measured.acceptance:.2f}",
        tokens_per_step=f"{measured.tokens_per_step:.1f}",
        speedup=f"{measured.speedup:.2f}" if measured.speedup else None,
        speedup_interval=f"{measured.lowest:.2f}–{measured.highest:.2f}" if measured.speedup else None,
    )
    return before if before is not None and _is_like(before, now) else now


def is_effective(told: SpeculationStatus) -> bool | None:
    """Whether drafts pay, by what is told; None while that is not known."""
    return _number(told.speedup) >= EFFECTIVE if told.speedup else None


def _is_like(before: SpeculationStatus, now: SpeculationStatus) -> bool:
    if (before.speedup is None) is not (now.speedup is None) or is_effective(before) is not is_effective(now):
        return False
    if (before.depth == 0) is not (now.depth == 0):
        return False
    pairs = (
        (before.acceptance_rate, now.acceptance_rate),
        (before.tokens_per_step, now.tokens_per_step),
        (before.speedup, now.speedup),
    )
    return all(abs(_number(old) - _number(new)) <= WORTH_TELLING * max(_number(old), 0.2) for old, new in pairs)


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
