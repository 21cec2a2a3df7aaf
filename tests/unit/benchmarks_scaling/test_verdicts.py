"""What the benchmark says of its own rows, and how rows of several runs come together."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks.scaling.__main__ import main
from benchmarks.scaling.comparison import Row, rows_in
from benchmarks.scaling.scores import Score, mean_of, score_of
from benchmarks.scaling.simulation import Setting
from benchmarks.scaling.verdicts import best_baseline, dominators, verdicts
from tests.unit.benchmarks_scaling.runs import make_requests, make_run


def make_score(attained: float, replicas: float, *, hours: float | None = None, **others: float) -> Score:
    usual = dict.fromkeys((each.name for each in fields(Score) if each.default is not None), 0.0)
    found = {"attainment": attained, "worst_seed_attainment": attained, "avg_replicas": replicas}
    return Score(**{**usual, **found, "replica_hours": replicas if hours is None else hours, **others})


def make_row(controller: str, attained: float, replicas: float, *, role: str = "default", **others: float) -> Row:
    return Row("S1", controller, "a number", role, 3, make_score(attained, replicas, **others))


OURS = make_row("headroom", 99.5, 6.0)


@pytest.mark.parametrize(
    ("other", "is_dominated"),
    [
        (make_row("hpa", 99.6, 6.0), True),
        (make_row("hpa", 99.6, 6.1), False),
        (make_row("hpa", 99.6, 6.1, hours=5.9), True),
        (make_row("hpa", 99.6, 5.9, hours=6.1), True),
        (make_row("hpa", 99.5, 5.9), True),
        (make_row("hpa", 99.5, 6.0), False),
        (make_row("hpa", 99.4, 5.0), False),
        (make_row("hpa", 99.6, 5.0, role="best"), False),
        (make_row("concurrency", 99.6, 5.0), False),
    ],
)
def test_a_baseline_at_its_default_dominates_where_it_is_better_in_one_respect_and_no_worse_in_the_other(
    other: Row, *, is_dominated: bool
) -> None:
    assert dominators(OURS, [OURS, other]) == ([other] if is_dominated else [])
    assert verdicts([OURS, other])[0].startswith("S1 99.50 %" if is_dominated else "No workload is dominated")


def test_the_best_tuned_baseline_is_the_cheapest_that_is_good_enough_and_never_ours() -> None:
    dear, cheap = make_row("hpa-ttft", 100.0, 6.6, role="best"), make_row("hpa", 99.4, 5.7, role="best")
    rows = [
        OURS,
        dear,
        cheap,
        make_row("concurrency", 99.9, 5.0, role="best"),
        make_row("keda", 98.9, 4.0, role="best"),
    ]
    assert best_baseline("S1", rows) == cheap
    assert best_baseline("S1", [*rows[:2], rows[-1]]) == dear
    assert best_baseline("S2", rows) is None
    assert "+0.1 points, +5 % replicas, +5 % replica hours, not won." in verdicts(rows)[1]
    assert verdicts(rows)[2] == "0 of 1 are won: +2 points or -10 % replicas."


def test_without_the_trials_of_a_baseline_nobody_says_which_is_the_best_tuned() -> None:
    rows = [OURS, make_row("hpa", 99.4, 5.7, role="best"), make_row("keda", 98.9, 4.0), make_row("static", 100.0, 8.0)]
    told = verdicts(rows)
    assert told[1:] == [
        "S1: which one is the best tuned is not known: no trials of keda.",
        "0 of 1 are won: +2 points or -10 % replicas.",
    ]


@pytest.mark.parametrize(
    ("attained", "replicas", "is_won"), [(96.0, 8.9, True), (99.4, 10.0, True), (97.0, 9.1, False)]
)
def test_a_workload_is_won_by_two_points_or_a_tenth_of_the_replicas(
    attained: float, replicas: float, *, is_won: bool
) -> None:
    best = make_row("hpa", 97.4, 10.0, role="best")
    told = verdicts([make_row("headroom", attained, replicas), best])
    assert told[1].endswith(", won." if is_won else ", not won.")


def test_a_default_below_the_percentile_is_told() -> None:
    assert verdicts([make_row("headroom", 94.9, 6.0)])[-1].startswith("Below the 95 % that are asked for: S1 94.90 %")
    assert not [each for each in verdicts([make_row("headroom", 95.0, 6.0)]) if "asked for" in each]


def test_changes_count_once_a_load_has_settled_and_by_the_seed_with_the_most() -> None:
    run = make_run(Setting(least=1, most=4, start=2), make_requests(1.0, 300.0), pods=3)
    assert [by for _, by in run.changes] == [1]
    assert score_of(run).settled_changes is None
    assert score_of(run, settled_at=120.0).settled_changes == 0.0
    one = score_of(run, settled_at=0.0).settled_changes
    assert one == pytest.approx(3600 / max(each.arrival for each in run.requests))
    scores = [score_of(run, settled_at=at) for at in (0.0, 120.0)]
    assert mean_of(scores).settled_changes == one


def test_rows_that_are_run_again_replace_those_that_were_read_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-01 00:00:00.0,100,10\n2026-01-01 00:01:00.0,100,10\n"
    )
    file = tmp_path / "rows.json"
    earlier = [OURS, Row("day", "static", "", "default", 9, make_score(1.0, 1.0))]
    file.write_text(json.dumps([row.data for row in earlier]))
    assert rows_in(file) == earlier
    asked = ["--trace", str(trace), "--seeds", "1", "--controllers", "static"]
    assert main([*asked, "--read", str(file), "--json", str(file)]) == 0
    ours, static = rows_in(file)
    assert ours == OURS
    assert (static.workload, static.seeds, static.score.attainment) == ("day", 1, 100.0)
    capsys.readouterr()
    assert main(["--read", str(file)]) == 0
    assert "No workload is dominated by a baseline at its default." in capsys.readouterr().out


def test_a_file_that_is_not_of_this_program_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"workload": "S1"}]')
    assert main(["--read", str(file)]) == 2
    assert f"{file}: not rows of this program" in capsys.readouterr().err
