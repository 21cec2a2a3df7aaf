"""What dashboards ask, by Prometheus' own judge: no query is refused, and marks are where Grafana draws them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from deploy.grafana.asked import Prometheus
from deploy.grafana.written import DASHBOARDS
from tests.prometheus.server import promtool

ALL = Prometheus("nowhere", {"namespace": ".+", "deployment": ".+", "__rate_interval": "2m"})
SELECTOR = re.compile(r"\b((?:tandem|vllm|process)[_:][a-z0-9_:]+)(?:\{([^}]*)\})?(?=[\[ )]|$)")
EQUAL = re.compile(r'(\w+)="([^"]*)"')
NAMES = {"deployment": "llama", "tandem_dev_deployment": "llama", "artifact": "a", "position": "0", "le": "+Inf"}


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
