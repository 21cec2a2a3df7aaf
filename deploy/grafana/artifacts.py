"""Models: which are ready, how large, how long they took, and what quantizing has cost."""

from __future__ import annotations

from deploy.grafana.overview import NAMESPACE
from deploy.grafana.parts import Dashboard, Kind, Panel, Query, Row, series, stat
from deploy.grafana.promql import OURS, counted, or_zero
from tandem_contracts import metrics

_MOST = "max by (namespace, artifact)"
_READY = f"tandem_artifact_ready{{{OURS}}}"

_TABLE = Panel(
    "Artifacts",
    "Each model as it lies on its volume, and what quantizing it has cost, by the texts that lost the most.",
    "short",
    (
        Query(f"{_MOST} ({_READY})", "Ready"),
        Query(f"{_MOST} (tandem_artifact_size_bytes{{{OURS}}})", "Size"),
        Query(f"{_MOST} (tandem_artifact_making_seconds{{{OURS}}})", "Made in"),
        Query(f"{_MOST} (tandem_artifact_perplexity_increase_ratio{{{OURS}}})", "Perplexity"),
        Query(f"{_MOST} (tandem_artifact_perplexity_increase_upper_ratio{{{OURS}}})", "at most"),
        Query(f"{_MOST} (tandem_artifact_kl_divergence_nats{{{OURS}}})", "KL divergence"),
        Query(f"min by (namespace, artifact) (tandem_artifact_top1_agreement_ratio{{{OURS}}})", "Same first token"),
    ),
    Kind.TABLE,
    width=24,
    height=10,
    rows=("namespace", "artifact"),
    units=("bool_yes_no", "bytes", "s", "percentunit", "percentunit", "short", "percentunit"),
)

ARTIFACTS = Dashboard(
    "tandem-artifacts",
    "Tandem / Artifacts",
    "Models that are fetched, quantized, measured and published, and what that has cost.",
    (NAMESPACE,),
    (
        Row(
            "Now",
            (
                stat("Artifacts", f"count({_READY})", "none", "ModelArtifacts there are."),
                stat(
                    "Not ready",
                    or_zero(f"count({_READY} == 0)", _READY),
                    "none",
                    "In the making, or stuck: `kubectl get modelartifacts` says which.",
                ),
                stat("Size", f"sum(tandem_artifact_size_bytes{{{OURS}}})", "bytes", "Of all files on the volumes."),
                stat(
                    "Largest loss",
                    f"max(tandem_artifact_perplexity_increase_ratio{{{OURS}}})",
                    "percentunit",
                    "Rise of the perplexity by quantizing.",
                ),
                stat(
                    "Jobs in an hour",
                    f"round(sum({counted('tandem_artifact_jobs_total', '1h')}))",
                    "none",
                    "That were made, of every step.",
                ),
                stat(
                    "Evicted in a day",
                    f"round(sum({counted('tandem_artifact_evictions_total', '1d')}))",
                    "none",
                    "Artifacts whose files have left their volume.",
                ),
            ),
        ),
        Row("Artifacts", (_TABLE,)),
        Row(
            "Over time",
            (
                series(
                    "Why not ready",
                    "By the reason of the condition Ready.",
                    "none",
                    (or_zero(f"count by (reason) ({_READY} == 0)", _READY), "{{reason}}"),
                    is_stacked=True,
                ),
                series(
                    "Progress of steps",
                    "Of Jobs that run: parts that are done.",
                    "percentunit",
                    (
                        f"{metrics.ARTIFACT_DONE}{{{OURS}}} / ({metrics.ARTIFACT_TOTAL}{{{OURS}}} > 0)",
                        "{{tandem_dev_artifact}} {{step}}",
                    ),
                    highest=1.0,
                ),
                series(
                    "Jobs",
                    "That were made, by step, in an hour.",
                    "none",
                    (f"round(sum by (step) ({counted('tandem_artifact_jobs_total', '1h')}))", "{{step}}"),
                ),
            ),
        ),
    ),
)
