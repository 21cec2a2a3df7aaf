"""What a table of rows says of ours beside the others: who dominates it, and whether the best tuned one is beaten."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.scaling.comparison import Row, best_of
from benchmarks.scaling.contestants import CONTESTANTS
from benchmarks.scaling.scores import Score
from benchmarks.scaling.workloads import ALL, MAIN
from tandem_operator.scaling.policy import Target

HEADROOM = "headroom"
OURS = (HEADROOM, "concurrency")
"""Both strategies of the operator: `concurrency` is no baseline."""
WON_POINTS, WON_REPLICAS = 2.0, -10.0
"""More requests in time, or replicas in percent, than those of the best tuned baseline."""
MOST_SETTLED_CHANGES = 2.0
"""An hour."""


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Sentences, each with its figures."""
    return [*_dominated(rows), *_beside_best(rows), *_below_percentile(rows), *_restless(rows)]


def dominators(ours: Row, rows: Sequence[Row]) -> list[Row]:
    """Baselines at their defaults that are better in one respect and no worse in the other: requests in time, and
    replicas, by the mean or by replica hours.
    """
    mine = ours.score
    costs = ("avg_replicas", "replica_hours")
    return [
        row
        for row in rows
        if row.workload == ours.workload and row.role == "default" and row.controller not in OURS
        if any(_is_better(row.score, mine, cost) for cost in costs)
    ]


def _is_better(other: Score, mine: Score, cost: str) -> bool:
    pairs = (other.attainment, mine.attainment), (-getattr(other, cost), -getattr(mine, cost))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def best_baseline(workload: str, rows: Sequence[Row]) -> Row | None:
    """By `best_of` among the best tuned ones; None where nothing was tuned."""
    tuned = {
        row: row.score for row in rows if row.workload == workload and row.role == "best" and row.controller not in OURS
    }
    return best_of(tuned) if tuned else None


def untuned(workload: str, rows: Sequence[Row]) -> list[str]:
    """Baselines that have a row of their default, and are to be tried with others, and were not."""
    roles: dict[str, set[str]] = {}
    for row in rows:
        if row.workload == workload and row.controller not in OURS:
            roles.setdefault(row.controller, set()).add(row.role)
    return [name for name, found in roles.items() if CONTESTANTS[name].trials and "best" not in found]


def _defaults(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.controller == HEADROOM and row.role == "default"]


def _dominated(rows: Sequence[Row]) -> list[str]:
    told = [
        f"{_told(ours)} is dominated by {' and '.join(map(_told_other, others))}."
        for ours in _defaults(rows)
        if (others := dominators(ours, rows))
    ]
    return told or ["No workload is dominated by a baseline at its default."]


def _beside_best(rows: Sequence[Row]) -> list[str]:
    told, won = [], 0
    pairs = [(ours, best_baseline(ours.workload, rows)) for ours in _defaults(rows) if ALL.get(ours.workload) in MAIN]
    for ours, best in pairs:
        if best is None:
            continue
        if missing := untuned(ours.workload, rows):
            told.append(
                f"{ours.workload}: which one is the best tuned is not known: no trials of {', '.join(missing)}."
            )
            continue
        points = ours.score.attainment - best.score.attainment
        replicas = _more(ours.score.avg_replicas, best.score.avg_replicas)
        hours = _more(ours.score.replica_hours, best.score.replica_hours)
        is_won = points >= WON_POINTS or replicas <= WON_REPLICAS
        won += is_won
        found = f"{points:+.1f} points, {replicas:+.0f} % replicas, {hours:+.0f} % replica hours"
        told.append(f"{_told(ours)}; best tuned is {_told_other(best)}: {found}, {'won' if is_won else 'not won'}.")
    if told:
        told.append(f"{won} of {len(told)} are won: {WON_POINTS:+g} points or {WON_REPLICAS:+g} % replicas.")
    return told


def _below_percentile(rows: Sequence[Row]) -> list[str]:
    wanted = Target().percentile
    below = [row for row in _defaults(rows) if row.score.attainment < wanted]
    return [f"Below the {wanted:g} % that are asked for: {_told(row)}." for row in below]


def _restless(rows: Sequence[Row]) -> list[str]:
    found = [(row, row.score.settled_changes) for row in _defaults(rows) if row.score.settled_changes is not None]
    return [
        f"{row.workload}: at most {changes:.1f} changes an hour once settled ({MOST_SETTLED_CHANGES:g})."
        for row, changes in found
    ]


def _more(ours: float, theirs: float) -> float:
    return 100 * (ours / theirs - 1)


def _told(row: Row) -> str:
    score = row.score
    cost = f"{score.avg_replicas:.2f} replicas ({score.replica_hours:.2f} hours)"
    return f"{row.workload} {score.attainment:.2f} % at {cost}"


def _told_other(row: Row) -> str:
    score = row.score
    named = f"{row.controller} ({row.setting})" if row.setting else row.controller
    return f"{named} {score.attainment:.2f} % at {score.avg_replicas:.2f} ({score.replica_hours:.2f})"
