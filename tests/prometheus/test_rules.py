"""The rules by Prometheus' own judge: they are valid, and each alert fires when it should and at no other time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import FOLDER
from deploy.grafana.rules import ALERTS
from tests.chart.rendering import VALUES, objects, one
from tests.prometheus.alerts import CASES, Case
from tests.prometheus.server import program, promtool

RULES = FOLDER / "rules.yaml"


def make_test(case: Case) -> dict[str, Any]:
    of = f'alertname="{case.alert}", severity="{case.severity}", alertstate="firing"'
    told = [*((at, [{"labels": "{}", "value": 1}]) for at in case.fires), *((at, []) for at in case.silent)]
    asked = [
        {"expr": f"count(ALERTS{{{of}}})", "eval_time": f"{at}m", "exp_samples": expected} for at, expected in told
    ]
    series = [{"series": name, "values": values} for name, values in case.samples.items()]
    name = f"{case.alert}, {case.severity}: {case.what}"
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": asked}


def write_tests(folder: Path, rules: Path, cases: Iterable[Case]) -> Path:
    file = folder / f"{rules.stem}-tests.yaml"
    tests = [make_test(case) for case in cases]
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    return file


@pytest.fixture
def charted(tmp_path: Path) -> Path:
    """The rules as the chart has them for an operator in the namespace `chat`."""
    rule = one(objects(program("helm4"), VALUES["watched"], tmp_path), "PrometheusRule")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    return file


def test_rules_are_valid_and_clean(charted: Path) -> None:
    for rules in (RULES, charted):
        assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path, charted: Path) -> None:
    promtool("test", "rules", str(write_tests(tmp_path, charted, CASES)))


def test_no_operator_anywhere_is_told_also_by_the_rules_without_the_chart(tmp_path: Path) -> None:
    nowhere = Case("TandemOperatorDown", "critical", "none anywhere", {}, fires=(6,), silent=(4,))
    test = make_test(nowhere)
    told = {
        "summary": "every namespace: no operator is at work",
        "description": "What serves goes on; nothing is repaired, rolled out or scaled.",
        "runbook_url": "docs/runbooks/TandemOperatorDown.md",
    }
    expected = [{"exp_labels": {"severity": "critical"}, "exp_annotations": told}]
    test["alert_rule_test"] = [{"alertname": "TandemOperatorDown", "eval_time": "6m", "exp_alerts": expected}]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", str(file))


def test_every_alert_is_tried() -> None:
    for alert in ALERTS:
        cases = [case for case in CASES if (case.alert, case.severity) == (alert.name, alert.severity)]
        assert any(case.fires for case in cases), alert.name
        assert any(case.silent for case in cases), alert.name
