"""The real HPA controller and kubectl beside the operator: one writes, the other follows, nobody writes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem_operator.facts import Manifest
from tests.audit import ACCOUNT
from tests.cluster.custom_metrics import CustomMetrics, serving_custom_metrics
from tests.cluster.scaled import HPA, NAME, log_end, make_deployment, wait_for_replicas, workload, writes
from tests.cluster.world import World


@pytest.fixture
def metrics(tandem: World, tmp_path: Path) -> Iterator[CustomMetrics]:
    with serving_custom_metrics(tandem.cluster, tandem.namespace, tmp_path / "custom-metrics") as served:
        yield served


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


def _wait_for_answers(world: World, metrics: CustomMetrics, number: int) -> None:
    """Until the HPA controller has looked so often again."""
    seen = metrics.answers
    world.wait_until(lambda: metrics.answers >= seen + number, f"the HPA controller looks {number} times")


def test_an_hpa_scales_the_verifiers_and_the_operator_follows(tandem: World, metrics: CustomMetrics) -> None:
    tandem.apply(make_deployment(autoscaling=None))
    tandem.wait_for(NAME, "Ready")
    wait_for_replicas(tandem, 1)
    begin = log_end(tandem)
    metrics.load = 30.0
    tandem.apply(_hpa(apiVersion="tandem.dev/v1alpha1", kind="LLMDeployment", name=NAME))
    wait_for_replicas(tandem, 3)
    _wait_for_answers(tandem, metrics, 2)
    assert tandem.get("hpa/theirs")["status"]["currentReplicas"] == 3
    metrics.load = 19.0
    wait_for_replicas(tandem, 2)
    _wait_for_answers(tandem, metrics, 2)
    assert tandem.get(f"llm/{NAME}")["spec"]["verifier"]["replicas"] == 2
    assert writes(tandem, "llmdeployments", begin) == {(HPA, "scale"): 2}
    assert writes(tandem, "deployments", begin) == {(ACCOUNT, ""): 2}


def test_an_hpa_on_the_deployment_of_an_autoscaled_one_is_told_of_and_left_alone(
    tandem: World, metrics: CustomMetrics
) -> None:
    tandem.apply(make_deployment())
    tandem.wait_for(NAME, "Ready")
    begin = log_end(tandem)
    metrics.load = 40.0
    tandem.apply(_hpa(apiVersion="apps/v1", kind="Deployment", name=workload(tandem)["metadata"]["name"]))
    told = tandem.wait_for(NAME, "ScalingActive", status="False", reason="ScalingConflict")
    assert "its replicas were written by kube-controller-manager" in told["message"]
    wait_for_replicas(tandem, 4)
    _wait_for_answers(tandem, metrics, 2)
    metrics.load = 30.0
    wait_for_replicas(tandem, 3)
    tandem.wait_until(
        lambda: tandem.get(f"llm/{NAME}")["status"]["scaling"]["desiredVerifiers"] == 3, "the operator follows"
    )
    _wait_for_answers(tandem, metrics, 2)
    written = writes(tandem, "deployments", begin)
    assert written[HPA, "scale"] == 2
    assert written[ACCOUNT, ""] <= 2, "at most one for each change of somebody else's"
    assert set(written) <= {(HPA, "scale"), (ACCOUNT, "")}
    assert writes(tandem, "llmdeployments", begin) == {}


def test_kubectl_scale_is_followed_by_one_write_each(tandem: World) -> None:
    tandem.apply(make_deployment(autoscaling=None))
    tandem.wait_for(NAME, "Ready")
    begin = log_end(tandem)
    for number in (3, 2, 4):
        tandem.run("scale", f"llm/{NAME}", f"--replicas={number}")
        wait_for_replicas(tandem, number)
        tandem.wait_for(NAME, "Ready")
    assert list(writes(tandem, "llmdeployments", begin).values()) == [3]
    assert writes(tandem, "deployments", begin) == {(ACCOUNT, ""): 3}
