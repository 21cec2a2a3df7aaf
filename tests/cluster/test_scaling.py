"""Scaling against a real API server: who writes the replicas, and that nobody writes them back and forth.

The pods are on fake nodes, so no engine says anything: replicas stay, which is a test of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from deploy.place import PlaceError
from tandem_operator.facts import Manifest
from tests.cluster.world import World, sample

NAME = "llama-8b"


def _autoscaled(**autoscaling: Any) -> Manifest:
    body = sample("autoscaled")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h100-80gb"], "count": 1}
    body["spec"]["autoscaling"] |= autoscaling
    return body


def _workload(world: World, labels: str = f"tandem.dev/deployment={NAME}") -> str:
    (name,) = world.names("deployments", labels)
    return name


def _replicas(world: World, labels: str = f"tandem.dev/deployment={NAME}") -> int:
    found: int = world.get(f"deployment/{_workload(world, labels)}")["spec"]["replicas"]
    return found


def _writes_of_workload(world: World, since: int) -> list[str]:
    writes = world.writes()[since:]
    return [each["verb"] for each in writes if each["objectRef"]["resource"] == "deployments"]


def test_that_engines_say_nothing_is_told_and_nothing_is_decided(tandem: World) -> None:
    tandem.apply(_autoscaled())
    told = tandem.wait_for(NAME, "ScalingActive", status="False", reason="MetricsMissing")
    assert told["message"].startswith("stays at 2:")
    tandem.wait_for(NAME, "Ready")
    assert _replicas(tandem) == 2
    assert tandem.get(f"llm/{NAME}")["status"]["scaling"]["health"] == "Blind"
    assert tandem.names("configmaps", f"tandem.dev/deployment={NAME}") == [f"{NAME}-scaling"]


def test_kubectl_scale_of_the_resource_changes_nothing_while_it_is_autoscaled(tandem: World) -> None:
    tandem.apply(_autoscaled())
    tandem.wait_for(NAME, "Ready")
    before = len(tandem.writes())
    tandem.run("scale", f"llm/{NAME}", "--replicas=7")
    generation = tandem.get(f"llm/{NAME}")["metadata"]["generation"]
    tandem.wait_until(
        lambda: tandem.get(f"llm/{NAME}")["status"]["observedGeneration"] == generation, "the operator has seen it"
    )
    assert _replicas(tandem) == 2
    assert _writes_of_workload(tandem, before) == []
    told = tandem.conditions(NAME)["ScalingActive"]["message"]
    assert "kubectl has set spec.verifier.replicas to 7, which counts only once spec.autoscaling is taken out" in told


def test_somebody_who_scales_our_deployment_is_told_of_and_left_alone(tandem: World) -> None:
    tandem.apply(_autoscaled())
    tandem.wait_for(NAME, "Ready")
    before = len(tandem.writes())
    tandem.run("scale", f"deployment/{_workload(tandem)}", "--replicas=4")
    told = tandem.wait_for(NAME, "ScalingActive", status="False", reason="ScalingConflict")
    assert "its replicas were written by kubectl" in told["message"]
    tandem.run("scale", f"deployment/{_workload(tandem)}", "--replicas=5")
    tandem.wait_until(
        lambda: tandem.get(f"llm/{NAME}")["status"]["scaling"]["desiredVerifiers"] == 5, "the operator follows"
    )
    tandem.wait_for(NAME, "Ready")
    assert _replicas(tandem) == 5
    assert len(_writes_of_workload(tandem, before)) <= 2, "at most one for each change of somebody else's"


def test_drafts_begin_within_their_bounds_and_belong_to_whoever_has_scaled_them(tandem: World) -> None:
    body = sample(
        "gpu-pair", autoscaling=_autoscaled(draft={"minReplicas": 2, "maxReplicas": 4})["spec"]["autoscaling"]
    )
    pair, drafts = body["metadata"]["name"], f"tandem.dev/deployment={body['metadata']['name']},tandem.dev/role=draft"
    tandem.apply(body)
    tandem.wait_for(pair, "Ready")
    assert _replicas(tandem, drafts) == 2, "the least, although the spec begins with one"
    told = tandem.get(f"llm/{pair}")["status"]["scaling"]
    assert (told["desiredVerifiers"], told["desiredDrafts"]) == (2, 2)
    remembered = tandem.get(f"configmap/{pair}-scaling")["data"]
    assert sorted(remembered) == ["draft", "verifier"]
    before = len(tandem.writes())
    tandem.run("scale", f"deployment/{_workload(tandem, drafts)}", "--replicas=3")
    conflict = tandem.wait_for(pair, "ScalingActive", status="False", reason="ScalingConflict")
    assert f"Deployment {_workload(tandem, drafts)}: its replicas were written by kubectl" in conflict["message"]
    tandem.wait_for(pair, "Ready")
    assert _replicas(tandem, drafts) == 3
    assert len(_writes_of_workload(tandem, before)) <= 1


def test_without_autoscaling_any_more_the_spec_counts_and_the_memory_goes(tandem: World) -> None:
    tandem.apply(_autoscaled())
    tandem.wait_for(NAME, "Ready")
    tandem.patch(f"llm/{NAME}", {"spec": {"autoscaling": None, "verifier": {"replicas": 3}}})
    tandem.wait_until(lambda: _replicas(tandem) == 3, "the spec's replicas")
    tandem.wait_until(
        lambda: tandem.names("configmaps", f"tandem.dev/deployment={NAME}") == [], "the ConfigMap is gone"
    )
    tandem.wait_until(lambda: "ScalingActive" not in tandem.conditions(NAME), "nothing is said of scaling")


def test_bounds_are_checked_by_the_api_server_with_path_and_values(world: World) -> None:
    body = _autoscaled(verifier={"minReplicas": 5, "maxReplicas": 2})
    with pytest.raises(
        PlaceError, match=r"must not be above maxReplicas \(minReplicas is 5, maxReplicas is 2\)"
    ) as said:
        world.apply(body)
    assert "spec.autoscaling.verifier.minReplicas" in str(said.value)


def test_bounds_of_drafts_need_draft_pods(world: World) -> None:
    body = _autoscaled(draft={"minReplicas": 0, "maxReplicas": 2})
    with pytest.raises(PlaceError, match=r"spec\.autoscaling\.draft needs draft pods: spec\.draft, and") as said:
        world.apply(body)
    assert "spec.autoscaling.draft: Invalid value" in str(said.value)
