"""The gates of the simulated engine: what they measure, and that they can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scaling import gates, traces
from benchmarks.scaling.gates import PUBLISHED, Gate, gates_beside, gates_in, knee, law, peak, written_gates
from benchmarks.scaling.workloads import stand_ins

ONE = (1,)


def test_eight_pods_keep_all_and_a_first_token_that_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = peak(ONE)
    assert gate.holds
    assert gate.figures["attainment"] >= 99.95
    monkeypatch.setattr(gates, "PEAK_SECONDS", gate.figures["first_token_seconds_p90"] + 2 * gates.PEAK_ERROR)
    assert not peak(ONE).holds
    monkeypatch.setattr(gates, "PEAK_PODS", 5)
    assert not peak(ONE).holds, "five do not keep all"


def test_what_was_found_is_written_beside_the_rows_and_read_again(tmp_path: Path) -> None:
    found = [Gate("C1", holds=True, found="knee", figures={"knee": 1.45})]
    file = gates_beside(tmp_path / "scaling.json")
    file.write_text(written_gates(found))
    assert (file.name, gates_in(file)) == ("scaling_gates.json", found)


def test_the_knee_is_the_last_rate_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "KNEE_RATES", (1.2, 2.5))
    found = knee(ONE)
    assert (found.holds, found.figures) == (False, {"knee": 1.2})


def test_the_law_is_judged_by_the_latencies_that_the_published_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = law(ONE)
    published = {what: found.figures[f"{PUBLISHED}_{what}"] for what in ("attainment", "avg_replicas")}
    monkeypatch.setattr(gates, "LAW_ATTAINMENT", published["attainment"])
    monkeypatch.setattr(gates, "LAW_REPLICAS", published["avg_replicas"])
    assert law(ONE).holds
    monkeypatch.setattr(gates, "LAW_REPLICAS", published["avg_replicas"] + 2 * gates.LAW_ERROR_REPLICAS)
    assert not law(ONE).holds


def test_a_trace_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "conversations.csv"
    monkeypatch.setattr(traces, "CONVERSATION_FILE", file)
    assert stand_ins(["S1"]) == []
    assert stand_ins(["S1", "S2"])[0].startswith("S2 without conversations.csv: ")
    file.touch()
    assert stand_ins(["S1", "S2"]) == []
