"""The rules by Prometheus' own judge: they are valid, and each alert fires when it should and at no other time."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import FOLDER
from deploy.grafana.rules import ALERTS, Alert
from tests.chart.rendering import VALUES, objects, one
from tests.prometheus.alerts import CASES, Case
from tests.prometheus.mutants import mutants
from tests.prometheus.server import program, promtool

RULES = FOLDER / "rules.yaml"
MUTANTS_LIMIT_SECONDS = 240
EQUIVALENT = {
    'TandemDraftsMissing, warning: dem_deployment_ready_replicas{[role="verifier"] -> nothing',
    "TandemOperatorDown, critical: me(tandem_operator_build_info[[30m] -> 90m",
    "TandemOperatorDown, critical: me(tandem_operator_build_info[[30m] -> 10m",
}
"""There is no third role. Four starts within half an hour are less than 10 minutes apart, so one was seen lately."""
LONG_MINUTES = 1000
"""Cases that go on for longer are looked at every 5 minutes."""


def make_test(*cases: Case) -> dict[str, Any]:
    """Of one case as it is, of several at once with a namespace for each."""
    series, asked = [], []
    for number, case in enumerate(cases):
        namespace = f"chat{number or ''}"
        where = f', namespace="{namespace}"' if len(cases) > 1 else ""
        of = f'alertname="{case.alert}", severity="{case.severity}", alertstate="firing"{where}'
        told = [*((at, [{"labels": "{}", "value": 1}]) for at in case.fires), *((at, []) for at in case.silent)]
        asked += [
            {"expr": f"count(ALERTS{{{of}}})", "eval_time": f"{at}m", "exp_samples": expected} for at, expected in told
        ]
        for name, values in case.samples.items():
            series.append({"series": name.replace('namespace="chat"', f'namespace="{namespace}"'), "values": values})
    name = "; ".join(f"{case.alert}, {case.severity}: {case.what}" for case in cases)
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": asked}


def write_tests(folder: Path, rules: Path, tests: Iterable[dict[str, Any]], *, every: str = "1m") -> Path:
    file = folder / f"{rules.stem}-tests.yaml"
    order = [group["name"] for group in yaml.safe_load(rules.read_text())["groups"]]
    body = {"rule_files": [str(rules)], "evaluation_interval": every, "group_eval_order": order, "tests": [*tests]}
    file.write_text(yaml.safe_dump(body))
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


def cases_of(alert: Alert) -> list[Case]:
    return [case for case in CASES if (case.alert, case.severity) == (alert.name, alert.severity)]


def wanted_of(alert: Alert) -> tuple[list[dict[str, Any]], str]:
    """What has to be so of it, and how often it is looked at: seldom where it goes on for days."""
    cases = cases_of(alert)
    is_long = any(minute > LONG_MINUTES for case in cases for minute in (*case.fires, *case.silent))
    # What asks for the operator's own namespace can have one case at a time.
    tests = [*map(make_test, cases)] if "absent(" in alert.expression else [make_test(*cases)]
    return tests, "5m" if is_long else "1m"


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path, charted: Path) -> None:
    for alert in ALERTS:
        tests, every = wanted_of(alert)
        promtool("test", "rules", str(write_tests(tmp_path, charted, tests, every=every)))


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
    promtool("test", "rules", str(write_tests(tmp_path, RULES, [test])))


def test_every_alert_is_tried() -> None:
    for alert in ALERTS:
        cases = cases_of(alert)
        assert any(case.fires for case in cases), alert.name
        assert any(case.silent for case in cases), alert.name


def is_noticed(tests: str) -> bool:
    argv = [program("promtool"), "test", "rules", tests]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    told = done.stdout + done.stderr
    assert ("FAILED" in told) == bool(done.returncode), told
    assert "parse error" not in told, told
    return done.returncode != 0


@pytest.mark.timeout(MUTANTS_LIMIT_SECONDS + 30)
def test_every_part_of_every_alert_is_noticed(tmp_path: Path, charted: Path) -> None:
    records, alerts = yaml.safe_load(charted.read_text())["groups"]
    changed = {}
    for rule in alerts["rules"]:
        alert = Alert(rule["alert"], rule["expr"], rule["for"], rule["labels"]["severity"], "", "")
        needed = [each for each in records["rules"] if each["record"] in alert.expression]
        tests, every = wanted_of(alert)
        for mutant in mutants(alert):
            other = {**rule, "expr": mutant.alert.expression, "for": mutant.alert.lasts}
            groups = [{"name": "records", "rules": needed}, {"name": "alerts", "rules": [other]}]
            rules = tmp_path / f"mutant-{len(changed)}.yaml"
            rules.write_text(yaml.safe_dump({"groups": groups}))
            changed[str(write_tests(tmp_path, rules, tests, every=every))] = str(mutant)
    with ThreadPoolExecutor(2) as pool:
        are_noticed = pool.map(is_noticed, changed)
        unnoticed = {told for told, noticed in zip(changed.values(), are_noticed, strict=True) if not noticed}
    assert unnoticed == EQUIVALENT
    assert len(changed) > 150
