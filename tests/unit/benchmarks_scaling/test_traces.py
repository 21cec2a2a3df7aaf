"""Traces: what is read, what is generated, and how load is scaled."""

from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, quantiles

import pytest

from benchmarks.scaling import traces
from benchmarks.scaling.__main__ import main
from benchmarks.scaling.requests import random_of

ROWS = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""


def test_a_file_of_azure_is_read_from_its_begin(tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text(ROWS)
    first, second = traces.read(file)
    assert first == traces.Arrival(0.0, 374, 44)
    assert (second.prompt_tokens, second.output_tokens) == (396, 109)
    assert second.at == pytest.approx(4.314579, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b,c\n", "its header is a,b,c"),
        (ROWS + "soon,1,2\n", "line 4"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no requests"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "some.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=told):
        traces.read(file)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5])
def test_scaling_keeps_the_length_and_changes_the_number(factor: float) -> None:
    arrivals = traces.conversation(random_of(1), seconds=600.0)
    found = traces.scaled(arrivals, factor, random_of(2))
    assert len(found) == pytest.approx(factor * len(arrivals), rel=0.06)
    assert found == sorted(found, key=lambda request: request.arrival)
    assert found[0].arrival >= 0
    assert found[-1].arrival <= arrivals[-1].at


def test_generated_conversations_have_the_statistics_of_the_public_trace() -> None:
    arrivals = traces.conversation(random_of(3))
    assert traces.mean_rate(arrivals) == pytest.approx(5.53, rel=0.1)
    prompts, outputs = [each.prompt_tokens for each in arrivals], [each.output_tokens for each in arrivals]
    assert median(prompts) == pytest.approx(1020, rel=0.1)
    assert quantiles(prompts, n=10)[8] == pytest.approx(2734, rel=0.1)
    assert fmean(outputs) == pytest.approx(211, rel=0.12)
    gaps = [later.at - earlier.at for earlier, later in pairwise(arrivals)]
    variation = (fmean(gap**2 for gap in gaps) / fmean(gaps) ** 2 - 1) ** 0.5
    assert variation == pytest.approx(1.1, abs=0.12)


def test_generated_code_comes_in_bursts() -> None:
    arrivals = traces.code(random_of(3), seconds=40_000.0)
    assert traces.mean_rate(arrivals) == pytest.approx(2.57, rel=0.2)
    bins = {int(each.at / 10) for each in arrivals}
    assert 0.35 <= 1 - len(bins) / 4000 <= 0.65
    assert fmean(each.output_tokens for each in arrivals) == pytest.approx(28, rel=0.25)


def test_a_run_of_a_trace_writes_rows(tmp_path: Path) -> None:
    file, rows = tmp_path / "some.csv", tmp_path / "rows.json"
    lines = [f"{i * 0.7},{300 + i},{20}" for i in range(200)]
    file.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    arguments = [
        "--trace",
        str(file),
        "--mean-rps",
        "3",
        "--json",
        str(rows),
        "--quick",
        "--controllers",
        "headroom,hpa",
    ]
    assert main(arguments) == 0
    assert '"attainment": 100.0' in rows.read_text()


def test_an_unknown_name_is_told_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--controllers", "magic"]) == 2
    assert "controller (is magic): must be one of headroom" in capsys.readouterr().err
