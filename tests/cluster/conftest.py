"""Fixtures: a cluster with fake GPU nodes and Tandem's CRDs, and a `world`: a namespace with the chart in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.cluster import Cluster
from deploy.place import Place
from tests import audit
from tests.cluster.world import World, make_place, make_world

NODES = {"nvidia-h100-80gb": 2, "nvidia-l40s-48gb": 1}


@pytest.fixture(scope="session")
def place(cluster: Cluster) -> Place:
    """The local cluster with our CRDs and enough fake accelerators."""
    return make_place(cluster, nodes=NODES)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "lacks_rights: the operator is to be refused something for lack of a right")


@pytest.fixture
def world(
    cluster: Cluster, place: Place, namespace: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[World]:
    """A namespace with the chart installed and no operator running yet. Its operators never lack a right."""
    made = make_world(cluster, place, namespace=namespace, folder=tmp_path)
    yield made
    for operator in made.operators:
        operator.end()
    refusals = audit.refusals_in(made.audited())
    assert bool(refusals) is (request.node.get_closest_marker("lacks_rights") is not None), refusals
    place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")


@pytest.fixture
def tandem(world: World) -> World:
    """The same with the operator running."""
    world.operator().start()
    return world
