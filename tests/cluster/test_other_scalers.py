"""The real HPA controller and kubectl beside the operator: one writes, the other follows, nobody writes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem_operator.facts import Manifest
from tests import audit
from tests.audit import ACCOUNT
from tests.cluster.custom_metrics import CustomMetrics, serving_custom_metrics
from tests.cluster.world import World, sample

NAME = "llama-8b"
HPA = "horizontal-pod-autoscaler"


@pytest.fixture
def metrics(tandem: World, tmp_path: Path) -> Iterator[CustomMetrics]:
    with serving_custom_metrics(tandem.cluster, tandem.namespace, tmp_path / "custom-metrics") as served:
        yield served


def _deployment(**spec: Any) -> Manifest:
    body = sample("autoscaled")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h100-80gb"], "count": 1}
    body["spec"] |= spec
    return body


def _hpa(**target: str) -> Manifest:
    """Ten requests a pod, without any hold."""
    metric = {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "theirs"},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": 1,
            "maxReplicas": 6,
            "metrics": [{"type": "Pods", "pods": metric}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


def _workload(world: World) -> Manifest:
    (name,) = world.names("deployments", f"tandem.dev/deployment={NAME}")
    return world.get(f"deployment/{name}")


def _wait_for_replicas(world: World, number: int) -> None:
    def holds() -> bool:
        workload = _workload(world)
        return workload["spec"]["replicas"] == number == workload["status"].get("readyReplicas")

    # The HPA controller hears of a kind that is new to the cluster within half a minute.
    world.wait_until(holds, f"{number} verifiers", limit_seconds=60)


def _wait_for_answers(world: World, metrics: CustomMetrics, number: int) -> None:
    """Until the HPA controller has looked so often again."""
    seen = metrics.answers
    world.wait_until(lambda: metrics.answers >= seen + number, f"the HPA controller looks {number} times")


def _log_end(world: World) -> int:
    return world.cluster.layout.audit_log.stat().st_size


def _writes(world: World, resource: str, begin: int) -> Counter[tuple[str, str]]:
    """By who wrote and to which subresource, without the status, which says how many are Ready."""
    found = Counter(audit.writers_of(world.cluster, world.namespace, resource, begin=begin))
    return Counter({writer: count for writer, count in found.items() if writer[1] != "status"})


def test_an_hpa_scales_the_verifiers_and_the_operator_follows(tandem: World, metrics: CustomMetrics) -> None:
    tandem.apply(_deployment(autoscaling=None))
    tandem.wait_for(NAME, "Ready")
    _wait_for_replicas(tandem, 1)
    begin = _log_end(tandem)
    metrics.load = 30.0
    tandem.apply(_hpa(apiVersion="tandem.dev/v1alpha1", kind="LLMDeployment", name=NAME))
    _wait_for_replicas(tandem, 3)
    _wait_for_answers(tandem, metrics, 2)
    assert tandem.get("hpa/theirs")["status"]["currentReplicas"] == 3
    metrics.load = 19.0
    _wait_for_replicas(tandem, 2)
    _wait_for_answers(tandem, metrics, 2)
    assert tandem.get(f"llm/{NAME}")["spec"]["verifier"]["replicas"] == 2
    assert _writes(tandem, "llmdeployments", begin) == {(HPA, "scale"): 2}
    assert _writes(tandem, "deployments", begin) == {(ACCOUNT, ""): 2}


def test_an_hpa_on_the_deployment_of_an_autoscaled_one_is_told_of_and_left_alone(
    tandem: World, metrics: CustomMetrics
) -> None:
    tandem.apply(_deployment())
    tandem.wait_for(NAME, "Ready")
    begin = _log_end(tandem)
    metrics.load = 40.0
    tandem.apply(_hpa(apiVersion="apps/v1", kind="Deployment", name=_workload(tandem)["metadata"]["name"]))
    told = tandem.wait_for(NAME, "ScalingActive", status="False", reason="ScalingConflict")
    assert "its replicas were written by kube-controller-manager" in told["message"]
    _wait_for_replicas(tandem, 4)
    _wait_for_answers(tandem, metrics, 2)
    metrics.load = 30.0
    _wait_for_replicas(tandem, 3)
    tandem.wait_until(
        lambda: tandem.get(f"llm/{NAME}")["status"]["scaling"]["desiredVerifiers"] == 3, "the operator follows"
    )
    _wait_for_answers(tandem, metrics, 2)
    writes = _writes(tandem, "deployments", begin)
    assert writes[HPA, "scale"] == 2
    assert writes[ACCOUNT, ""] <= 2, "at most one for each change of somebody else's"
    assert set(writes) <= {(HPA, "scale"), (ACCOUNT, "")}
    assert _writes(tandem, "llmdeployments", begin) == {}


def test_kubectl_scale_is_followed_by_one_write_each(tandem: World) -> None:
    tandem.apply(_deployment(autoscaling=None))
    tandem.wait_for(NAME, "Ready")
    begin = _log_end(tandem)
    for number in (3, 2, 4):
        tandem.run("scale", f"llm/{NAME}", f"--replicas={number}")
        _wait_for_replicas(tandem, number)
        tandem.wait_for(NAME, "Ready")
    assert list(_writes(tandem, "llmdeployments", begin).values()) == [3]
    assert _writes(tandem, "deployments", begin) == {(ACCOUNT, ""): 3}
