"""Recording rules and alerts. Labels as the chart's PodMonitor and ServiceMonitor give them.

An alert says what is so, of what, and where it is written what to do about it. An expression without samples tells
nothing: an operator that exports nothing is an alert of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.grafana.promql import BY_DEPLOYMENT, POD, ratio

RUNBOOKS = "docs/runbooks"
"""The chart puts the address of a site before it."""
ABSENT_OPERATOR = "absent(tandem_operator_build_info)"
"""Nobody's namespace: the chart puts its release's into it, since operators of other namespaces may be there."""
_BUDGET = "on(namespace, deployment) group_left() (1 - tandem_scaling_target_ratio)"
_ACCEPTANCE, _HITS = "tandem:draft_acceptance:ratio_rate15m", "tandem:prefix_cache_hits:ratio_rate15m"


@dataclass(frozen=True)
class Record:
    """A series that is worked out once for all who ask."""

    name: str
    expression: str


@dataclass(frozen=True)
class Alert:
    """`lasts`: for so long it holds before anybody is told."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str
    description: str


def _burn(window: str) -> str:
    """How many times faster than allowed the budget of late requests is spent."""
    return f"(1 - avg_over_time(tandem_scaling_attainment_ratio[{window}])) / {_BUDGET}"


def _usual(series: str) -> str:
    """What a deployment is compared with: a day's mean, which what has changed since takes half a day to move."""
    return f"avg_over_time({series}[1d])"


def _limit(burn: float, *, of_the_rest: float) -> str:
    """How fast is too fast. With `percentile` 50 no burn exceeds 2, with 90 none 10: there it is where this share of
    those requests is late, too, that the target wants in time."""
    ratio_of_target = "tandem_scaling_target_ratio"
    reachable = f"1 + {of_the_rest} * {ratio_of_target} / (1 - {ratio_of_target})"
    return f"on(namespace, deployment) group_left() clamp_max({reachable}, {burn})"


def _burns(now: str, lasting: str, limit: str) -> str:
    """Above the limit over both windows: still, and for long enough."""
    return " and ".join(f"tandem:latency_budget_burn:{window} > {limit}" for window in (now, lasting))


def _rate(counter: str, of: str = "") -> str:
    return f"sum by ({BY_DEPLOYMENT}) (rate({counter}{{{of}}}[15m]))"


RECORDS = (
    *(Record(f"tandem:latency_budget_burn:{window}", _burn(window)) for window in ("5m", "30m", "1h", "6h")),
    Record(
        _ACCEPTANCE,
        ratio(
            _rate("tandem_draft_tokens_total", 'outcome="accepted"'),
            _rate("tandem_draft_tokens_total", 'outcome="drafted"'),
        ),
    ),
    Record(_HITS, ratio(_rate("vllm:prefix_cache_hits_total"), _rate("vllm:prefix_cache_queries_total"))),
)

_OURS = "{{ $labels.namespace }}/{{ $labels.deployment }}"
_PODS = "{{ $labels.namespace }}/{{ $labels." + POD + " }}"
MAKING = (
    "Absent", "Inspecting", "Inspected", "Fetching", "Quantizing", "Evaluating", "SmokeTesting", "SourceNotReady",
    "Evicting", "Published",
)  # fmt: skip
"""Reasons of an artifact that is not ready yet, and has no trouble."""
_TROUBLE = f'tandem_artifact_ready{{reason!~"{"|".join(MAKING)}"}}'
"""What is tried again every 5 minutes has no trouble in between: it is remembered for 10 minutes, and has to be there
for longer than that and one failure."""
_FAILING = 'tandem_deployment_condition{type="VerifierReady", reason="PodsFailing"}'

_DOWN = (
    "sum by (namespace) (tandem_operator_leader) == 0",
    "(tandem_operator_watch_up == 0 and on(namespace, pod) tandem_operator_leader == 1)",
    "tandem_operator_resync_age_seconds > 0.5 * tandem_operator_resync_age_limit_seconds",
    "(changes(process_start_time_seconds[30m]) > 2"
    " and on(namespace, pod) last_over_time(tandem_operator_build_info[30m]))",
    ABSENT_OPERATOR,
)
"""A process with a dead watcher or a resync that hangs fails its liveness probe and is started again within minutes, so
it is the starts that tell of it. The limit counts where resyncs are rare, and the probe is late."""

ALERTS = (
    Alert(
        "TandemLatencyBudgetBurn",
        _burns("5m", "1h", _limit(14.4, of_the_rest=0.5)),
        "2m",
        "critical",
        f"{_OURS}: requests miss the target {{{{ $labels.target }}}}",
        "The share of late requests is {{ $value | humanize }} times what the target allows, and has been high for an "
        "hour.",
    ),
    Alert(
        "TandemLatencyBudgetBurn",
        _burns("30m", "6h", _limit(6, of_the_rest=0.2)),
        "15m",
        "warning",
        f"{_OURS}: too many requests miss the target {{{{ $labels.target }}}}",
        "The share of late requests is {{ $value | humanize }} times what the target allows, and has been high for six "
        "hours.",
    ),
    Alert(
        "TandemSpeculationNotWorthIt",
        'tandem_deployment_condition{type="SpeculationEffective", reason="NotWorthIt"} == 0 '
        'and on(namespace, deployment) tandem_deployment_ready_replicas{role="draft"} > 0',
        "1h",
        "warning",
        f"{_OURS}: draft pods run, and decoding without them is faster",
        "Verifiers have measured it for an hour. The draft pods hold accelerators for nothing.",
    ),
    Alert(
        "TandemAcceptanceDropped",
        f"{_ACCEPTANCE} < 0.7 * {_usual(_ACCEPTANCE)}",
        "30m",
        "warning",
        f"{_PODS}: fewer drafts are accepted than over the day before",
        "{{ $value | humanizePercentage }} of the proposed tokens are accepted. After a rollout: do draft and verifier "
        "still fit?",
    ),
    Alert(
        "TandemDraftsMissing",
        'max by (namespace, deployment) (tandem_deployment_condition{type="DraftReady", reason!="Absent"}) == 0 '
        'unless on(namespace, deployment) tandem_deployment_ready_replicas{role="draft"} > 0 '
        'and on(namespace, deployment) tandem_deployment_ready_replicas{role="verifier"} > 0',
        "15m",
        "warning",
        f"{_OURS}: no draft pod is Ready",
        "Verifiers decode without drafts meanwhile: answers are the same, and slower. DraftReady says why.",
    ),
    Alert(
        "TandemKVCacheSaturated",
        f"avg by ({BY_DEPLOYMENT}) (vllm:kv_cache_usage_perc) > 0.95",
        "10m",
        "warning",
        f"{_PODS}: the KV cache is full",
        "{{ $value | humanizePercentage }} of it is in use: requests wait for room, or lose theirs.",
    ),
    Alert(
        "TandemPreemptions",
        f"sum by ({BY_DEPLOYMENT}) (rate(vllm:num_preemptions_total[10m])) > 0.1",
        "10m",
        "warning",
        f"{_PODS}: requests lose their KV cache to others",
        "{{ $value | humanize }} a second: each begins anew.",
    ),
    Alert(
        "TandemPrefixHitsCollapsed",
        f"{_HITS} < 0.5 * {_usual(_HITS)} and {_usual(_HITS)} > 0.2",
        "30m",
        "warning",
        f"{_PODS}: the prefix cache helps much less than over the day before",
        "{{ $value | humanizePercentage }} of the prompts' tokens are found in it.",
    ),
    Alert(
        "TandemEngineRestarting",
        "sum by (namespace, pod) (changes(tandem_start_time_seconds[30m])) > 2",
        "0m",
        "critical",
        "{{ $labels.namespace }}/{{ $labels.pod }}: the engine starts again and again",
        "{{ $value }} times within half an hour.",
    ),
    Alert(
        "TandemEngineRestarting",
        f"max by (namespace, deployment) (last_over_time({_FAILING}[10m])) == 0",
        "15m",
        "warning",
        f"{_OURS}: verifiers do not start or do not stay",
        "VerifierReady has the cause of the worst one. It may end before anybody can ask it how often it was started.",
    ),
    Alert(
        "TandemGateFailed",
        'tandem_deployment_condition{type="Stalled", reason="GateFailed"} == 1',
        "1m",
        "warning",
        f"{_OURS}: a quantized model is not good enough to be served",
        "Its accuracy gate says no; what served before goes on.",
    ),
    Alert(
        "TandemArtifactStuck",
        f"max by (namespace, artifact) (last_over_time({_TROUBLE}[10m])) == 0 "
        "unless on(namespace, artifact) tandem_artifact_ready == 1",
        "20m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.artifact }}: the model cannot be made",
        "Its condition Ready says why. It does not become ready by itself, or is tried again and again in vain.",
    ),
    Alert(
        "TandemArtifactStuck",
        "max by (namespace, artifact) (tandem_artifact_ready) == 0",
        "6h",
        "info",
        "{{ $labels.namespace }}/{{ $labels.artifact }}: the model is not ready",
        "It has been in the making for six hours; its condition Ready says what it is at.",
    ),
    Alert(
        "TandemScalingBlind",
        "tandem_scaling_blind == 1",
        "10m",
        "warning",
        f"{_OURS}: scaling sees no metrics of its {{{{ $labels.role }}}} pods",
        "Replicas stay as they are, whatever the load.",
    ),
    Alert(
        "TandemAtMaximum",
        'tandem_scaling_desired_replicas >= on(namespace, deployment, role) tandem_scaling_replicas_bound{bound="max"} '
        'and on(namespace, deployment) tandem_deployment_condition{type="LatencyTargetMet"} == 0',
        "10m",
        "warning",
        f"{_OURS}: maxReplicas, {{{{ $value }}}}, are not enough for the target",
        "Requests are late, and no further {{ $labels.role }} may be made.",
    ),
    Alert(
        "TandemColdStartOverTarget",
        "tandem_scaling_cold_start_seconds > 600",
        "5m",
        "info",
        f"{_OURS}: a replica takes more than ten minutes to start",
        "{{ $value | humanizeDuration }}: as long the surplus is that is kept for a surge.",
    ),
    Alert(
        "TandemOperatorDown",
        f"group by (namespace) ({' or '.join(_DOWN)})",
        "5m",
        "critical",
        '{{ or $labels.namespace "every namespace" }}: no operator is at work',
        "What serves goes on; nothing is repaired, rolled out or scaled.",
    ),
)


def rule_groups() -> list[dict[str, Any]]:
    """As Prometheus and a PrometheusRule have them."""
    records = [{"record": each.name, "expr": each.expression} for each in RECORDS]
    return [{"name": "tandem.records", "rules": records}, {"name": "tandem.alerts", "rules": [*map(_alert, ALERTS)]}]


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
        },
    }
