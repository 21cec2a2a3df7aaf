"""A namespace of the real node with Tandem as a user installs it: chart, operator as a pod, models on a claim."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import chart, model_hub, model_volume
from deploy.demo.quantized import values_of
from deploy.fixtures.pair import ModelPair, model_pair
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.local.processes import wait_until
from deploy.place import Place, local_place
from tests import audit
from tests.clusters import make_namespace

READY_LIMIT_SECONDS = 400
TOKEN = f"hf_{secrets.token_hex(16)}"
"""That the hub wants: it must be nowhere but in its Secret."""


@dataclass(frozen=True)
class Site:
    """One namespace with Tandem installed."""

    cluster: Cluster
    place: Place
    namespace: str
    references: dict[str, str]

    def run(self, *arguments: str, stdin: str = "", limit_seconds: float = 120) -> str:
        return self.place.run("--namespace", self.namespace, *arguments, stdin=stdin, limit_seconds=limit_seconds)

    def get(self, *what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("get", *what, "-o", "json"))
        return found

    def apply(self, manifest: dict[str, Any]) -> None:
        self.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def wait_ready(self, name: str) -> None:
        """`kubectl wait` as a user types it, for the generation that there is now."""
        generation = self.get(f"llm/{name}")["metadata"]["generation"]
        seen = "jsonpath={.status.observedGeneration}"
        self.run("wait", f"--for={seen}={generation}", f"llm/{name}", "--timeout=30s")
        limit = READY_LIMIT_SECONDS
        self.run("wait", "--for=condition=Ready", f"llm/{name}", f"--timeout={limit}s", limit_seconds=limit + 10)

    def address(self, service: str) -> str:
        """Where this machine reaches a Service: its ClusterIP, by way of kube-proxy."""
        return f"http://{self.get(f'service/{service}')['spec']['clusterIP']}"

    def wait_until(self, condition: Any, what: str, *, limit_seconds: float = 60) -> None:
        wait_until(condition, what, limit_seconds=limit_seconds, log=self.cluster.layout.log_of("kubelet"))

    def writes(self) -> list[dict[str, Any]]:
        """Audit events of the operator's writes, without its lease."""
        return audit.writes_of(self.cluster, self.namespace)


@pytest.fixture(scope="session")
def models() -> ModelPair:
    """The trained pair and its prompts."""
    return model_pair()


@pytest.fixture(scope="module")
def site(cluster: Cluster, models: ModelPair) -> Iterator[Site]:
    """Tandem installed with Helm 4, its operator running under the chart's own ServiceAccount."""
    references = images.provide(["operator", "engine-cpu"], cluster=cluster)
    place = local_place(cluster)
    namespace = f"t-{secrets.token_hex(4)}"
    make_namespace(cluster.kubectl, namespace)
    model_volume.provide_from_node(place, namespace, folder=models.folder)
    place.run("apply", "--server-side", "--force-conflicts", "-f", "crds")
    chart.install(place, namespace, values={**chart.values_of(references), "crds": {"install": False}})
    yield Site(cluster, place, namespace, references)
    assert audit.refusals_in(audit.events_of(cluster, namespace)) == []
    # Before the namespace: it would wait for as long as pods may take to end, not for as long as they do.
    place.run("delete", "llm", "--all", "-n", namespace, "--wait=true", limit_seconds=60)
    pods = ("pods", "-l", "tandem.dev/deployment", "-n", namespace)
    place.run("wait", "--for=delete", *pods, "--timeout=300s", limit_seconds=310)
    place.run("delete", "namespace", namespace, "--wait=true", limit_seconds=180)
    place.run("delete", "persistentvolume", f"models-{namespace}")


@pytest.fixture(scope="module")
def cache(cluster: Cluster) -> Path:
    """The folder of the node behind the claim `cache`."""
    return cluster.layout.state / "volumes" / secrets.token_hex(4)


@pytest.fixture(scope="module")
def quantizing(cluster: Cluster, models: ModelPair, cache: Path) -> Iterator[Site]:
    """Tandem with a hub, a token for it, and an empty cache."""
    with quantizing_site(cluster, models, cache) as site:
        yield site


@contextmanager
def quantizing_site(cluster: Cluster, models: ModelPair, cache: Path) -> Iterator[Site]:
    """The same, for the benchmarks too."""
    references = images.provide(["operator", "engine-cpu", "artifacts"], cluster=cluster)
    place, namespace = local_place(cluster), f"t-{secrets.token_hex(4)}"
    make_namespace(cluster.kubectl, namespace)
    model_volume.provide_from_node(place, namespace, folder=models.folder)
    model_volume.provide_cache_on_node(place, namespace, folder=cache)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": TOKEN}}
    place.apply(secret, *model_hub.objects_of(references["operator"], token_secret="hub"), namespace=namespace)
    place.run("apply", "--server-side", "--force-conflicts", "-f", "crds")
    values = {**values_of(references, namespace), "crds": {"install": False}}
    values["config"]["resyncSeconds"] = 5  # what is due by time alone is seen then
    values["config"]["accelerators"]["cpu"]["pricePerHour"] = "0.10"
    values["config"]["cacheHighPercent"] = 100  # the folder shares the node's disk, which may be fuller than by default
    chart.install(place, namespace, values=values)
    yield Site(cluster, place, namespace, references)
    place.run("delete", "llm", "--all", "-n", namespace, "--wait=true", limit_seconds=60)
    pods = ("pods", "-l", "tandem.dev/deployment", "-n", namespace)
    place.run("wait", "--for=delete", *pods, "--timeout=300s", limit_seconds=310)
    place.run("delete", "namespace", namespace, "--wait=true", limit_seconds=180)
    place.run("delete", "persistentvolume", f"models-{namespace}", f"cache-{namespace}")
