"""What dashboards ask, by Prometheus' own judge: no query is refused, and marks are where Grafana draws them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.asked import Prometheus
from deploy.grafana.parts import Kind
from deploy.grafana.promql import OR_ZERO
from deploy.grafana.written import DASHBOARDS
from tests.prometheus.alerts import OURS
from tests.prometheus.server import promtool

ALL = Prometheus("nowhere", {"namespace": ".+", "deployment": ".+", "__rate_interval": "2m"})
SELECTOR = re.compile(r"\b((?:tandem|vllm|process)[_:][a-z0-9_:]+)(?:\{([^}]*)\})?(?=[\[ ,)]|$)")
EQUAL = re.compile(r'(\w+)="([^"]*)"')
MARKS = {mark.name: ALL.filled(mark.expression) for dashboard in DASHBOARDS for mark in dashboard.marks}
CHANGES = f'tandem_scaling_changes_total{{{OURS}, role="verifier", direction="up"}}'
BLIND = f'tandem_scaling_blind{{{OURS}, role="verifier"}}'
ACTIVE = f'tandem_deployment_condition{{{OURS}, type="ScalingActive", reason="Paused"}}'
NAMES = {
    "deployment": "llama",
    "tandem_dev_deployment": "llama",
    "artifact": "a",
    "reason": "r",
    "position": "0",
    "le": "+Inf",
}


def judged(tmp_path: Path, *tests: dict[str, Any]) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "30s", "tests": list(tests)}))
    promtool("test", "rules", str(file))


def series_of(expression: str) -> Iterator[str]:
    """What it may find where two namespaces have the same names, and each figure comes from two pods."""
    for name, matchers in SELECTOR.findall(expression):
        for namespace, pod in product("ab", "xy"):
            labels = NAMES | dict(EQUAL.findall(matchers)) | {"namespace": namespace, "pod": pod}
            yield name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def test_no_query_is_refused_where_two_namespaces_have_the_same_names_and_one_operator_follows_another(
    tmp_path: Path,
) -> None:
    asked = sorted({ALL.filled(each) for dashboard in DASHBOARDS for each in dashboard.expressions()})
    series = sorted({found for expression in asked for found in series_of(expression)})
    answered = [{"labels": "{}", "value": 1}]
    tests = [
        {"expr": f"count({each}) >= bool 0 or vector(1)", "eval_time": "20m", "exp_samples": answered} for each in asked
    ]
    samples = [{"series": each, "values": "1+1x40"} for each in series]
    judged(tmp_path, {"interval": "30s", "input_series": samples, "promql_expr_test": tests})


def test_a_query_of_a_table_has_the_labels_that_name_its_rows_and_no_other_since_each_is_a_column(
    tmp_path: Path,
) -> None:
    tables = [panel for page in DASHBOARDS for panel in page.panels() if panel.kind is Kind.TABLE]
    for table in tables:
        asked = [ALL.filled(query.expression) for query in table.queries]
        others = [f"group without ({', '.join(table.rows)}) ({each})" for each in asked]
        tests = [{"expr": each, "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": 1}]} for each in others]
        samples = [{"series": found, "values": "1+1x40"} for each in asked for found in series_of(each)]
        judged(tmp_path, {"interval": "30s", "input_series": samples, "promql_expr_test": tests})


def test_a_0_for_want_of_lines_is_no_line_beside_them(tmp_path: Path) -> None:
    drawn = {query.expression for page in DASHBOARDS for panel in page.panels() for query in panel.queries}
    instead = [ALL.filled(each) for each in sorted(drawn) if OR_ZERO in each]
    assert len(instead) > 2
    tests = []
    for asked in instead:
        lines, _, _ = asked.partition(OR_ZERO)
        beside = f"count({asked}) - count({lines})"
        tests.append({"expr": beside, "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": 0}]})
    samples = [{"series": found, "values": "0x40"} for each in instead for found in series_of(each)]
    judged(tmp_path, {"interval": "30s", "input_series": samples, "promql_expr_test": tests})


@pytest.mark.parametrize(
    ("values", "eval_time", "jobs"),
    [
        pytest.param("_x40 1x400", "30m", 1, id="the first Job of a namespace"),
        pytest.param("_x40 1x10 3x400", "30m", 3, id="further ones"),
        pytest.param("0x40 1x400", "40m", 1, id="the first one since the operator started"),
        pytest.param("7x400", "2h", 0, id="none for long"),
    ],
)
def test_every_job_of_the_last_hour_counts(tmp_path: Path, values: str, eval_time: str, jobs: int) -> None:
    (stat,) = (panel for page in DASHBOARDS for panel in page.panels() if panel.title == "Jobs in an hour")
    expected = [{"labels": "{}", "value": jobs}]
    asked = {"expr": ALL.filled(stat.queries[0].expression), "eval_time": eval_time, "exp_samples": expected}
    samples = [{"series": 'tandem_artifact_jobs_total{namespace="chat", step="fetch", pod="o"}', "values": values}]
    judged(tmp_path, {"interval": "30s", "input_series": samples, "promql_expr_test": [asked]})


CASES = [
    pytest.param("Replicas changed", CHANGES, "0 0 0 0 1x36", True, id="changed at a full minute"),
    pytest.param("Replicas changed", CHANGES, "0 0 0 0 0 1x35", True, id="changed between two minutes"),
    pytest.param("Replicas changed", CHANGES, "3x40", False, id="not changed"),
    pytest.param("Blind", BLIND, "0x9 1x10 0x20", True, id="blind for a while"),
    pytest.param("Blind", BLIND, "0x40", False, id="not blind"),
    pytest.param("Not scaling", ACTIVE, "1x9 0x10 1x20", True, id="not scaling for a while"),
    pytest.param("Not scaling", ACTIVE, "1x40", False, id="scaling"),
]


@pytest.mark.parametrize(("mark", "series", "values", "is_drawn"), CASES)
def test_a_mark_is_drawn_when_what_it_is_of_happens(
    tmp_path: Path, mark: str, series: str, values: str, *, is_drawn: bool
) -> None:
    """Grafana asks each minute and draws where the value is above 0. The chart has it scraped every 30 s."""
    drawn = f"count(count_over_time(({MARKS[mark]} > 0)[20m:1m]))"
    expected = [{"labels": "{}", "value": 1}] if is_drawn else []
    asked = {"expr": drawn, "eval_time": "20m", "exp_samples": expected}
    samples = [{"series": series, "values": values}]
    judged(tmp_path, {"interval": "30s", "input_series": samples, "promql_expr_test": [asked]})


def test_every_mark_is_tried() -> None:
    assert {case.values[0] for case in CASES} == set(MARKS)
