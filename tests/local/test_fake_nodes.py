"""Pods on fake nodes: placed by the real scheduler, and then exactly what their annotation says."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.cluster import Cluster
from deploy.local.kubectl import Kubectl
from tests.clusters import make_namespace, wait_for

READY = "kwok.tandem.dev/ready"


@pytest.fixture(scope="module")
def gpu_node(cluster: Cluster) -> Iterator[str]:
    """A fake node of our own, with 8 GPUs, that no other test's pods choose."""
    (name,) = cluster.add_nodes("nvidia-a100", count=1)
    cluster.kubectl.run("label", "node", name, f"tandem.dev/test={name}")
    yield name
    cluster.kubectl.run("delete", "node", name, "--wait=false")


@pytest.fixture(scope="module")
def space(kubectl: Kubectl) -> Iterator[str]:
    name = f"t-{secrets.token_hex(4)}"
    make_namespace(kubectl, name)
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


def make_spec(node: str, *, gpus: int = 1, tolerates_gpus: bool = True) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "none",
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "containers": [container],
        "nodeSelector": {"tandem.dev/test": node},
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}] if tolerates_gpus else [],
    }


def make_pod(
    name: str, space: str, *, spec: dict[str, Any], annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": space, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_a_gpu_pod_becomes_ready_on_the_fake_node(kubectl: Kubectl, gpu_node: str, space: str) -> None:
    kubectl.apply(make_pod("ready", space, spec=make_spec(gpu_node)))
    wait_for(kubectl, "condition=Ready", "pod/ready", namespace=space)
    assert kubectl.get("pod", "ready", "-n", space)["spec"]["nodeName"] == gpu_node


def test_readiness_follows_the_annotation_both_ways(kubectl: Kubectl, gpu_node: str, space: str) -> None:
    kubectl.apply(make_pod("moody", space, spec=make_spec(gpu_node), annotations={READY: "false"}))
    wait_for(kubectl, "jsonpath={.status.phase}=Running", "pod/moody", namespace=space)
    wait_for(kubectl, "condition=Ready=False", "pod/moody", namespace=space)
    kubectl.run("annotate", "pod", "moody", "-n", space, f"{READY}-")
    wait_for(kubectl, "condition=Ready", "pod/moody", namespace=space)
    kubectl.run("annotate", "pod", "moody", "-n", space, f"{READY}=false")
    wait_for(kubectl, "condition=Ready=False", "pod/moody", namespace=space)


def test_a_jobs_pod_succeeds(kubectl: Kubectl, gpu_node: str, space: str) -> None:
    spec = {"template": {"spec": {**make_spec(gpu_node), "restartPolicy": "Never"}}}
    kubectl.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": space}, "spec": spec}
    )
    wait_for(kubectl, "condition=Complete", "job/job", namespace=space)


def test_a_pod_without_the_toleration_is_not_placed_there(kubectl: Kubectl, gpu_node: str, space: str) -> None:
    kubectl.apply(make_pod("cpu", space, spec=make_spec(gpu_node, gpus=0, tolerates_gpus=False)))
    wait_for(kubectl, "condition=PodScheduled=False", "pod/cpu", namespace=space)
    (condition,) = kubectl.get("pod", "cpu", "-n", space)["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert "untolerated taint" in condition["message"]


def test_more_gpus_than_the_node_has_are_unschedulable(kubectl: Kubectl, gpu_node: str, space: str) -> None:
    kubectl.apply(make_pod("greedy", space, spec=make_spec(gpu_node, gpus=9)))
    wait_for(kubectl, "condition=PodScheduled=False", "pod/greedy", namespace=space)
    (condition,) = kubectl.get("pod", "greedy", "-n", space)["status"]["conditions"]
    assert "Insufficient nvidia.com/gpu" in condition["message"]


def test_a_deleted_pod_is_gone(kubectl: Kubectl, gpu_node: str, space: str) -> None:
    kubectl.apply(make_pod("short", space, spec=make_spec(gpu_node)))
    wait_for(kubectl, "condition=Ready", "pod/short", namespace=space)
    kubectl.run("delete", "pod", "short", "-n", space, "--timeout=20s")
    assert kubectl.attempt("get", "pod", "short", "-n", space).returncode != 0


def test_the_namespace_of_a_test_enforces_restricted(kubectl: Kubectl, namespace: str) -> None:
    bare = {"containers": [{"name": "c", "image": "none"}]}
    refused = kubectl.attempt("create", "-f", "-", stdin=json.dumps(make_pod("bare", namespace, spec=bare)))
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr
