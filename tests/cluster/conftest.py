"""Fixtures: a cluster with fake GPU nodes and Tandem's CRDs, and a `world`: a namespace with the chart in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.cluster import Cluster
from deploy.local.processes import wait_until
from deploy.place import Place, local_place
from tests.cluster.world import REPOSITORY, World, make_world

NODES = {"nvidia-h100-80gb": 2, "nvidia-l40s-48gb": 1}


@pytest.fixture(scope="session")
def place(cluster: Cluster) -> Place:
    """The local cluster with our CRDs and enough fake accelerators."""
    found = local_place(cluster)
    nodes = [node["metadata"]["name"] for node in found.get("nodes")["items"]]
    for name, count in NODES.items():
        lacking = count - sum(node.startswith(name) for node in nodes)
        if lacking > 0:
            cluster.add_nodes(name, count=lacking)
    found.run("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
    found.run("wait", "--for=condition=Established", "crd/llmdeployments.tandem.dev", "--timeout=30s")
    wait_until(  # an established kind is served a moment before it is described
        lambda: cluster.kubectl.attempt("explain", "llmdeployment").returncode == 0,
        "the API server's description of LLMDeployment",
        limit_seconds=30,
        log=cluster.layout.log_of("apiserver"),
    )
    return found


@pytest.fixture
def world(cluster: Cluster, place: Place, namespace: str, tmp_path: Path) -> Iterator[World]:
    """A namespace with the chart installed and no operator running yet."""
    made = make_world(cluster, place, namespace=namespace, folder=tmp_path)
    yield made
    for operator in made.operators:
        operator.end()
    place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")


@pytest.fixture
def tandem(world: World) -> World:
    """The same with the operator running."""
    world.operator().start()
    return world
