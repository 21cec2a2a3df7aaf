"""Prometheus metrics of ModelArtifacts: gauges that are read from the store when they are asked for, and what passes
count. Decides nothing, and keeps nothing but the counters.

Only what happens once is counted: a Job that was made, files that have gone. How often a deployment finds its model
made already is not: each of its passes finds it, and the first one after a restart does again.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tandem_operator.artifact_facts import DOING, known_in
from tandem_operator.names import ConditionType
from tandem_operator.store import Store

JOBS = Counter("tandem_artifact_jobs_total", "Jobs of artifacts that were made, by step.", ["namespace", "step"])
EVICTIONS = Counter("tandem_artifact_evictions_total", "Artifacts that were deleted after their files.", ["namespace"])


def begin(namespace: str) -> None:
    """Tell of a namespace in which models are asked for, at 0 unless something is counted already."""
    for step in DOING:
        JOBS.labels(namespace, step.value)
    EVICTIONS.labels(namespace)


class ArtifactFigures(Collector):
    """What the artifacts are, one moment after the other. For any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """No label but the names is anybody's to choose, and texts, of which a status holds few."""
        ready = _gauge("ready", "1 while it can be served; why, or why not, by its condition Ready.", "reason")
        size = _gauge("size_bytes", "Size of its files on the volume.")
        making = _gauge("making_seconds", "Time that the Job took which made its files.")
        increase = _gauge("perplexity_increase_ratio", "Rise of the perplexity by quantizing, paired.", "texts")
        upper = _gauge("perplexity_increase_upper_ratio", "End of the 95 % interval of that rise.", "texts")
        divergence = _gauge("kl_divergence_nats", "From the source's next token, the mean over tokens.", "texts")
        agreement = _gauge("top1_agreement_ratio", "Share of tokens that both models put first.", "texts")
        for artifact in self._store.artifacts():
            metadata, status = artifact["metadata"], artifact.get("status") or {}
            name = [metadata["namespace"], metadata["name"]]
            known = known_in(status)
            said = {condition["type"]: condition for condition in status.get("conditions") or []}
            condition = said.get(ConditionType.READY, {})
            is_ready = condition.get("status") == "True"
            if is_ready or not status.get("unusedSince"):  # nobody waits for what nobody asks for
                ready.add_metric([*name, condition.get("reason", "")], is_ready)
            if known.files is not None:
                size.add_metric(name, known.files.bytes)
                making.add_metric(name, known.files.seconds)
            for texts, quality in known.losses.items():
                increase.add_metric([*name, texts], quality.increase_percent / 100)
                upper.add_metric([*name, texts], quality.increase_percent_upper / 100)
                divergence.add_metric([*name, texts], quality.kl_divergence)
                agreement.add_metric([*name, texts], quality.top1_agreement)
        yield from (ready, size, making, increase, upper, divergence, agreement)


def _gauge(name: str, told: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tandem_artifact_{name}", told, labels=["namespace", "artifact", *labels])
