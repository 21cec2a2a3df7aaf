"""What a benchmark says to a running engine's proposer, and hears from it, through two views of one folder."""

from pathlib import Path

import pytest

from benchmarks.drafting_lost import SETTLED_STEPS, steps_to_depth_0
from benchmarks.switch import ADAPTIVE, NOTHING, StepRecord, Switch


def step(depth: int) -> StepRecord:
    return StepRecord(
        rows=1,
        depth=depth,
        propose_seconds=0.002,
        wait_seconds=0.001,
        answer_seconds=0.001,
        compute_seconds=0.0005,
        step_depth=depth,
        step_seconds=0.004,
    )


def test_the_proposer_sees_the_source_and_the_depth_that_the_benchmark_sets(tmp_path: Path) -> None:
    here, there = Switch(tmp_path), Switch(tmp_path)
    here.offer({"near": "a:1", "far": "b:2"})
    here.set("far", ADAPTIVE)
    assert list(there.sources())[there.source] == "far"
    assert there.depth == ADAPTIVE
    here.set(NOTHING, 0)
    assert (there.sources()[NOTHING], there.source, there.depth) == ("", 0, 0)


def test_each_start_is_another_one(tmp_path: Path) -> None:
    here, there = Switch(tmp_path), Switch(tmp_path)
    before = there.start
    here.start_anew()
    assert there.start != before


def test_the_benchmark_hears_of_each_step_once(tmp_path: Path) -> None:
    here, there = Switch(tmp_path), Switch(tmp_path)
    there.record(step(2))
    there.record(step(4))
    assert here.records() == [step(2), step(4)]
    there.record(step(8))
    assert here.records() == [step(8)]


def test_depth_0_counts_as_chosen_once_it_stays_but_for_single_looks() -> None:
    depths = [0] * 4 + [8] * 6 + [0] * 3 + [8] + [0] * SETTLED_STEPS + [8] + [0] * 40
    assert steps_to_depth_0([step(depth) for depth in depths]) == 14


def test_steps_without_any_draft_say_nothing_about_when_depth_0_is_chosen() -> None:
    with pytest.raises(RuntimeError, match="no drafts were asked for in 40 steps"):
        steps_to_depth_0([step(0)] * 40)
