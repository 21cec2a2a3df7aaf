"""Annotations by which a Prometheus finds pods that has no PodMonitors: `prometheus.io/...`, a custom of its examples.

They can name one port of a pod, and a verifier has two with metrics. Theirs is the engine's: latency, queue, tokens and
KV cache are read there, and there alone. What the launcher has on the other one they cannot show.
"""

from __future__ import annotations

from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator.facts import Manifest


def scraped_port_of(role: Role) -> int:
    """The one port of a role's pods that annotations name."""
    return HTTP_PORT if role is Role.VERIFIER else METRICS_PORT


def pod_metadata_of(labels: dict[str, str], *, scraped_port: int | None) -> Manifest:
    """Metadata of a pod template. `scraped_port`: where its metrics are; None: it has no annotations."""
    if scraped_port is None:
        return {"labels": labels}
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/port": str(scraped_port),
        "prometheus.io/path": "/metrics",
    }
    return {"labels": labels, "annotations": annotations}
