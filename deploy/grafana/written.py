"""Dashboards in Grafana's own format."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.artifacts import ARTIFACTS
from deploy.grafana.deployment import DEPLOYMENT_PAGE
from deploy.grafana.operator_page import OPERATOR
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.parts import Dashboard, Kind, Mark, Panel, Variable
from deploy.grafana.scaling import SCALING
from deploy.grafana.speculation import SPECULATION

DASHBOARDS = (OVERVIEW, DEPLOYMENT_PAGE, SPECULATION, SCALING, ARTIFACTS, OPERATOR)
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
REFRESH, SINCE = "30s", "now-3h"


def written(dashboard: Dashboard) -> str:
    """The JSON that Grafana's sidecar loads."""
    made = (
        grafana.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags(["tandem"])
        .readonly()
        .refresh(REFRESH)
        .time(SINCE, "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_link())
        .with_variable(grafana.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in dashboard.variables:
        made = made.with_variable(_variable(variable))
    for mark in dashboard.marks:
        made = made.annotation(_mark(mark))
    for row in dashboard.rows:
        made = made.with_row(grafana.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(_MAKERS[panel.kind](panel))
    body: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    for mark, told in zip(dashboard.marks, body["annotations"].get("list", []), strict=True):
        told.update(titleFormat=mark.name, textFormat=mark.text)  # the builder has no words for them
    return json.dumps(body, indent=1, sort_keys=True) + "\n"


def _link() -> grafana.DashboardLink:
    """From each to the others, with what was chosen."""
    link = grafana.DashboardLink("Tandem").type(models.DashboardLinkType.DASHBOARDS).tags(["tandem"])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _variable(variable: Variable) -> grafana.QueryVariable:
    made = grafana.QueryVariable(variable.name).label(variable.label).datasource(SOURCE).query(variable.query)
    made = made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    return made.include_all(True).multi(True).all_value(".+") if variable.has_all else made


def _mark(mark: Mark) -> grafana.AnnotationQuery:
    made = grafana.AnnotationQuery().name(mark.name).datasource(SOURCE).expr(mark.expression)
    return made.enable(True).icon_color("orange")


def _of_all(made: Any, panel: Panel) -> Any:
    """What every kind of panel has."""
    made = made.title(panel.title).description(panel.description).datasource(SOURCE)
    made = made.unit(panel.unit).span(panel.width).height(panel.height)
    if panel.highest is not None:
        made = made.min(0).max(panel.highest)
    is_now = panel.kind is not Kind.SERIES
    for number, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expression).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        asked = asked.legend_format(query.legend or "__auto")
        asked = asked.instant() if is_now else asked.range()
        made = made.with_target(asked.format(PromQueryFormat.TABLE) if panel.kind is Kind.TABLE else asked)
    return made


def _series(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM)
    legend = legend.display_mode(looks.LegendDisplayMode.LIST)
    tooltip = common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI)
    made = timeseries.Panel().legend(legend).tooltip(tooltip).fill_opacity(20 if panel.is_stacked else 5)
    if panel.is_stacked:
        made = made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    made = made if panel.highest is not None else made.axis_soft_min(0)
    found: timeseries.Panel = _of_all(made, panel)
    return found


def _stat(panel: Panel) -> stat.Panel:
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    made = stat.Panel().reduce_options(reduced).graph_mode(looks.BigValueGraphMode.NONE).no_value("–")
    made = made.color_mode(looks.BigValueColorMode.NONE)
    found: stat.Panel = _of_all(made, panel)
    return found


def _table(panel: Panel) -> table.Panel:
    """Each query is a column: joined by the labels that name a row, the rest of the labels and the time left out."""
    made = _of_all(table.Panel(), panel)
    columns = [query.legend for query in panel.queries]
    values = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}
    order = {name: place for place, name in enumerate((*panel.rows, *values))}
    made = made.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    renamed = {**dict(zip(panel.rows, panel.heads, strict=True)), **values}
    arranged = {"excludeByName": {"Time": True}, "renameByName": renamed, "indexByName": order}
    made = made.with_transformation(models.DataTransformerConfig(id_val="organize", options=arranged))
    for name, unit in zip(columns, panel.units, strict=True):
        made = made.override_by_name(name, [models.DynamicConfigValue(id_val="unit", value=unit)])
    found: table.Panel = made
    return found


_MAKERS = {Kind.SERIES: _series, Kind.STAT: _stat, Kind.TABLE: _table}
