"""Dashboards as pictures: what is drawn of a series, and what is said where nothing can be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from deploy.grafana.asked import Line
from deploy.grafana.preview import main, with_gaps


def test_nothing_is_drawn_where_there_are_no_samples() -> None:
    line = Line({}, (0.0, 10.0, 20.0, 60.0, 70.0), (1.0, 2.0, 3.0, 9.0, 8.0))
    drawn = with_gaps(line, 10.0)
    assert [at for at, _ in drawn] == [0, 10, 20, 30, 60, 70]
    assert [at for at, value in drawn if math.isnan(value)] == [30]
    assert [value for _, value in with_gaps(Line({}, (0.0, 10.0), (1.0, 2.0)), 10.0)] == [1, 2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prometheus", "localhost:9090"], "--prometheus (is localhost:9090): must begin with http://"),
        (["--prometheus", "http://localhost", "--minutes", "-5"], "--minutes (is -5): must be above 0, and 527040 at"),
        (["--prometheus", "http://localhost", "--minutes", "nan"], "--minutes (is nan): must be above 0"),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_may_be(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_prometheus_that_does_not_answer_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--prometheus", "http://127.0.0.1:1", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("http://127.0.0.1:1: ")
    assert "refused" in said
    assert said.count("\n") == 1
