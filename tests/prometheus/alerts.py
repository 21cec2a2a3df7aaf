"""When each alert fires, and when it does not: samples by the minute, as promtool writes them.

Each alert is looked at right before and right after the time that it waits, and with each part of its expression
alone untrue: `test_rules.py` turns every part around, and a case has to notice.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.grafana.rules import MAKING

OURS = 'namespace="chat", deployment="llama"'
PODS = 'namespace="chat", tandem_dev_deployment="llama", pod="p"'

Samples = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One alert, of one severity, and the minutes at which it has to fire and to be silent."""

    alert: str
    severity: str
    what: str
    samples: Samples
    fires: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()


def _late(share: float | str, *, target: float = 0.99) -> Samples:
    """Of the last requests; `target` is the share that should be in time."""
    attained = share if isinstance(share, str) else f"{1 - share:.3f}x400"
    return {
        f'tandem_scaling_attainment_ratio{{{OURS}, target="timeToFirstToken"}}': attained,
        f"tandem_scaling_target_ratio{{{OURS}}}": f"{target}x400",
    }


def _condition(kind: str, reason: str, value: int | str) -> Samples:
    values = value if isinstance(value, str) else f"{value}x400"
    return {f'tandem_deployment_condition{{{OURS}, type="{kind}", reason="{reason}"}}': values}


def _ready(role: str, pods: int) -> Samples:
    return {f'tandem_deployment_ready_replicas{{{OURS}, role="{role}"}}': f"{pods}x400"}


def _without_drafts(reason: str, *, holds: int = 0, ready: int = 0, verifiers: int = 1) -> Samples:
    return _condition("DraftReady", reason, holds) | _ready("draft", ready) | _ready("verifier", verifiers)


_DAY = 1440


def _then(before: int, after: int) -> str:
    """A counter that grows by the one a minute for a day, and by the other one since."""
    return f"0+{before}x{_DAY} {before * _DAY}+{after}x{_DAY}"


def _drafts(before: int, after: int) -> Samples:
    """Accepted of 100 proposed tokens a minute."""
    return {
        f'tandem_draft_tokens_total{{{PODS}, outcome="drafted"}}': f"0+100x{2 * _DAY}",
        f'tandem_draft_tokens_total{{{PODS}, outcome="accepted"}}': _then(before, after),
    }


def _hits(before: int, after: int) -> Samples:
    """Of 100 tokens a minute."""
    return {
        f"vllm:prefix_cache_queries_total{{{PODS}}}": f"0+100x{2 * _DAY}",
        f"vllm:prefix_cache_hits_total{{{PODS}}}": _then(before, after),
    }


def _artifact(**reasons: str) -> Samples:
    of = 'namespace="chat", artifact="a"'
    return {f'tandem_artifact_ready{{{of}, reason="{reason}"}}': values for reason, values in reasons.items()}


def _scaled(desired: int, most: int) -> Samples:
    role = 'role="verifier"'
    return {
        f"tandem_scaling_desired_replicas{{{OURS}, {role}}}": f"{desired}x100",
        f'tandem_scaling_replicas_bound{{{OURS}, {role}, bound="max"}}': f"{most}x100",
        f'tandem_scaling_replicas_bound{{{OURS}, {role}, bound="min"}}': "1x100",
    }


_CACHE = f"vllm:kv_cache_usage_perc{{{PODS}}}"
_PREEMPTED = f"vllm:num_preemptions_total{{{PODS}}}"
_BLIND = f'tandem_scaling_blind{{{OURS}, role="verifier"}}'
_COLD_START = f"tandem_scaling_cold_start_seconds{{{OURS}}}"
_OPERATOR = 'namespace="chat", pod="o"'


def _operator(
    *,
    leader: str = "1x100",
    watch: int = 1,
    age: str = "30x100",
    limit: int = 300,
    started: str = "1000x100",
    there: str = "1x100",
) -> Samples:
    """One that works, unless something else is said of it; another one works in the namespace beside."""
    beside = 'namespace="beside", pod="b"'
    return {
        f"tandem_operator_build_info{{{_OPERATOR}}}": there,
        f"tandem_operator_leader{{{_OPERATOR}}}": leader,
        f'tandem_operator_watch_up{{{_OPERATOR}, kind="Pod"}}': f"{watch}x100",
        f"tandem_operator_resync_age_seconds{{{_OPERATOR}}}": age,
        f"tandem_operator_resync_age_limit_seconds{{{_OPERATOR}}}": f"{limit}x100",
        f"process_start_time_seconds{{{_OPERATOR}}}": started,
        f"tandem_operator_build_info{{{beside}}}": "1x100",
        f"tandem_operator_leader{{{beside}}}": "1x100",
    }


_STARTS = f"tandem_start_time_seconds{{{PODS}}}"
_EFFECTIVE = "SpeculationEffective"

CASES = (
    Case("TandemLatencyBudgetBurn", "critical", "late", _late(0.16), fires=(3, 90), silent=(1,)),
    Case("TandemLatencyBudgetBurn", "critical", "not so late", _late(0.13), silent=(90,)),
    Case("TandemLatencyBudgetBurn", "critical", "late for a moment", _late("1x60 0.8x9 1x90"), silent=(65, 69)),
    Case("TandemLatencyBudgetBurn", "critical", "mended", _late("0.5x60 1x90"), fires=(60,), silent=(69, 75)),
    Case("TandemLatencyBudgetBurn", "critical", "95 %: most", _late(0.55, target=0.95), fires=(90,)),
    Case("TandemLatencyBudgetBurn", "critical", "95 %: half", _late(0.5, target=0.95), silent=(90,)),
    Case("TandemLatencyBudgetBurn", "critical", "90 %: most", _late(0.6, target=0.9), fires=(90,)),
    Case("TandemLatencyBudgetBurn", "critical", "90 %: half", _late(0.5, target=0.9), silent=(90,)),
    Case("TandemLatencyBudgetBurn", "critical", "50 %: nearly all", _late(0.78, target=0.5), fires=(90,)),
    Case("TandemLatencyBudgetBurn", "critical", "50 %: many", _late(0.72, target=0.5), silent=(90,)),
    Case("TandemLatencyBudgetBurn", "warning", "late", _late(0.07), fires=(16, 390), silent=(14,)),
    Case("TandemLatencyBudgetBurn", "warning", "hardly late", _late(0.05), silent=(390,)),
    Case("TandemLatencyBudgetBurn", "warning", "late for an hour", _late("1x300 0.8x60"), silent=(350,)),
    Case("TandemLatencyBudgetBurn", "warning", "mended", _late("0.5x300 1x100"), fires=(300,), silent=(335,)),
    Case("TandemLatencyBudgetBurn", "warning", "95 %: a quarter", _late(0.26, target=0.95), fires=(390,)),
    Case("TandemLatencyBudgetBurn", "warning", "95 %: a fifth", _late(0.22, target=0.95), silent=(390,)),
    Case("TandemLatencyBudgetBurn", "warning", "90 %: a third", _late(0.32, target=0.9), fires=(390,)),
    Case("TandemLatencyBudgetBurn", "warning", "90 %: a quarter", _late(0.25, target=0.9), silent=(390,)),
    Case("TandemLatencyBudgetBurn", "warning", "50 %: three fifths", _late(0.61, target=0.5), fires=(390,)),
    Case("TandemLatencyBudgetBurn", "warning", "50 %: a little more than half", _late(0.59, target=0.5), silent=(390,)),
    Case(
        "TandemSpeculationNotWorthIt",
        "warning",
        "drafts run in vain",
        _condition(_EFFECTIVE, "NotWorthIt", 0) | _ready("draft", 1),
        fires=(61,),
        silent=(59,),
    ),
    Case(
        "TandemSpeculationNotWorthIt",
        "warning",
        "no drafts run",
        _condition(_EFFECTIVE, "NotWorthIt", 0) | _ready("draft", 0) | _ready("verifier", 1),
        silent=(90,),
    ),
    Case(
        "TandemSpeculationNotWorthIt",
        "warning",
        "another reason",
        _condition(_EFFECTIVE, "NoDrafts", 0) | _ready("draft", 1),
        silent=(90,),
    ),
    Case(
        "TandemSpeculationNotWorthIt",
        "warning",
        "another condition",
        _condition("Ready", "NotWorthIt", 0) | _ready("draft", 1),
        silent=(90,),
    ),
    Case(
        "TandemSpeculationNotWorthIt",
        "warning",
        "they pay",
        _condition(_EFFECTIVE, "Effective", 1) | _ready("draft", 1),
        silent=(90,),
    ),
    Case(
        "TandemAcceptanceDropped",
        "warning",
        "half, for as long as a day's mean is above it",
        _drafts(80, 40),
        fires=(_DAY + 45, _DAY + 150, _DAY + 600),
        silent=(_DAY - 5, _DAY + 30, _DAY + 1000),
    ),
    Case("TandemAcceptanceDropped", "warning", "two thirds", _drafts(90, 59), fires=(_DAY + 45,)),
    Case("TandemAcceptanceDropped", "warning", "three quarters", _drafts(80, 60), silent=(_DAY + 45, _DAY + 150)),
    Case("TandemDraftsMissing", "warning", "failing", _without_drafts("PodsFailing"), fires=(16,), silent=(14,)),
    Case(
        "TandemDraftsMissing",
        "warning",
        "failing, and not Ready in between",
        _ready("draft", 0)
        | _ready("verifier", 1)
        | _condition("DraftReady", "PodsFailing", " ".join(["0x4 stale"] * 10))
        | _condition("DraftReady", "PodsNotReady", " ".join(["stale _x4 0"] * 10)),
        fires=(16, 20, 58),
    ),
    *(
        Case("TandemDraftsMissing", "warning", f"some serve: {reason}", _without_drafts(reason, ready=1), silent=(60,))
        for reason in ("RollingOut", "NoRoomForSurge", "RolloutFailed")
    ),
    Case("TandemDraftsMissing", "warning", "Ready", _without_drafts("PodsReady", holds=1), silent=(60,)),
    Case("TandemDraftsMissing", "warning", "nobody decodes", _without_drafts("PodsFailing", verifiers=0), silent=(60,)),
    Case("TandemDraftsMissing", "warning", "the spec is refused", _without_drafts("Absent"), silent=(60,)),
    Case(
        "TandemDraftsMissing",
        "warning",
        "something else is not Ready",
        _ready("draft", 0) | _ready("verifier", 1) | _condition("VerifierReady", "PodsFailing", 0),
        silent=(60,),
    ),
    Case("TandemKVCacheSaturated", "warning", "full", {_CACHE: "0.99x100"}, fires=(11,), silent=(9,)),
    Case("TandemKVCacheSaturated", "warning", "not full", {_CACHE: "0.9x100"}, silent=(60,)),
    Case("TandemPreemptions", "warning", "many", {_PREEMPTED: "0+7x100"}, fires=(60,)),
    Case("TandemPreemptions", "warning", "few", {_PREEMPTED: "0+5x100"}, silent=(60,)),
    Case(
        "TandemPreemptions", "warning", "a while", {_PREEMPTED: "0x30 8+8x20 168x60"}, fires=(49, 50), silent=(46, 70)
    ),
    Case(
        "TandemPrefixHitsCollapsed",
        "warning",
        "a sixth, for as long as a day's mean is above it",
        _hits(60, 10),
        fires=(_DAY + 45, _DAY + 150, _DAY + 600),
        silent=(_DAY - 5, _DAY + 30, _DAY + 1400),
    ),
    Case(
        "TandemPrefixHitsCollapsed",
        "warning",
        "a twelfth, until a day's mean is little",
        _hits(60, 5),
        fires=(_DAY + 900,),
        silent=(_DAY + 1150,),
    ),
    Case("TandemPrefixHitsCollapsed", "warning", "less than half", _hits(60, 27), fires=(_DAY + 45,)),
    Case(
        "TandemPrefixHitsCollapsed",
        "warning",
        "a little less than half, until a day's mean has followed",
        _hits(60, 28),
        fires=(_DAY + 60, _DAY + 150),
        silent=(_DAY + 195,),
    ),
    Case("TandemPrefixHitsCollapsed", "warning", "more than half", _hits(60, 33), silent=(_DAY + 45, _DAY + 150)),
    Case("TandemPrefixHitsCollapsed", "warning", "of little", _hits(19, 2), silent=(_DAY + 45, _DAY + 150)),
    Case("TandemPrefixHitsCollapsed", "warning", "of a little more", _hits(23, 2), fires=(_DAY + 45,)),
    Case(
        "TandemEngineRestarting",
        "critical",
        "each time before its weights, with a longer wait each time",
        {_STARTS: "1000 stale 1080 stale 1200x1 stale _x1 1500x1 stale _x30"},
        fires=(10, 20),
        silent=(5, 45),
    ),
    Case("TandemEngineRestarting", "critical", "twice", {_STARTS: "1000x5 1300x5 1600x60"}, silent=(13, 20, 30)),
    Case(
        "TandemEngineRestarting",
        "critical",
        "two pods of a deployment, twice each",
        {_STARTS: "1000x5 1300x5 1600x60", _STARTS.replace('"p"', '"q"'): "1000x5 1300x5 1600x60"},
        silent=(13, 20, 30),
    ),
    Case(
        "TandemEngineRestarting",
        "warning",
        "failing, and only not Ready in between",
        _condition("VerifierReady", "PodsFailing", " ".join(["0x4 stale"] * 10))
        | _condition("VerifierReady", "PodsNotReady", " ".join(["stale _x4 0"] * 10)),
        fires=(16, 21, 58),
        silent=(14,),
    ),
    Case(
        "TandemEngineRestarting",
        "warning",
        "failing every ten minutes",
        _condition("VerifierReady", "PodsFailing", " ".join(["0x2 stale _x6"] * 8)),
        fires=(16, 21, 58),
    ),
    Case(
        "TandemEngineRestarting",
        "warning",
        "failed once",
        _condition("VerifierReady", "PodsFailing", "0x3 stale") | _condition("VerifierReady", "PodsReady", "_x3 1x60"),
        silent=(12, 16, 20, 60),
    ),
    Case("TandemEngineRestarting", "warning", "waits", _condition("VerifierReady", "Unschedulable", 0), silent=(60,)),
    Case("TandemEngineRestarting", "warning", "drafts fail", _condition("DraftReady", "PodsFailing", 0), silent=(60,)),
    Case("TandemGateFailed", "warning", "bad", _condition("Stalled", "GateFailed", 1), fires=(1,), silent=(0,)),
    Case("TandemGateFailed", "warning", "another condition", _condition("Ready", "GateFailed", 1), silent=(60,)),
    Case("TandemGateFailed", "warning", "another cause", _condition("Stalled", "VolumeFull", 1), silent=(60,)),
    Case("TandemArtifactStuck", "warning", "refused", _artifact(SourceDenied="0x60"), fires=(21,), silent=(19,)),
    Case(
        "TandemArtifactStuck",
        "warning",
        "tried again every 5 minutes",
        _artifact(NetworkFailed=" ".join(["0x4 stale"] * 10), Fetching=" ".join(["stale _x4 0"] * 10)),
        fires=(21, 26, 45, 59),
    ),
    Case(
        "TandemArtifactStuck",
        "warning",
        "fetched for long before each failure",
        _artifact(NetworkFailed=" ".join(["0x2 stale _x6"] * 8)),
        fires=(21, 26, 45, 59),
    ),
    Case(
        "TandemArtifactStuck",
        "warning",
        "failed once, and takes long since",
        _artifact(NetworkFailed="0x5 stale", Fetching="_x5 0x100"),
        silent=(10, 15, 16, 20, 60),
    ),
    Case(
        "TandemArtifactStuck",
        "warning",
        "made after trouble",
        _artifact(VolumeFull="0x15 stale", Published="_x15 1x100"),
        silent=(20, 24, 60),
    ),
    *(
        Case("TandemArtifactStuck", "warning", f"at work: {each}", _artifact(**{each: "0x60"}), silent=(60,))
        for each in MAKING
    ),
    Case(
        "TandemArtifactStuck",
        "info",
        "at work for long, step by step",
        _artifact(Fetching="0x100 stale", Quantizing="_x100 0x300"),
        fires=(361,),
        silent=(359,),
    ),
    Case(
        "TandemArtifactStuck",
        "info",
        "made",
        _artifact(Quantizing="0x350 stale", Published="_x350 1x50"),
        silent=(370, 400),
    ),
    Case("TandemScalingBlind", "warning", "blind", {_BLIND: "1x100"}, fires=(11,), silent=(9,)),
    Case("TandemScalingBlind", "warning", "for a moment", {_BLIND: "1x5 0x95"}, silent=(12, 60)),
    Case(
        "TandemAtMaximum",
        "warning",
        "late at the maximum",
        _scaled(4, 4) | _condition("LatencyTargetMet", "TargetMissed", 0),
        fires=(11,),
        silent=(9,),
    ),
    Case(
        "TandemAtMaximum",
        "warning",
        "late below the maximum",
        _scaled(3, 4) | _condition("LatencyTargetMet", "TargetMissed", 0),
        silent=(60,),
    ),
    Case(
        "TandemAtMaximum",
        "warning",
        "in time at the maximum",
        _scaled(4, 4) | _condition("LatencyTargetMet", "TargetMet", 1) | _condition("Ready", "PodsNotReady", 0),
        silent=(60,),
    ),
    Case("TandemColdStartOverTarget", "info", "long", {_COLD_START: "650x100"}, fires=(6,), silent=(4,)),
    Case("TandemColdStartOverTarget", "info", "short", {_COLD_START: "500x100"}, silent=(60,)),
    Case("TandemOperatorDown", "critical", "at work", _operator(), silent=(60,)),
    Case("TandemOperatorDown", "critical", "no leader", _operator(leader="0x100"), fires=(6,), silent=(4,)),
    Case("TandemOperatorDown", "critical", "for a moment", _operator(leader="1x5 0x3 1x90"), silent=(12, 60)),
    Case("TandemOperatorDown", "critical", "nothing hears", _operator(watch=0), fires=(6,), silent=(4,)),
    Case(
        "TandemOperatorDown",
        "critical",
        "a standby that hears nothing beside one that works",
        _operator() | {'tandem_operator_watch_up{namespace="chat", pod="p", kind="Pod"}': "0x100"},
        silent=(60,),
    ),
    Case("TandemOperatorDown", "critical", "no resync", _operator(age="0+60x100"), fires=(10,), silent=(6,)),
    Case(
        "TandemOperatorDown", "critical", "rare resyncs", _operator(age="0+60x29 0+60x29", limit=5400), silent=(28, 58)
    ),
    Case(
        "TandemOperatorDown",
        "critical",
        "a rare resync that does not come",
        _operator(age="0+60x100", limit=5400),
        fires=(55,),
        silent=(45,),
    ),
    Case("TandemOperatorDown", "critical", "gone", _operator(there="1x10 stale", leader="1x10 stale"), fires=(17,)),
    Case("TandemOperatorDown", "critical", "gone, a moment ago", _operator(there="1x10 stale"), silent=(10, 15)),
    Case(
        "TandemOperatorDown",
        "critical",
        "started again each time that it is found out: a dead watcher, a resync that hangs",
        _operator(started="1000x5 1360x5 1720x5 2080x5 2440x5 2800x5 3160x5 3520x5"),
        fires=(30, 40),
        silent=(11,),
    ),
    Case(
        "TandemOperatorDown",
        "critical",
        "ends soon after each start, and is not seen in between",
        _operator(
            started=" ".join(f"{start} stale stale stale stale" for start in range(1000, 7000, 300)),
            there=" ".join(["1 stale stale stale stale"] * 20),
            leader=" ".join(["1 stale stale stale stale"] * 20),
        ),
        fires=(30, 33, 60),
    ),
    Case(
        "TandemOperatorDown",
        "critical",
        "started again twice",
        _operator(started="1000x5 1360x5 1720x80"),
        silent=(14, 20, 30),
    ),
    Case(
        "TandemOperatorDown",
        "critical",
        "started again three times, and not since",
        _operator(started="1000x5 1360x5 1720x5 2080x80"),
        fires=(24, 34),
        silent=(17, 22, 45, 60),
    ),
    Case(
        "TandemOperatorDown",
        "critical",
        "another program starts again and again",
        _operator() | {'process_start_time_seconds{namespace="chat", pod="x"}': "0+60x100"},
        silent=(60,),
    ),
)
