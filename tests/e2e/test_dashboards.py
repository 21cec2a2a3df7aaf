"""Every query of every dashboard and rule has figures: a real Prometheus scrapes a real stack, all of which works.

A pair whose verifier is quantized, fetched from a hub, scaled in both roles, and asked: so Jobs, draft servers, engines
and operator all have something to tell.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.asked import Line, Prometheus
from deploy.grafana.parts import Kind, Mark
from deploy.grafana.preview import draw
from deploy.grafana.promql import OR_ZERO
from deploy.grafana.rules import ALERTS, RECORDS
from deploy.grafana.written import DASHBOARDS
from deploy.load import Load
from tandem_contracts import metrics
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
ABSENT = {metrics.GATE_HELD: "a wake gate is there while a deployment is at zero, which this one never is"}
"""What nothing on this stack exports, and why; panels show 0 instead."""
CHANGED = "Replicas changed"
MARK_STEP_SECONDS = 60
"""As Grafana asks for marks."""
NAMED = re.compile(r"\b(?:tandem|vllm)[_:][a-z0-9_:]+(?=\{|\[| |\)|$)")


@dataclass(frozen=True)
class Shown:
    """What there is to be seen, and since when."""

    prometheus: Prometheus
    since: float

    def has_figures(self, expression: str, kind: Kind) -> bool:
        """As a panel of this kind asks. Without its 0 in place of nothing, of all the time, as it may be over."""
        asked = expression.partition(OR_ZERO)[0]
        if kind is Kind.SERIES or asked != expression:
            return _has_figures(self.over(asked, step=(time.time() - self.since) / 200))
        return _has_figures(self.prometheus.now(asked))

    def over(self, expression: str, *, step: float) -> list[Line]:
        """Since all of this began."""
        return self.prometheus.over(expression, begin=self.since, end=time.time(), step=step)

    def lacks_of(self, mark: Mark) -> str:
        """What a mark has not that it needs to be drawn in bad times: figures, labels that its text has; else empty."""
        lines = self.over(mark.expression.removesuffix(" > 0"), step=MARK_STEP_SECONDS)
        told = set(re.findall(r"{{(\w+)}}", mark.text))
        if not _has_figures(lines):
            return f"{mark.name}: figures"
        return "".join(f"{mark.name}: {', '.join(lacking)}" for line in lines[:1] if (lacking := told - {*line.labels}))


def _has_figures(lines: list[Line]) -> bool:
    """What is no number is none."""
    return any(not math.isnan(value) for line in lines for value in line.values)


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


def test_every_panel_has_figures(quantizing: Site, shown: Shown) -> None:
    asked = {
        f"{dashboard.title}: {panel.title}: {query.expression}": (query.expression, panel.kind)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for query in panel.queries
        if not any(name in query.expression for name in ABSENT)
    }

    def lacks() -> list[str]:
        return [told for told, query in asked.items() if not shown.has_figures(*query)]

    _wait_for_none(quantizing, lacks, "panels without figures")


def test_every_mark_has_what_it_is_drawn_by_and_changes_of_replicas_are_drawn(quantizing: Site, shown: Shown) -> None:
    """The others are of bad times: what they compare must be there in good ones."""
    marks = {mark.name: mark for dashboard in DASHBOARDS for mark in dashboard.marks}

    def lacks() -> list[str]:
        drawn = shown.over(marks[CHANGED].expression, step=MARK_STEP_SECONDS)
        return [*filter(None, map(shown.lacks_of, marks.values())), *([] if drawn else [f"{CHANGED}: no mark"])]

    _wait_for_none(quantizing, lacks, "marks that cannot be drawn")


def test_what_rules_ask_for_is_there(quantizing: Site, shown: Shown) -> None:
    """What they ask is true in bad times only: each series in it must be there in good ones."""
    recorded = {record.name for record in RECORDS}
    asked = [rule.expression for rule in (*RECORDS, *ALERTS)]
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
