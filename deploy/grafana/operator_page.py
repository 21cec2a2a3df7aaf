"""The operator itself: does it hear, does it work, is it refused."""

from __future__ import annotations

from deploy.grafana.overview import NAMESPACE
from deploy.grafana.parts import Dashboard, Row, series, stat
from deploy.grafana.promql import OURS, WINDOW, counted, quantile

_BY = "namespace"

OPERATOR = Dashboard(
    "tandem-operator",
    "Tandem / Operator",
    "The operator's own work: watchers, passes, requests to the API server, its lease.",
    (NAMESPACE,),
    (
        Row(
            "Now",
            (
                stat("Leaders", f"sum(tandem_operator_leader{{{OURS}}})", "none", "One a namespace."),
                stat(
                    "Watchers up",
                    f"min(tandem_operator_watch_up{{{OURS}}})",
                    "bool_yes_no",
                    "Whether every kind is being watched.",
                ),
                stat(
                    "Queue",
                    f"sum(tandem_operator_queue_depth{{{OURS}}})",
                    "none",
                    "Deployments and artifacts that wait for a pass.",
                ),
                stat(
                    "Passes",
                    f"sum(rate(tandem_operator_passes_total{{{OURS}}}[{WINDOW}]))",
                    "ops",
                    "A second, of all outcomes.",
                ),
                stat(
                    "Failed passes in an hour",
                    f"round(sum({counted('tandem_operator_pass_errors_total', '1h')}))",
                    "none",
                    "They are tried again by themselves.",
                ),
                stat(
                    "Memory",
                    f"max(process_resident_memory_bytes{{{OURS}}} and on(namespace, pod) tandem_operator_build_info)",
                    "bytes",
                    "Of the largest operator process.",
                ),
            ),
        ),
        Row(
            "Work",
            (
                series(
                    "Passes by outcome",
                    "A second.",
                    "ops",
                    (f"sum by (outcome) (rate(tandem_operator_passes_total{{{OURS}}}[{WINDOW}]))", "{{outcome}}"),
                    is_stacked=True,
                ),
                series(
                    "Duration of a pass",
                    "And the wait of a key before it.",
                    "s",
                    (quantile(0.5, "tandem_operator_pass_seconds", of=OURS, by=_BY), "{{namespace}} pass p50"),
                    (quantile(0.99, "tandem_operator_pass_seconds", of=OURS, by=_BY), "{{namespace}} pass p99"),
                    (quantile(0.99, "tandem_operator_queue_wait_seconds", of=OURS, by=_BY), "{{namespace}} wait p99"),
                ),
                series(
                    "Requests to the API server",
                    "By what they do and how they ended.",
                    "reqps",
                    (
                        f"sum by (verb, status) (rate(tandem_operator_api_requests_total{{{OURS}}}[{WINDOW}]))",
                        "{{verb}} {{status}}",
                    ),
                    is_stacked=True,
                ),
                series(
                    "Objects in the store",
                    "That the operator knows, by kind.",
                    "none",
                    (f"sum by (kind) (tandem_operator_store_objects{{{OURS}}})", "{{kind}}"),
                ),
                series(
                    "Time since the last resync",
                    "Of every leader; each deployment is looked at once a minute.",
                    "s",
                    (f"max by (namespace) (tandem_operator_resync_age_seconds{{{OURS}}})", "{{namespace}}"),
                ),
                series(
                    "Lease renewals",
                    "A second, by how they ended.",
                    "ops",
                    (
                        f"sum by (outcome) (rate(tandem_operator_lease_renewals_total{{{OURS}}}[{WINDOW}]))",
                        "{{outcome}}",
                    ),
                ),
                series(
                    "CPU",
                    "Cores, of each operator process.",
                    "short",
                    (
                        f"rate(process_cpu_seconds_total{{{OURS}}}[{WINDOW}]) and on(namespace, pod) "
                        "tandem_operator_build_info",
                        "{{pod}}",
                    ),
                ),
                series(
                    "Cold starts",
                    "p95 of all pods of both roles, by phase, over an hour.",
                    "s",
                    (
                        "histogram_quantile(0.95, sum by (le, role, phase) "
                        f"(increase(tandem_cold_start_seconds_bucket{{{OURS}}}[1h]))) >= 0",
                        "{{role}} {{phase}}",
                    ),
                ),
            ),
        ),
    ),
)
