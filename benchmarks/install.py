"""What an install costs: from `helm install` to a Ready operator, images on the node, memory of the operator at rest.

On the local cluster, with images that the node has already; both Helms in turns.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.report import options_of, report
from deploy import chart, openai
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.place import Place, local_place
from tandem_operator.__main__ import METRICS_PORT

NAMESPACE = "tandem-install"
IMAGES = ("operator", "engine-cpu", "artifacts", "draft-triton")
HELMS = ("helm3", "helm4")
ROUNDS = 3
REST_SECONDS = 20.0
"""After which the operator has read everything and does nothing."""
MEBIBYTE = 2**20


def main() -> int:
    """Measure and report."""
    options = options_of("install", __doc__)
    cluster = Cluster()
    cluster.up()
    place = local_place(cluster)
    references = images.provide(list(IMAGES), cluster=cluster)
    place.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    figures: dict[str, float] = {}
    try:
        for helm in HELMS:
            seconds = [_installed_in(local_place(cluster, helm), references) for _ in range(ROUNDS)]
            figures |= {f"{helm}_ready_seconds": statistics.median(seconds), f"{helm}_ready_seconds_most": max(seconds)}
        chart.install(place, NAMESPACE, values=chart.values_of(references))
        time.sleep(REST_SECONDS)
        figures["operator_memory_mib"] = _memory_mib(place)
    finally:
        place.run("delete", "namespace", NAMESPACE, "--wait=true", limit_seconds=180)
    sizes = _sizes(place)
    figures |= {f"image_{name.replace('-', '_')}_mb": sizes[references[name]] / 1e6 for name in IMAGES}
    report("install", figures, table=_table(figures), path=options.json)
    return 0


def _installed_in(place: Place, references: dict[str, str]) -> float:
    """Seconds that one install takes until its operator is Ready, as Helm's --wait sees it; then it is taken away."""
    begun = time.monotonic()
    chart.install(place, NAMESPACE, values=chart.values_of(references))
    seconds = time.monotonic() - begun
    chart.uninstall(place, NAMESPACE)
    return seconds


def _memory_mib(place: Place) -> float:
    """Resident memory of the operator's process, as it says itself."""
    pods = place.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")["items"]
    address = f"http://{pods[0]['status']['podIP']}:{METRICS_PORT}"
    return openai.counter(address, "process_resident_memory_bytes") / MEBIBYTE


def _sizes(place: Place) -> dict[str, int]:
    """Bytes of each image on the node, as the kubelet tells; layers that images share count for each."""
    nodes: list[dict[str, Any]] = place.get("nodes")["items"]
    held = [image for node in nodes for image in node["status"].get("images", [])]
    return {name: image["sizeBytes"] for image in held for name in image["names"]}


def _table(figures: dict[str, float]) -> str:
    units = {"seconds": "s", "most": "s at most", "mib": "MiB", "mb": "MB"}
    return "\n".join(f"{name:32}{value:10.1f} {units[name.rpartition('_')[2]]}" for name, value in figures.items())


if __name__ == "__main__":
    raise SystemExit(main())
