"""All deployments: is anything slow, short of pods, or dear."""

from __future__ import annotations

from deploy.grafana.parts import Dashboard, Kind, Panel, Query, Row, Variable, series, stat
from deploy.grafana.promql import (
    BY_DEPLOYMENT,
    NAMED,
    OURS,
    WINDOW,
    or_zero,
    per_second,
    quantile,
    ratio,
    renamed,
    total,
)
from tandem_contracts import metrics

NAMESPACE = Variable("namespace", "Namespace", 'label_values({__name__=~"tandem_.+"}, namespace)')
_IS_READY = f'tandem_deployment_condition{{type="Ready", {OURS}}}'
_ACCEPTANCE = ratio(
    per_second(metrics.DRAFT_TOKENS, of=f'outcome="accepted", {OURS}'),
    per_second(metrics.DRAFT_TOKENS, of=f'outcome="drafted", {OURS}'),
)

_TABLE = Panel(
    "Deployments",
    "Each deployment now: pods, load, latencies of the last minutes, and what it costs.",
    "short",
    (
        Query(f'sum by ({BY_DEPLOYMENT}) (tandem_engine_ready{{tandem_dev_role="verifier", {OURS}}})', "Verifiers"),
        Query(f'sum by ({BY_DEPLOYMENT}) (tandem_engine_ready{{tandem_dev_role="draft", {OURS}}})', "Drafts"),
        Query(per_second(metrics.ENGINE_FINISHED, of=OURS), "Requests/s"),
        Query(total(metrics.ENGINE_WAITING, of=OURS), "Waiting"),
        Query(quantile(0.95, metrics.ENGINE_FIRST_TOKEN_SECONDS, of=OURS), "First token p95"),
        Query(quantile(0.95, metrics.ENGINE_OUTPUT_TOKEN_SECONDS, of=OURS), "Per output token p95"),
        Query(
            f"min by ({BY_DEPLOYMENT}) ({renamed(f'tandem_scaling_attainment_ratio{{{OURS}}}')})", "Within the target"
        ),
        Query(_ACCEPTANCE, "Accepted"),
        Query(f"max by ({BY_DEPLOYMENT}) ({renamed(f'tandem_scaling_cost_per_hour{{{OURS}}}')})", "Cost an hour"),
    ),
    Kind.TABLE,
    width=24,
    height=9,
    rows=("namespace", "tandem_dev_deployment"),
    units=("none", "none", "reqps", "none", "s", "s", "percentunit", "percentunit", "currencyUSD"),
)

OVERVIEW = Dashboard(
    "tandem-overview",
    "Tandem / Overview",
    "All deployments at a glance: load, latency, pods and cost.",
    (NAMESPACE,),
    (
        Row(
            "Now",
            (
                stat(
                    "Deployments",
                    f"count(count by (namespace, deployment) (tandem_deployment_condition{{{OURS}}}))",
                    "none",
                    "LLMDeployments that the operators know.",
                ),
                stat(
                    "Not Ready",
                    or_zero(f"count({_IS_READY} == 0)", _IS_READY),
                    "none",
                    "Deployments whose condition Ready is False: `kubectl get llm` says why.",
                ),
                stat(
                    "Engines ready",
                    f"sum(tandem_engine_ready{{{OURS}}})",
                    "none",
                    "Pods of both roles whose engine has answered its health check.",
                ),
                stat(
                    "Requests",
                    f"sum(rate({metrics.ENGINE_FINISHED}{{{OURS}}}[{WINDOW}]))",
                    "reqps",
                    "Answered.",
                ),
                stat(
                    "Output tokens/s",
                    f"sum(rate({metrics.ENGINE_OUTPUT_TOKENS}{{{OURS}}}[{WINDOW}]))",
                    "short",
                    "Tokens a second that are generated.",
                ),
                stat(
                    "Cost an hour",
                    f"sum(tandem_scaling_cost_per_hour{{{OURS}}})",
                    "currencyUSD",
                    "Of autoscaled deployments whose accelerator classes have a price.",
                ),
            ),
        ),
        Row("Deployments", (_TABLE,)),
        Row(
            "Over time",
            (
                series(
                    "Requests",
                    "That were answered, whichever way they ended.",
                    "reqps",
                    (per_second(metrics.ENGINE_FINISHED, of=OURS), NAMED),
                ),
                series(
                    "Output tokens",
                    "That are generated.",
                    "short",
                    (per_second(metrics.ENGINE_OUTPUT_TOKENS, of=OURS), NAMED),
                ),
                series(
                    "Input tokens",
                    "Whose prefill is over, those from the prefix cache included.",
                    "short",
                    (per_second(metrics.ENGINE_PROMPT_TOKENS, of=OURS), NAMED),
                ),
                series(
                    "First token, p95",
                    "From a request's arrival at its engine.",
                    "s",
                    (quantile(0.95, metrics.ENGINE_FIRST_TOKEN_SECONDS, of=OURS), NAMED),
                ),
                series(
                    "Within the target",
                    "Share of the last minutes' requests, of autoscaled deployments.",
                    "percentunit",
                    (
                        f"tandem_scaling_attainment_ratio{{{OURS}}}",
                        "{{namespace}}/{{deployment}} {{target}}",
                    ),
                    highest=1.0,
                ),
                series(
                    "Requests that wait",
                    "In the engines' queues.",
                    "none",
                    (total(metrics.ENGINE_WAITING, of=OURS), NAMED),
                ),
                series(
                    "KV cache in use",
                    "The mean over a deployment's verifiers.",
                    "percentunit",
                    (f"avg by ({BY_DEPLOYMENT}) ({metrics.ENGINE_KV_USAGE}{{{OURS}}})", NAMED),
                    highest=1.0,
                ),
                series(
                    "Drafts accepted",
                    "Of the tokens that drafts proposed.",
                    "percentunit",
                    (_ACCEPTANCE, NAMED),
                    highest=1.0,
                ),
                series(
                    "Requests at wake gates",
                    "Held until a verifier is Ready. Nothing while no deployment is at zero.",
                    "none",
                    (or_zero(f"sum by (namespace) ({metrics.GATE_HELD}{{{OURS}}})", _IS_READY), "{{namespace}}"),
                ),
            ),
        ),
    ),
)
