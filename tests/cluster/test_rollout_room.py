"""Rollouts on nodes without a spare GPU, and of revisions that fail: the real scheduler says what there is room for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from deploy.local.cluster import Cluster
from tests.cluster.world import Manifest, World, sample
from tests.faults.api import Api
from tests.faults.case import Monitor
from tests.faults.oracles import fewest_serving

NAME = "llama-70b"
CLASS = "nvidia-a100-80gb"
VERIFIERS = "tandem.dev/role=verifier"
LIMITS = {"surgeWait": "1s", "drainTimeout": "1s", "progressDeadline": "10s"}
NEVER_READY = "tandem.local/engine-gpu:never-ready"


@pytest.fixture(scope="module")
def node(cluster: Cluster, place: Any) -> Iterator[str]:
    """The only node of its class: 8 GPUs."""
    cluster.add_nodes(CLASS, count=1)
    yield f"{CLASS}-1"
    for name in cluster.kubectl.run("get", "nodes", "-o", "name").split():
        if name.startswith(f"node/{CLASS}"):
            cluster.kubectl.run("delete", name, "--wait=false")


@pytest.fixture
def rolling(world: World, node: str) -> World:
    world.operator(engineImageAllowList=["tandem[.]local/.*"]).start()
    return world


@pytest.fixture
def monitor(world: World, cluster: Cluster) -> Iterator[Monitor]:
    """Every event of pods and Services, from before there are any."""
    with closing(Api(cluster)) as api, closing(Monitor(api, world.namespace)) as found:
        yield found


def _pairless(*, replicas: int, count: int, depth: int = 3, **rollout: str) -> Manifest:
    body = sample("gpu-pair")
    body["spec"]["verifier"].update(accelerator={"classes": [CLASS], "count": count}, replicas=replicas)
    del body["spec"]["draft"]
    body["spec"].update(speculation={"method": "NGram", "maxDepth": depth}, rollout={**LIMITS, **rollout})
    return body


class Watched:
    """The Ready pods that the Service reaches, at each look."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.fewest = 1000

    def look(self) -> int:
        selector = self._world.get(f"service/{NAME}")["spec"]["selector"]
        items = self._world.get("pods -l " + ",".join(f"{k}={v}" for k, v in selector.items()))["items"]
        ready = 0
        for pod in items:
            conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
            ready += conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
        self.fewest = min(self.fewest, ready)
        return ready


def _revision(world: World) -> str:
    selector = world.get(f"service/{NAME}")["spec"]["selector"]
    found: str = selector.get("tandem.dev/revision", "")
    return found


def _started(world: World, body: Manifest) -> str:
    world.apply(body)
    world.wait_for(NAME, "Ready")
    return _revision(world)


def _is_alone(world: World, revision: str) -> bool:
    return world.names("deployments", VERIFIERS) == [f"{NAME}-verifier-{revision}"]


def test_without_room_one_old_pod_goes_for_one_new_and_never_two_are_missing(rolling: World, monitor: Monitor) -> None:
    old = _started(rolling, _pairless(replicas=4, count=2))

    def is_done() -> bool:
        return _revision(rolling) not in {"", old} and _is_alone(rolling, _revision(rolling))

    rolling.apply(_pairless(replicas=4, count=2, depth=4))
    rolling.wait_until(is_done, "the rollout, one for one")
    rolling.wait_for(NAME, "Ready")
    assert Watched(rolling).look() == 4
    # From every event: the one that is missing may be back before anybody looks.
    assert fewest_serving(monitor.seen(), service=NAME, after=4) == 3


def test_one_replica_without_room_serves_on_until_a_node_comes(rolling: World, cluster: Cluster) -> None:
    old = _started(rolling, _pairless(replicas=1, count=8))
    watched = Watched(rolling)
    rolling.apply(_pairless(replicas=1, count=8, depth=4))
    told = rolling.wait_for(NAME, "VerifierReady", status="False", reason="NoRoomForSurge")
    assert "nsufficient nvidia.com/gpu" in told["message"]
    assert (_revision(rolling), watched.look()) == (old, 1)
    cluster.add_nodes(CLASS, count=1)

    def is_done() -> bool:
        watched.look()
        return _revision(rolling) != old and _is_alone(rolling, _revision(rolling))

    rolling.wait_until(is_done, "the rollout onto the new node")
    assert watched.fewest == 1
    cluster.kubectl.run("delete", "node", f"{CLASS}-2", "--wait=false")


def test_a_revision_that_fails_is_rolled_back_and_not_tried_again_until_the_spec_changes(rolling: World) -> None:
    old = _started(rolling, _pairless(replicas=2, count=2))
    bad = _pairless(replicas=2, count=2)
    bad["spec"]["verifier"]["engine"] = {"image": NEVER_READY}
    rolling.apply(bad)
    stalled = rolling.wait_for(NAME, "Stalled", reason="RolloutFailed")
    assert old in stalled["message"]
    rolling.wait_until(lambda: _is_alone(rolling, old), "the failed revision's pods gone")
    assert rolling.conditions(NAME)["Available"]["status"] == "True"
    failed = rolling.get(f"llm/{NAME}")["status"]["verifier"]["targetRevision"]
    assert failed != old
    assert "tandem.dev/failed" in rolling.get(f"controllerrevision/{NAME}-verifier-{failed}")["metadata"]["annotations"]
    rolling.run("scale", f"llm/{NAME}", "--replicas=3")
    rolling.wait_until(
        lambda: rolling.get(f"llm/{NAME}")["status"]["verifier"].get("readyReplicas") == 3, "three of the old revision"
    )
    assert _is_alone(rolling, old)
    rolling.apply(_pairless(replicas=3, count=2, depth=4))
    rolling.wait_for(NAME, "Ready")
    assert _revision(rolling) not in {old, failed}


def test_a_rolling_rollout_that_fails_brings_the_old_pods_back(rolling: World) -> None:
    old = _started(rolling, _pairless(replicas=4, count=2))
    watched = Watched(rolling)
    bad = _pairless(replicas=4, count=2)
    bad["spec"]["verifier"]["engine"] = {"image": NEVER_READY}
    rolling.apply(bad)

    def is_back() -> bool:
        ready = watched.look()
        is_failed = rolling.conditions(NAME).get("Stalled", {}).get("reason") == "RolloutFailed"
        return is_failed and _revision(rolling) == old and _is_alone(rolling, old) and ready == 4

    rolling.wait_until(is_back, "the failure, and four pods of the old revision")
    assert watched.fewest == 3


def test_with_hold_the_failed_pods_stay(rolling: World) -> None:
    old = _started(rolling, _pairless(replicas=2, count=2, onFailure="Hold"))
    bad = _pairless(replicas=2, count=2, onFailure="Hold")
    bad["spec"]["verifier"]["engine"] = {"image": NEVER_READY}
    rolling.apply(bad)
    rolling.wait_for(NAME, "Stalled", reason="RolloutFailed")
    assert _revision(rolling) == old
    assert len(rolling.names("pods", VERIFIERS)) == 4


def _tandem(world: World, *arguments: str) -> str:
    command = [sys.executable, "-m", "tandem_operator.cli.main", *arguments]
    command += ["-n", world.namespace, "--kubeconfig", str(world.place.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tandem_rollback_asks_again_for_what_was_asked_before(rolling: World) -> None:
    first = _started(rolling, _pairless(replicas=2, count=2))
    rolling.apply(_pairless(replicas=2, count=2, depth=4))
    rolling.wait_for(NAME, "Ready")
    assert _revision(rolling) != first
    assert first in _tandem(rolling, "rollback", NAME)
    rolling.wait_for(NAME, "Ready")
    assert _revision(rolling) == first
    assert rolling.get(f"llm/{NAME}")["spec"]["speculation"]["maxDepth"] == 3
    _tandem(rolling, "rollback", NAME, "--role", "verifier")
    assert rolling.get(f"llm/{NAME}")["spec"]["speculation"]["maxDepth"] == 4


def test_tandem_refresh_rolls_out_what_a_newer_operator_would_render(rolling: World) -> None:
    first = _started(rolling, _pairless(replicas=2, count=2))
    pods = rolling.names("pods", VERIFIERS)
    rolling.operators[0].end()
    images = {"cpu": "tandem.local/engine-cpu:newer", "gpu": "tandem.local/engine-gpu:newer"}
    rolling.operator("newer", engineImages=images).start()
    rolling.wait_for(NAME, "VerifierReady", reason="RevisionOutdated")
    assert rolling.names("pods", VERIFIERS) == pods
    assert "rolls out" in _tandem(rolling, "refresh", NAME)
    rolling.wait_until(lambda: _revision(rolling) not in {"", first}, "the refreshed revision serves")
    rolling.wait_for(NAME, "VerifierReady", reason="PodsReady")
    (container,) = rolling.get(f"deployment/{NAME}-verifier-{_revision(rolling)}")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["image"] == "tandem.local/engine-gpu:newer"
