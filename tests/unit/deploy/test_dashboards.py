"""Dashboards say what they show, and ask only for what is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from deploy.grafana.parts import COLUMNS, Dashboard, Kind, Panel
from deploy.grafana.rules import ALERTS, RECORDS
from deploy.grafana.written import DASHBOARDS, written
from tandem_contracts import metrics
from tandem_operator import handlers
from tandem_operator.artifact_figures import ArtifactFigures
from tandem_operator.deployment_figures import DeploymentFigures
from tandem_operator.store import Store

VLLM_PAGE = Path(__file__).parents[3] / "benchmarks/scaling/vllm-page.txt"
SPECULATING = {"num_drafts", "num_draft_tokens", "num_accepted_tokens", "num_accepted_tokens_per_pos"}
"""What the recorded page has no samples of, since its engine did not speculate."""
ASKED = re.compile(r"\b(?:tandem|vllm|process)[_:][a-z0-9_:]+")
LABELS = {"tandem_dev_deployment", "tandem_dev_role", "tandem_dev_artifact"}
PANELS = [pytest.param(panel, id=f"{each.uid}-{panel.title}") for each in DASHBOARDS for panel in each.panels()]


def exported() -> Iterator[str]:
    """Names of all samples: what an engine's page has, what ours are called, what the operator registers."""
    assert handlers.LEADER is not None
    yield from re.findall(r"^([a-z_:0-9]+)[{ ]", VLLM_PAGE.read_text(), re.MULTILINE)
    yield from (f"vllm:spec_decode_{name}_total" for name in SPECULATING)
    for name, value in vars(metrics).items():
        if name.isupper() and isinstance(value, str):
            yield from (value, f"{value}_bucket", f"{value}_sum", f"{value}_count")
    own = [ArtifactFigures(Store()), DeploymentFigures(Store())]
    for collector in (REGISTRY, *own):
        for family in collector.collect():
            yield from (f"{family.name}{end}" for end in ("", "_total", "_bucket", "_sum", "_count"))
    yield from (record.name for record in RECORDS)


def named_in(expression: str) -> set[str]:
    return set(ASKED.findall(re.sub(r'"[^"]*"', "", expression))) - LABELS


def test_every_query_and_rule_asks_for_what_something_exports() -> None:
    there = set(exported())
    asked = {name for dashboard in DASHBOARDS for query in dashboard.expressions() for name in named_in(query)}
    ruled = {name for rule in (*RECORDS, *ALERTS) for name in named_in(rule.expression)}
    assert len(asked) > 60
    assert (asked | ruled) - there == set()


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: Panel) -> None:
    assert panel.description.endswith(".")
    assert panel.unit
    assert panel.width <= COLUMNS
    if panel.kind is Kind.TABLE:
        assert len(panel.units) == len(panel.queries)
        assert all(query.legend for query in panel.queries)
    if panel.kind is Kind.SERIES:
        assert all(query.legend for query in panel.queries)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_every_query_is_of_what_the_viewer_has_chosen(dashboard: Dashboard) -> None:
    chosen = {variable.name for variable in dashboard.variables}
    for expression in dashboard.expressions():
        assert 'namespace=~"$namespace"' in expression
        assert set(re.findall(r"\$([a-z_]+)", expression)) <= chosen | {"__rate_interval"}
        assert re.search(r"\brate\([^[]*\[(?!\$__rate_interval)", expression) is None, expression


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_what_grafana_loads_has_every_panel_query_and_mark(dashboard: Dashboard) -> None:
    body = json.loads(written(dashboard))
    panels = [panel for panel in body["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in dashboard.panels()]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    marked = [mark["expr"] for mark in body["annotations"].get("list", [])]
    assert [*asked, *marked] == list(dashboard.expressions())
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert [each["name"] for each in body["templating"]["list"]] == [
        "datasource",
        *(variable.name for variable in dashboard.variables),
    ]
    assert len(written(dashboard)) < 1 << 19, "a ConfigMap holds a megabyte"
    corners = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(corners)) == len(corners), "no panel lies on another one"


def test_a_page_of_one_deployment_is_of_one_namespace_too_since_another_one_may_have_that_name() -> None:
    pages = [each for each in DASHBOARDS if "deployment" in {variable.name for variable in each.variables}]
    assert len(pages) == 3
    for page in pages:
        chosen = {each["name"]: each for each in json.loads(written(page))["templating"]["list"]}
        for name in ("namespace", "deployment"):
            assert (chosen[name]["includeAll"], chosen[name]["multi"]) == (False, False), (page.title, name)


def test_pages_have_names_of_their_own() -> None:
    assert len({each.uid for each in DASHBOARDS}) == len({each.title for each in DASHBOARDS}) == len(DASHBOARDS)
