"""The rules by Prometheus' own judge: they are valid, and each alert fires when it should and at no other time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import FOLDER
from deploy.grafana.rules import ALERTS
from tests.prometheus.alerts import CASES, Case, Samples
from tests.prometheus.server import promtool

RULES = FOLDER / "rules.yaml"


def make_test(case: Case, samples: Samples, *, fires: bool) -> dict[str, Any]:
    of = f'alertname="{case.alert}", severity="{case.severity}", alertstate="firing"'
    expected = [{"labels": "{}", "value": 1}] if fires else []
    asked = {"expr": f"count(ALERTS{{{of}}})", "eval_time": f"{case.minutes}m", "exp_samples": expected}
    series = [{"series": name, "values": values} for name, values in samples.items()]
    name = f"{case.alert} {'fires' if fires else 'is silent'}"
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": [asked]}


def test_rules_are_valid_and_clean() -> None:
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert "SUCCESS" in told


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "silent"])
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path, *, fires: bool) -> None:
    tests = [make_test(case, case.firing if fires else case.silent, fires=fires) for case in CASES]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(file))


def test_every_alert_is_tried() -> None:
    assert {(case.alert, case.severity) for case in CASES} == {(each.name, each.severity) for each in ALERTS}
