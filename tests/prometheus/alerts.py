"""When each alert fires, and when it does not: samples by the minute, as promtool writes them."""

from __future__ import annotations

from dataclasses import dataclass

OURS = 'namespace="chat", deployment="llama"'
PODS = 'namespace="chat", tandem_dev_deployment="llama", pod="p"'

Samples = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One alert, of one severity."""

    alert: str
    severity: str
    firing: Samples
    silent: Samples
    minutes: int = 60
    """When it is looked at."""


def _attained(share: float) -> Samples:
    attained = f'tandem_scaling_attainment_ratio{{{OURS}, target="timeToFirstToken"}}'
    return {attained: f"{share}x400", f"tandem_scaling_target_ratio{{{OURS}}}": "0.99x400"}


def _condition(kind: str, reason: str, value: int) -> Samples:
    return {f'tandem_deployment_condition{{{OURS}, type="{kind}", reason="{reason}"}}': f"{value}x400"}


def _ready(role: str, pods: int) -> Samples:
    return {f'tandem_deployment_ready_replicas{{{OURS}, role="{role}"}}': f"{pods}x400"}


def _drafts(before: int, after: int) -> Samples:
    """Accepted of 100 proposed tokens a minute, for two and a half hours each."""
    return {
        f'tandem_draft_tokens_total{{{PODS}, outcome="drafted"}}': "0+100x400",
        f'tandem_draft_tokens_total{{{PODS}, outcome="accepted"}}': f"0+{before}x150 {150 * before}+{after}x150",
    }


def _hits(before: int, after: int) -> Samples:
    return {
        f"vllm:prefix_cache_queries_total{{{PODS}}}": "0+100x400",
        f"vllm:prefix_cache_hits_total{{{PODS}}}": f"0+{before}x150 {150 * before}+{after}x150",
    }


def _artifact(reason: str, ready: int) -> Samples:
    return {f'tandem_artifact_ready{{namespace="chat", artifact="a", reason="{reason}"}}': f"{ready}x600"}


def _scaled(desired: int, most: int) -> Samples:
    role = 'role="verifier"'
    return {
        f"tandem_scaling_desired_replicas{{{OURS}, {role}}}": f"{desired}x100",
        f'tandem_scaling_replicas_bound{{{OURS}, {role}, bound="max"}}': f"{most}x100",
    }


def _operator(leader: str, *, watch: int = 1, age: str = "30x100") -> Samples:
    pod = 'namespace="chat", pod="o"'
    return {
        f"tandem_operator_build_info{{{pod}}}": "1x100",
        f"tandem_operator_leader{{{pod}}}": leader,
        f'tandem_operator_watch_up{{{pod}, kind="Pod"}}': f"{watch}x100",
        f"tandem_operator_resync_age_seconds{{{pod}}}": age,
    }


_STARTS = f'tandem_start_phase_seconds{{{PODS}, phase="process"}}'
_EFFECTIVE = "SpeculationEffective"

CASES = (
    Case("TandemLatencyBudgetBurn", "critical", _attained(0.8), _attained(0.9), minutes=90),
    Case("TandemLatencyBudgetBurn", "warning", _attained(0.92), _attained(0.97), minutes=390),
    Case(
        "TandemSpeculationNotWorthIt",
        "warning",
        _condition(_EFFECTIVE, "NotWorthIt", 0) | _ready("draft", 2),
        _condition(_EFFECTIVE, "NotWorthIt", 0) | _ready("draft", 0),
        minutes=90,
    ),
    Case("TandemAcceptanceDropped", "warning", _drafts(80, 40), _drafts(80, 70), minutes=210),
    Case(
        "TandemDraftsMissing",
        "warning",
        _condition("DraftReady", "PodsFailing", 0),
        _condition("DraftReady", "NotUsed", 0),
    ),
    Case(
        "TandemKVCacheSaturated",
        "warning",
        {f"vllm:kv_cache_usage_perc{{{PODS}}}": "0.99x100"},
        {f"vllm:kv_cache_usage_perc{{{PODS}}}": "0.8x100"},
    ),
    Case(
        "TandemPreemptions",
        "warning",
        {f"vllm:num_preemptions_total{{{PODS}}}": "0+60x100"},
        {f"vllm:num_preemptions_total{{{PODS}}}": "0+1x100"},
    ),
    Case("TandemPrefixHitsCollapsed", "warning", _hits(60, 10), _hits(60, 50), minutes=210),
    Case("TandemEngineRestarting", "critical", {_STARTS: "1+0.1x100"}, {_STARTS: "1x100"}),
    Case("TandemGateFailed", "warning", _condition("Stalled", "GateFailed", 1), _condition("Stalled", "VolumeFull", 1)),
    Case("TandemArtifactStuck", "warning", _artifact("SourceDenied", 0), _artifact("Quantizing", 0)),
    Case("TandemArtifactStuck", "info", _artifact("Quantizing", 0), _artifact("Published", 1), minutes=400),
    Case(
        "TandemScalingBlind",
        "warning",
        {f'tandem_scaling_blind{{{OURS}, role="verifier"}}': "1x100"},
        {f'tandem_scaling_blind{{{OURS}, role="verifier"}}': "1x5 0x95"},
    ),
    Case(
        "TandemAtMaximum",
        "warning",
        _scaled(4, 4) | _condition("LatencyTargetMet", "TargetMissed", 0),
        _scaled(3, 4) | _condition("LatencyTargetMet", "TargetMissed", 0),
    ),
    Case(
        "TandemColdStartOverTarget",
        "info",
        {f"tandem_scaling_cold_start_seconds{{{OURS}}}": "900x100"},
        {f"tandem_scaling_cold_start_seconds{{{OURS}}}": "120x100"},
    ),
    Case("TandemOperatorDown", "critical", _operator("0x100"), _operator("1x100")),
    Case("TandemOperatorDown", "critical", _operator("1x100", watch=0), _operator("1x100")),
    Case("TandemOperatorDown", "critical", _operator("1x100", age="0+60x100"), _operator("1x100")),
    Case("TandemOperatorDown", "critical", {}, _operator("1x100")),
)
