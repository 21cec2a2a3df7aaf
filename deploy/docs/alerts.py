"""The page of alerts and recording rules, from deploy/grafana."""

from __future__ import annotations

import re

from deploy.docs.markdown import prose, table
from deploy.grafana.rules import ALERTS, RECORDS

_LABELS = re.compile(r"\{\{\s*(?:or )?\$labels\.(\w+)(?: \"[^\"]*\")?\s*\}\}")
_VALUE = re.compile(r"\{\{[^}]*\$value[^}]*\}\}")


def alerts_page() -> str:
    """The page."""
    parts = [
        "# Alerts and recording rules\n",
        "`metrics.prometheusRule.create` of the chart makes a PrometheusRule of them. Each alert has the address of "
        "its runbook, by `metrics.prometheusRule.runbooks`.\n",
        table(
            ("Alert", "Severity", "After", "What it says"),
            (
                (
                    f"[{each.name}](../runbooks/{each.name}.md)",
                    each.severity,
                    "at once" if each.lasts == "0m" else each.lasts,
                    prose(_said(each.summary)),
                )
                for each in ALERTS
            ),
        ),
        "## Expressions {#expressions}\n",
        *(f"`{each.name}`, {each.severity}:\n\n```promql\n{each.expression}\n```\n" for each in ALERTS),
        "## Recording rules {#records}\n",
        *(f"`{each.name}`:\n\n```promql\n{each.expression}\n```\n" for each in RECORDS),
    ]
    return "\n".join(parts)


def _said(template: str) -> str:
    """The sentence with the labels' names in the places of their values."""
    return _VALUE.sub("N", _LABELS.sub(lambda found: found[1].upper(), template))
