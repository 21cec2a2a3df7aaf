"""Every autoscaler on every workload: at its default, and at the best of its trials, over several seeds.

One rule says what is best, among the settings of one autoscaler and among autoscalers: `best_of`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from benchmarks.scaling.contestants import Contestant, setting_for
from benchmarks.scaling.scores import Score, mean_of, score_of
from benchmarks.scaling.simulation import Run, Simulation
from benchmarks.scaling.workloads import Workload

TRIAL_SEEDS = (1001, 1002)
"""Of no scored run."""
WANTED = 99.0
"""Percent. The best is the cheapest that attains this with each seed, else the one with the best worst seed."""

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    workload: str
    controller: str
    setting: str
    role: str
    """`default`, `best`, `trial`, or `one knob`: a setting that was chosen beforehand."""
    seeds: int
    score: Score

    @property
    def data(self) -> dict[str, object]:
        """For JSON."""
        named = {
            "workload": self.workload,
            "controller": self.controller,
            "setting": self.setting,
            "role": self.role,
            "seeds": self.seeds,
        }
        return {**named, **self.score.row}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The reverse."""
        found = dict(data)
        named = {name: found.pop(name) for name in ("workload", "controller", "setting", "role", "seeds")}
        return cls(**named, score=Score(**found))


def run_of(workload: Workload, contestant: Contestant, number: float, *, seed: int) -> Run:
    """One run."""
    setting = setting_for(contestant, workload.setting)
    controller = contestant.make(setting, number)
    return Simulation(setting, controller, workload.stages(seed), seed=seed).run()


def rows_of(
    workload: Workload, contestant: Contestant, *, seeds: Sequence[int], tried: Sequence[float]
) -> Iterator[Row]:
    """The default's, each trial's, and the best one's."""
    usual = row_of(workload, contestant, contestant.default, role="default", seeds=seeds)
    yield usual
    trials = {number: row_of(workload, contestant, number, role="trial", seeds=TRIAL_SEEDS) for number in tried}
    yield from trials.values()
    if trials:
        best = best_of({number: row.score for number, row in trials.items()})
        is_usual = best == contestant.default
        yield replace(usual, role="best") if is_usual else row_of(workload, contestant, best, role="best", seeds=seeds)


def best_of(scores: Mapping[T, Score]) -> T:
    """What somebody who tunes would keep: the cheapest that is good enough, else the best."""
    enough = {each: score for each, score in scores.items() if score.worst_seed_attainment >= WANTED}
    if enough:
        return min(enough, key=lambda each: enough[each].avg_replicas)
    return max(scores, key=lambda each: scores[each].worst_seed_attainment)


def row_of(workload: Workload, contestant: Contestant, number: float, *, role: str, seeds: Sequence[int]) -> Row:
    """The mean of several seeds."""
    runs = (run_of(workload, contestant, number, seed=seed) for seed in seeds)
    scores = [score_of(run, settled_at=workload.settled_at) for run in runs]
    return Row(workload.name, contestant.name, contestant.setting_of(number), role, len(seeds), mean_of(scores))


def rows_in(path: Path) -> list[Row]:
    """Of an earlier run. Raises OSError, or ValueError for what is no such file."""
    try:
        return [Row.from_data(each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not rows of this program: {error!r}") from error


def table_of(rows: Sequence[Row]) -> str:
    """For people; trials are left out."""
    head = f"{'workload':<12} {'controller':<16} {'setting':<36} {'attained':>9} {'worst':>8} {'replicas':>9}"
    more = f" {'of load':>8} {'reversals':>9} {'changes':>8} {'TTFT p90':>9} {'TPOT p90':>9}"
    head += more + f" {'settled':>10}"
    return "\n".join([head, *(line_of(row) for row in rows if row.role != "trial")])


def line_of(row: Row) -> str:
    """One row of it."""
    score = row.score
    setting = f"{row.setting} ({row.role})" if row.setting else ""
    settled = "" if score.settled_changes is None else f" {score.settled_changes:>8.1f}/h"
    return (
        f"{row.workload:<12} {row.controller:<16} {setting:<36} {score.attainment:>7.2f} %"
        f" {score.worst_seed_attainment:>6.2f} % {score.avg_replicas:>9.2f} {score.avg_replicas_of_load:>8.2f}"
        f" {score.reversals:>9.1f} {score.changes:>8.1f}"
        f" {score.first_token_seconds_p90:>7.2f} s {score.output_token_seconds_p90 * 1000:>6.1f} ms{settled}"
    )
