"""Every query of every dashboard and rule has data: a real Prometheus scrapes a real stack, of which each part works.

A pair whose verifier is quantized, fetched from a hub, scaled in both roles, and asked: so Jobs, draft servers, engines
and operator all have something to tell.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.asked import Prometheus
from deploy.grafana.parts import Kind
from deploy.grafana.preview import draw
from deploy.grafana.rules import ALERTS, RECORDS
from deploy.grafana.written import DASHBOARDS
from deploy.load import Load
from tests.cluster.aggregation import host_of
from tests.e2e.conftest import Site
from tests.e2e.learning import learn
from tests.e2e.quantizing import READY_LIMIT_SECONDS, make_deployment
from tests.prometheus.server import finding_everything, running_prometheus

pytestmark = [pytest.mark.real_node, pytest.mark.campaign, pytest.mark.timeout(1200)]

NAME = "shown"
DATA_LIMIT_SECONDS = 200
DRAFT_LIMIT_SECONDS = 240
CLIENTS = 8
"""With one, drafts have too little to do for what they can give to be measured."""
NAMED = re.compile(r"\b(?:tandem|vllm)[_:][a-z0-9_:]+(?=\{|\[| |\)|$)")


@dataclass(frozen=True)
class Shown:
    """What there is to be seen, and since when."""

    prometheus: Prometheus
    since: float

    def has_data(self, expression: str, kind: Kind) -> bool:
        """As a panel of this kind asks."""
        if kind is Kind.SERIES:
            now = time.time()
            return bool(self.prometheus.over(expression, begin=self.since, end=now, step=(now - self.since) / 200))
        return bool(self.prometheus.now(expression))


def _deployment() -> dict[str, Any]:
    body = make_deployment(NAME, scheme="W8A8")
    body["spec"]["draft"] = {
        "model": {
            "source": {
                "huggingFace": {**body["spec"]["verifier"]["model"]["source"]["huggingFace"], "repo": "fixtures/draft"}
            }
        },
        "engine": {"type": "Transformers"},
        "accelerator": {"classes": ["cpu"], "count": 1},
    }
    body["spec"]["speculation"] = {"method": "Remote"}
    body["spec"]["autoscaling"] = {
        "slo": {"timeToFirstToken": "1s", "timePerOutputToken": "500ms"},
        "verifier": {"minReplicas": 1, "maxReplicas": 1},
        "draft": {"minReplicas": 1, "maxReplicas": 2},
    }
    return body


def _ready_drafts(site: Site) -> int:
    return int(site.get("llm", NAME)["status"]["draft"].get("readyReplicas") or 0)


@pytest.fixture(scope="module")
def shown(quantizing: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    jobs = finding_everything(quantizing.place.kubeconfig, quantizing.namespace)
    folder, host = tmp_path_factory.mktemp("prometheus"), host_of(quantizing.cluster)
    variables = {"namespace": quantizing.namespace, "deployment": NAME, "__rate_interval": "1m"}
    with running_prometheus(folder, jobs, interval="5s", host=host) as server:
        begun = time.time()
        quantizing.apply(_deployment())
        limit = f"--timeout={READY_LIMIT_SECONDS}s"
        wait = ("wait", "--for=condition=Ready", f"llm/{NAME}", limit)
        quantizing.run(*wait, limit_seconds=READY_LIMIT_SECONDS + 10)
        more = {"spec": {"autoscaling": {"draft": {"minReplicas": 2}}}}
        learn(quantizing, NAME, clients=(1, CLIENTS), max_tokens=64)
        with Load(quantizing.address(NAME), model=NAME, clients=CLIENTS, max_tokens=64) as load:
            quantizing.wait_until(lambda: len(load.since(60)) > 3, "answers with drafts")
            quantizing.run("patch", f"llm/{NAME}", "--type=merge", "-p", json.dumps(more))
            drafts = "a second draft pod"
            quantizing.wait_until(lambda: _ready_drafts(quantizing) == 2, drafts, limit_seconds=DRAFT_LIMIT_SECONDS)
            yield Shown(Prometheus(server.address, variables), begun)


def test_every_panel_has_data(quantizing: Site, shown: Shown) -> None:
    asked = {
        f"{dashboard.title}: {panel.title}: {query.expression}": (query.expression, panel.kind)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for query in panel.queries
    }

    def lacks() -> list[str]:
        return [told for told, query in asked.items() if not shown.has_data(*query)]

    _wait_for_none(quantizing, lacks, "panels without data")


def test_what_rules_and_marks_ask_for_is_there(quantizing: Site, shown: Shown) -> None:
    """What they ask is true in bad times only: each series in it must be there in good ones."""
    marks = [mark.expression for dashboard in DASHBOARDS for mark in dashboard.marks]
    recorded = {record.name for record in RECORDS}
    asked = [*marks, *(rule.expression for rule in (*RECORDS, *ALERTS))]
    found = {name for expression in asked for name in NAMED.findall(re.sub(r'"[^"]*"', "", expression))}
    series = {name for name in found - recorded if not name.startswith("tandem_dev_")}  # a label
    assert len(series) > 15

    def lacks() -> list[str]:
        missing = [name for name in sorted(series) if not shown.prometheus.now(f"count({name})")]
        return missing + [each.name for each in RECORDS if not shown.prometheus.now(each.expression)]

    _wait_for_none(quantizing, lacks, "series of rules without samples")


def test_every_dashboard_can_be_drawn(shown: Shown, tmp_path: Path) -> None:
    for dashboard in DASHBOARDS:
        file = tmp_path / f"{dashboard.uid}.png"
        draw(dashboard, shown.prometheus, seconds=time.time() - shown.since, file=file)
        assert file.read_bytes().startswith(b"\x89PNG")


def _wait_for_none(site: Site, lacks: Any, what: str) -> None:
    found: list[str] = []

    def is_complete() -> bool:
        found[:] = lacks()
        return not found

    try:
        site.wait_until(is_complete, what, limit_seconds=DATA_LIMIT_SECONDS)
    except Exception as error:
        raise AssertionError(f"{what}: " + "\n".join(found)) from error
