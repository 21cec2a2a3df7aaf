"""Dashboards say what they show, and ask only for what is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from deploy.grafana.parts import COLUMNS, Dashboard, Kind, Panel
from deploy.grafana.rules import ALERTS, RECORDS
from deploy.grafana.written import DASHBOARDS, written
from tests.unit.deploy.exported import kinds
from tests.unit.deploy.queries import COUNTS, PLAIN, named_in, units_of, unknown_values, wrongly_counted

PANELS = [pytest.param(panel, id=f"{each.uid}-{panel.title}") for each in DASHBOARDS for panel in each.panels()]


def queries() -> Iterator[str]:
    """All that dashboards, rules and alerts ask."""
    for dashboard in DASHBOARDS:
        yield from dashboard.expressions()
    yield from (rule.expression for rule in (*RECORDS, *ALERTS))


def test_every_query_and_rule_asks_for_what_something_exports() -> None:
    asked = {name for query in queries() for name in named_in(query)}
    assert len(asked) > 60
    assert asked - kinds().keys() == set()


def test_labels_are_compared_with_values_that_they_may_have() -> None:
    assert {wrong for query in queries() for wrong in unknown_values(query)} == set()


def test_rates_are_of_counters_and_counters_have_rates() -> None:
    assert {wrong for query in queries() for wrong in wrongly_counted(query)} == set()


@pytest.mark.parametrize("panel", PANELS)
def test_a_unit_is_that_of_the_figure(panel: Panel) -> None:
    for query, unit in zip(panel.queries, panel.units or [panel.unit] * len(panel.queries), strict=True):
        assert unit in (units_of(query.expression) or {unit}), query.expression


@pytest.mark.parametrize(
    ("query", "unknown", "miscounted", "units"),
    [
        ('sum(tandem_deployment_condition{type="Raedy"})', 'type="Raedy"', "", PLAIN),
        ('sum(rate(tandem_draft_tokens_total{outcome="acepted"}[5m]))', 'outcome="acepted"', "", COUNTS),
        ('sum(rate(tandem_draft_calls_total{outcome="accepted"}[5m]))', 'outcome="accepted"', "", COUNTS),
        ('tandem_artifact_ready{reason!~"Fetching|Fetshing"} == 0', 'reason="Fetshing"', "", PLAIN),
        ("rate(vllm:num_requests_waiting[5m])", "", "vllm:num_requests_waiting", COUNTS),
        ("sum(vllm:request_success_total)", "", "vllm:request_success_total", PLAIN),
        ("max(tandem_scaling_target_seconds)", "", "", {"s"}),
        ("histogram_quantile(0.5, rate(vllm:time_to_first_token_seconds_bucket[5m]))", "", "", {"s"}),
        ("sum(tandem_artifact_size_bytes)", "", "", {"bytes"}),
    ],
)
def test_what_is_wrong_with_a_query_is_found(query: str, unknown: str, miscounted: str, units: set[str]) -> None:
    assert unknown_values(query) == ({unknown} if unknown else set())
    assert wrongly_counted(query) == ({miscounted} if miscounted else set())
    assert units_of(query) == units


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
