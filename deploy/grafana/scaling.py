"""Why did it scale: demand over capacity, what was decided, and when."""

from __future__ import annotations

from deploy.grafana.deployment import CHOSEN
from deploy.grafana.parts import Dashboard, Mark, Row, series, stat
from deploy.grafana.promql import OF_DEPLOYMENT

_DESIRED = f"tandem_scaling_desired_replicas{{{OF_DEPLOYMENT}}}"
_CAPACITY = f"tandem_scaling_replica_requests_per_second{{{OF_DEPLOYMENT}}}"
_READY = f'tandem_deployment_ready_replicas{{role="verifier", {OF_DEPLOYMENT}}}'


def _most(gauge: str) -> str:
    """Of what two operators say while one follows the other."""
    return f"max by (namespace, deployment) ({gauge})"


SCALING = Dashboard(
    "tandem-scaling",
    "Tandem / Scaling",
    "Why a deployment has as many replicas as it has. `tandem why` says each decision in a sentence.",
    CHOSEN,
    (
        Row(
            "Now",
            (
                stat(
                    "Verifiers wanted",
                    f'max(tandem_scaling_desired_replicas{{role="verifier", {OF_DEPLOYMENT}}})',
                    "none",
                    "By the last decision.",
                ),
                stat("Verifiers ready", f"max({_READY})", "none", "Of the serving revision."),
                stat(
                    "Demand",
                    f"max(tandem_scaling_requests_per_second{{{OF_DEPLOYMENT}}})",
                    "reqps",
                    "Requests that arrive.",
                ),
                stat(
                    "Cold start",
                    f"max(tandem_scaling_cold_start_seconds{{{OF_DEPLOYMENT}}})",
                    "s",
                    "That most replicas take from being made to being Ready.",
                ),
                stat(
                    "Blind",
                    f"max(tandem_scaling_blind{{{OF_DEPLOYMENT}}})",
                    "bool_yes_no",
                    "Too few pods say anything: nothing is scaled.",
                ),
                stat(
                    "Changes in an hour",
                    f"round(sum(increase(tandem_scaling_changes_total{{{OF_DEPLOYMENT}}}[1h])))",
                    "none",
                    "Times that replicas were changed, either way.",
                ),
            ),
        ),
        Row(
            "Decision",
            (
                series(
                    "Demand and capacity",
                    "Requests that arrive, what a cold start may bring beside them, and what the Ready verifiers do.",
                    "reqps",
                    (f"tandem_scaling_requests_per_second{{{OF_DEPLOYMENT}}}", "arrive"),
                    (
                        f"tandem_scaling_requests_per_second{{{OF_DEPLOYMENT}}} + "
                        f"tandem_scaling_surge_per_second{{{OF_DEPLOYMENT}}}",
                        "provided for",
                    ),
                    (f"{_most(_CAPACITY)} * {_most(_READY)}", "capacity"),
                    width=12,
                ),
                series(
                    "Replicas",
                    "Wanted, Ready, and the bounds of spec.autoscaling.",
                    "none",
                    (_DESIRED, "{{role}} wanted"),
                    (f"tandem_deployment_ready_replicas{{{OF_DEPLOYMENT}}}", "{{role}} ready"),
                    (f"tandem_scaling_replicas_bound{{{OF_DEPLOYMENT}}}", "{{role}} {{bound}}"),
                    width=12,
                ),
                series(
                    "Within the target",
                    "Share of the last minutes' requests, and the share that is asked for.",
                    "percentunit",
                    (f"tandem_scaling_attainment_ratio{{{OF_DEPLOYMENT}}}", "{{target}}"),
                    (f"tandem_scaling_target_ratio{{{OF_DEPLOYMENT}}}", "asked for"),
                    highest=1.0,
                ),
                series(
                    "A replica's capacity",
                    "Requests that it does within the target; nothing until that is learned.",
                    "reqps",
                    (_CAPACITY, "a verifier"),
                ),
                series(
                    "Cold start",
                    "That most replicas take from being made to being Ready.",
                    "s",
                    (f"tandem_scaling_cold_start_seconds{{{OF_DEPLOYMENT}}}", "cold start"),
                ),
                series(
                    "Changes",
                    "Of replicas, in five minutes.",
                    "none",
                    (f"round(increase(tandem_scaling_changes_total{{{OF_DEPLOYMENT}}}[5m]))", "{{role}} {{direction}}"),
                ),
                series(
                    "Drafts",
                    "Tokens that verifiers ask for, and what one busy draft gives.",
                    "short",
                    (f"tandem_scaling_draft_tokens_per_second{{{OF_DEPLOYMENT}}}", "asked for"),
                    (f"tandem_scaling_draft_replica_tokens_per_second{{{OF_DEPLOYMENT}}}", "a draft gives"),
                ),
                series(
                    "Cost an hour",
                    "Of all pods, by the accelerator table's prices.",
                    "currencyUSD",
                    (f"tandem_scaling_cost_per_hour{{{OF_DEPLOYMENT}}}", "cost"),
                ),
            ),
        ),
    ),
    marks=(
        Mark(
            "Replicas changed",
            f"increase(tandem_scaling_changes_total{{{OF_DEPLOYMENT}}}[2m]) > 0",
            "{{deployment}}: {{role}} {{direction}}",
        ),
        Mark("Blind", f"tandem_scaling_blind{{{OF_DEPLOYMENT}}} > 0", "{{deployment}}: {{role}} metrics are missing"),
        Mark(
            "Not scaling",
            f'tandem_deployment_condition{{type="ScalingActive", {OF_DEPLOYMENT}}} == bool 0',
            "{{deployment}}: {{reason}}",
        ),
    ),
)
