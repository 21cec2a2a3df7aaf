"""ModelArtifacts on a real API server: made once, shared, looked into by a Job, kept while used; none is waited for."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from deploy import model_volume
from deploy.place import PlaceError
from tandem_operator.api.artifact import ModelArtifactSpec
from tests.cluster.world import ON_FAKE_NODES, Manifest, World, sample

ALONE = {"draft": None, "speculation": {"method": "Off"}}
CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "llama-3.1-70b-instruct-fp8"}}
KEY = ModelArtifactSpec.parse({"source": CLAIM}).key


def deployment(name: str = "llama-70b", claim: str = "models") -> Manifest:
    """A verifier alone, on fake GPU nodes."""
    body = sample("gpu-pair", **ALONE)
    body["metadata"]["name"] = name
    body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
    body["spec"]["verifier"]["model"]["source"]["persistentVolumeClaim"]["claimName"] = claim
    body["spec"]["verifier"]["replicas"] = 1
    return body


def artifact_conditions(world: World, name: str = KEY) -> dict[str, Manifest]:
    status = world.get(f"ma/{name}").get("status") or {}
    return {condition["type"]: condition for condition in status.get("conditions") or []}


def wait_inspected(world: World, *deployments: str) -> None:
    for name in deployments:
        world.wait_for(name, "ArtifactsReady", reason="Inspected")
        world.wait_for(name, "Ready")


def test_two_deployments_of_the_same_model_share_an_artifact_that_is_made_and_inspected_once(tandem: World) -> None:
    tandem.apply(deployment("one"), deployment("two"))
    wait_inspected(tandem, "one", "two")
    assert tandem.names("ma") == [KEY]
    assert tandem.names("jobs") == [f"{KEY}-inspect"]
    assert "ownerReferences" not in tandem.get(f"ma/{KEY}")["metadata"]
    assert tandem.get(f"job/{KEY}-inspect")["metadata"]["ownerReferences"][0]["kind"] == "ModelArtifact"
    status = tandem.get(f"ma/{KEY}")["status"]
    assert (status["model"]["architecture"], status["model"]["layers"]) == ("LlamaForCausalLM", 16)
    written = Counter(
        (w["verb"], w["objectRef"]["resource"], w["objectRef"].get("subresource", "")) for w in tandem.writes()
    )
    assert written["patch", "modelartifacts", ""] == 1
    assert written["patch", "jobs", ""] == 1
    assert written["patch", "modelartifacts", "status"] <= 3
    assert written["delete", "jobs", ""] == 0


def test_kubectl_get_ma_shows_what_one_asks_first(tandem: World) -> None:
    tandem.apply(deployment())
    wait_inspected(tandem, "llama-70b")
    header, line = tandem.run("get", "ma").splitlines()
    assert header.split() == [
        "NAME", "READY", "REASON", "PROGRESS", "LEFT", "SOURCE", "FORM", "MODEL", "LOSS", "AGE",
    ]  # fmt: skip
    assert line.split()[:3] == [KEY, "True", "Inspected"]
    assert "claim models, folder llama-3.1-70b-instruct-fp8" in line
    assert "LlamaForCausalLM, 1.2B parameters, 2.5 GB, bfloat16" in line
    assert "Size of the weight files." in tandem.run("explain", "modelartifact.status.model.weightsBytes")


def test_a_restarted_operator_writes_nothing_to_settled_artifacts(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    wait_inspected(tandem, "llama-70b")
    assert len(tandem.names("ma")) == 2
    tandem.operators[0].end()
    before, read = len(tandem.writes()), len(tandem.audited())
    operator = tandem.operator("restarted", resyncSeconds=0.5).start()

    def lists() -> int:
        events = tandem.audited()[read:]
        return sum(e["verb"] == "list" and e["objectRef"]["resource"] == "modelartifacts" for e in events)

    tandem.wait_until(lambda: lists() >= 6, "resyncs of the restarted operator")
    assert [(w["verb"], w["objectRef"]) for w in tandem.writes()[before:]] == []
    assert "Traceback" not in operator.says()


def test_a_model_that_serves_is_ready_although_its_job_says_nothing(world: World) -> None:
    world.operator(
        engineImages={"cpu": "tandem.local/engine-cpu:silent", "gpu": "tandem.local/engine-gpu:0.1.0"}
    ).start()
    world.apply(deployment())
    told = world.wait_for("llama-70b", "ArtifactsReady", status="False", reason="NoFacts")
    assert "succeeded without saying what the model is: is its image ours?" in told["message"]
    world.wait_for("llama-70b", "Ready")
    assert artifact_conditions(world)["Stalled"]["reason"] == "NoFacts"


def test_a_claim_that_is_missing_is_named_within_seconds_and_when_it_appears_all_goes_on(tandem: World) -> None:
    body = deployment(claim="later")
    tandem.apply(body)
    source = body["spec"]["verifier"]["model"]["source"]
    key = ModelArtifactSpec.parse({"source": source}).key

    def is_named() -> bool:
        return 'persistentvolumeclaim "later" not found' in artifact_conditions(tandem, key).get("Ready", {}).get(
            "message", ""
        )

    tandem.wait_until(lambda: key in tandem.names("ma"), "the artifact")
    tandem.wait_until(is_named, "a condition that names the claim", limit_seconds=10)
    assert artifact_conditions(tandem, key)["Reconciling"]["reason"] == "Inspecting"
    told = tandem.wait_for("llama-70b", "ArtifactsReady", status="False", reason="Inspecting")
    assert 'persistentvolumeclaim "later" not found' in told["message"]
    volume, claim = model_volume.volume_of(tandem.namespace, tandem.folder), model_volume.claim_of(tandem.namespace)
    volume["metadata"]["name"] = claim["spec"]["volumeName"] = f"later-{tandem.namespace}"
    volume["spec"]["claimRef"]["name"] = claim["metadata"]["name"] = "later"
    tandem.place.apply(volume, claim)
    try:
        wait_inspected(tandem, "llama-70b")
    finally:
        tandem.place.run("delete", "persistentvolume", f"later-{tandem.namespace}", "--wait=false")


def test_a_deployment_takes_no_artifact_with_it_and_an_unused_one_goes_after_its_time(world: World) -> None:
    first = world.operator(resyncSeconds=1).start()
    world.apply(deployment("one"), deployment("two"))
    wait_inspected(world, "one", "two")
    world.run("delete", "llm/one", "llm/two", "--timeout=30s")
    world.wait_until(lambda: "unusedSince" in world.get(f"ma/{KEY}")["status"], "the artifact is said to be unused")
    world.apply(deployment("one"))
    wait_inspected(world, "one")
    world.wait_until(lambda: "unusedSince" not in world.get(f"ma/{KEY}")["status"], "the artifact is in use again")
    first.end()
    world.operator("hasty", resyncSeconds=1, artifactTtlSeconds=1).start()
    world.run("delete", "llm/one", "--timeout=30s")
    world.wait_until(lambda: world.names("ma") == [], "the artifact is gone")
    world.wait_until(lambda: world.names("jobs,pods") == [], "its Job and pods are gone")


def test_an_artifact_that_somebody_deletes_comes_back_and_looks_again(tandem: World) -> None:
    tandem.apply(deployment())
    wait_inspected(tandem, "llama-70b")
    before = tandem.get(f"ma/{KEY}")["metadata"]["uid"]
    tandem.run("delete", f"ma/{KEY}", "--timeout=30s")

    def is_back() -> bool:
        return KEY in tandem.names("ma") and tandem.get(f"ma/{KEY}")["metadata"]["uid"] != before

    tandem.wait_until(is_back, "the artifact made again")
    tandem.wait_until(lambda: artifact_conditions(tandem).get("Ready", {}).get("status") == "True", "inspected again")


def test_a_job_that_is_deleted_before_it_is_done_is_made_again(world: World) -> None:
    world.operator(accelerators={"cpu": {"nodeLabels": {"example.com/nowhere": "true"}}}).start()
    world.apply(deployment())
    job = f"{KEY}-inspect"
    world.wait_until(lambda: job in world.names("jobs"), "the Job")
    before = world.get(f"job/{job}")["metadata"]["uid"]
    world.run("delete", f"job/{job}", "--timeout=30s")

    def is_back() -> bool:
        return job in world.names("jobs") and world.get(f"job/{job}")["metadata"]["uid"] != before

    world.wait_until(is_back, "the Job made again")


def test_a_job_that_cannot_run_is_made_again_for_another_configuration(world: World) -> None:
    nowhere = world.operator("nowhere", accelerators={"cpu": {"nodeLabels": {"example.com/nowhere": "true"}}}).start()
    world.apply(deployment())
    world.wait_until(lambda: f"{KEY}-inspect" in world.names("jobs"), "the Job")
    nowhere.end()
    world.operator("second", **ON_FAKE_NODES).start()
    wait_inspected(world, "llama-70b")


def test_the_api_server_lets_no_artifact_change(tandem: World) -> None:
    tandem.apply(deployment())
    wait_inspected(tandem, "llama-70b")
    patch = json.dumps({"spec": {"source": {"persistentVolumeClaim": {"path": "other"}}}})
    with pytest.raises(PlaceError, match="a ModelArtifact never changes"):
        tandem.run("patch", f"ma/{KEY}", "--type=merge", "-p", patch)


def test_an_artifact_of_another_name_than_its_key_is_told_so_and_left_alone(tandem: World) -> None:
    tandem.apply(
        {
            "apiVersion": "tandem.dev/v1alpha1",
            "kind": "ModelArtifact",
            "metadata": {"name": "mine"},
            "spec": {"source": CLAIM},
        }
    )
    tandem.wait_until(lambda: "Stalled" in artifact_conditions(tandem, "mine"), "the artifact is refused")
    told = artifact_conditions(tandem, "mine")["Stalled"]
    assert told["reason"] == "KeyMismatch"
    assert f"must be {KEY}" in told["message"]
    assert tandem.names("jobs") == []
