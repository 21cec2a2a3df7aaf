"""What a user does with the resource, on a real API server: apply, look, explain, scale, wait, delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.place import Place, PlaceError
from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tests.cluster.world import World, sample


def test_a_pair_becomes_ready_and_kubectl_wait_returns(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    said = tandem.run("wait", "--for=condition=Ready", "llm/llama-70b", "--timeout=40s")
    assert "condition met" in said
    tandem.wait_for("llama-70b", "ArtifactsReady")
    conditions = tandem.conditions("llama-70b")
    assert {kind: c["status"] for kind, c in conditions.items() if kind != "SpeculationEffective"} == {
        "Available": "True",
        "Ready": "True",
        "Accepted": "True",
        "ArtifactsReady": "True",
        "VerifierReady": "True",
        "DraftReady": "True",
        "DraftTransportSecure": "False",  # plaintext, as in the sample
    }


def test_kubectl_get_llm_shows_what_one_asks_first(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    header, line = tandem.run("get", "llm").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "VERIFIERS", "DRAFTS", "ACCEPT", "AGE"]
    assert line.split()[:5] == ["llama-70b", "True", "RolledOut", "2/2", "1/1"]


def test_kubectl_explain_describes_every_field(place: Place) -> None:
    text = place.run("explain", "llmdeployment.spec", "--recursive")
    fields = set(_fields(crd_schema()["properties"]["spec"]))
    assert len(fields) >= 15
    for field in fields:
        assert f"{field}\t" in text
    assert "Remote: draft pods propose" in place.run("explain", "llmdeployment.spec.speculation.method")


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield name
        yield from _fields(child)


def test_kubectl_scale_reaches_the_verifier_pods_and_the_scale_subresource(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.run("scale", "llm/llama-70b", "--replicas=3")
    tandem.wait_for("llama-70b", "Ready")
    selector = tandem.get("llm/llama-70b")["status"]["verifier"]["selector"]
    assert len(tandem.names("pods", selector)) == 3
    assert tandem.get("llm/llama-70b")["status"]["verifier"]["replicas"] == 3


def test_scaling_to_zero_is_said_and_is_not_a_failure(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.run("scale", "llm/llama-70b", "--replicas=0")
    tandem.wait_for("llama-70b", "Available", status="False", reason="ScaledToZero")
    tandem.wait_for("llama-70b", "Ready")


def test_kubectl_delete_leaves_no_child_behind(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.run("delete", "llm/llama-70b", "--timeout=30s")
    kinds = "deployments,services,controllerrevisions,replicasets,pods,serviceaccounts,networkpolicies"
    selector = "tandem.dev/deployment=llama-70b"
    tandem.wait_until(lambda: tandem.names(kinds, selector) == [], "no object of the deployment is left")


def test_a_deployment_made_again_under_its_old_name_gets_children_of_its_own(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.run("delete", "llm/llama-70b", "--wait=true", "--timeout=30s")
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    uid = tandem.get("llm/llama-70b")["metadata"]["uid"]
    owner = tandem.get("service/llama-70b")["metadata"]["ownerReferences"][0]
    assert owner["uid"] == uid


def test_a_pod_lands_on_the_hardware_of_its_role(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    for role, prefix in (("verifier", "nvidia-h100-80gb"), ("draft", "nvidia-l40s-48gb")):
        for pod in tandem.names("pods", f"tandem.dev/role={role}"):
            assert tandem.get(f"pod/{pod}")["spec"]["nodeName"].startswith(prefix)


def _with(path: str, value: Any) -> dict[str, Any]:
    body = sample("gpu-pair")
    *parents, last = path.split(".")
    place: Any = body
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return body


REJECTED = [
    ("metadata.name", "a" * 41, "DNS-1035"),
    ("metadata.name", "1model", "DNS-1035"),
    ("spec.verifier", None, "verifier"),
    ("spec.draft", None, "spec.draft is required when spec.speculation.method is Remote"),
    ("spec.verifier.replicas", -1, "spec.verifier.replicas"),
    ("spec.verifier.replicas", 1001, "1000"),
    ("spec.verifier.replicas", "two", "integer"),
    ("spec.verifier.accelerator.classes", [], "classes"),
    ("spec.verifier.accelerator.classes", ["UPPER"], "classes"),
    ("spec.verifier.accelerator.count", 0, "spec.verifier.accelerator.count"),
    ("spec.verifier.accelerator.count", 17, "16"),
    ("spec.verifier.model.source", {}, "exactly one source is required"),
    ("spec.verifier.model.source.persistentVolumeClaim.path", "../etc", "path"),
    ("spec.verifier.model.source.persistentVolumeClaim.path", "/etc", "path"),
    ("spec.verifier.model.source.persistentVolumeClaim.claimName", "Not_A_Name", "claimName"),
    ("spec.verifier.engine", {"type": "Triton"}, "VLLM"),
    ("spec.draft.engine", {"type": "Custom"}, "image is required when type is Custom"),
    ("spec.verifier.engine", {"image": "an image"}, "image"),
    ("spec.speculation.method", "Sometimes", "Remote"),
    ("spec.speculation.maxDepth", 0, "spec.speculation.maxDepth"),
    ("spec.speculation.maxDepth", 17, "16"),
    ("spec.servedName", "", "servedName"),
]


@pytest.mark.parametrize(("path", "value", "named"), REJECTED)
def test_api_server_and_pydantic_reject_the_same_and_name_it(
    place: Place, namespace: str, *, path: str, value: Any, named: str
) -> None:
    body = _with(path, value)
    with pytest.raises(PlaceError) as refused:
        place.run("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=_yaml(body))
    assert named in str(refused.value)
    if path != "metadata.name":  # a name is the API server's alone to judge
        with pytest.raises(InvalidSpecError):
            LLMDeployment.parse(body)


ACCEPTED = [
    ("spec.speculation", None),
    ("spec.verifier.replicas", 0),
    ("spec.verifier.replicas", 1000),
    ("spec.verifier.accelerator.count", 16),
    ("spec.speculation.method", "NGram"),
    ("spec.servedName", "meta-llama/Llama-3.1-70B-Instruct:fp8"),
    ("spec.verifier.engine", {"image": "registry.example:5000/team/engine@sha256:" + "0" * 64}),
]


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_api_server_and_pydantic_accept_the_same(place: Place, namespace: str, *, path: str, value: Any) -> None:
    body = _with(path, value)
    place.run("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=_yaml(body))
    LLMDeployment.parse(body)


def test_a_misspelt_field_is_reported_by_kubectl(place: Place, namespace: str) -> None:
    body = sample("gpu-pair", speculationn={})
    with pytest.raises(PlaceError, match="speculationn"):
        place.run("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=_yaml(body))


def _yaml(body: dict[str, Any]) -> str:
    return yaml.safe_dump(body)
