"""What is wrong is told in one line, with the words of whoever knows it, and goes by itself once it is mended."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from deploy import model_volume
from deploy.local.controlplane import NODE_NAME
from deploy.place import Place
from tests.cluster.world import World, sample

NAME, ALONE = "llama-70b", {"speculation": {"method": "Off"}}
SMALL = {"quantity": "10m", "hostMemory": "16Mi"}


def message(world: World, name: str) -> str:
    """Of VerifierReady."""
    found: str = world.conditions(name).get("VerifierReady", {}).get("message", "")
    return found


def wait_told(world: World, name: str, *words: str) -> None:
    """Wait until VerifierReady has these words. How soon it does is for virtual time to tell (test_mishaps.py)."""
    world.wait_until(
        lambda: all(word in message(world, name) for word in words), f"VerifierReady of {name} with {words}"
    )


def alone(**changes: Any) -> dict[str, Any]:
    """The verifiers of the GPU sample on their own."""
    body = sample("gpu-pair", **ALONE, **changes)
    del body["spec"]["draft"]
    return body


# -- on fake nodes -----------------------------------------------------------------------------------------------------


def test_a_pod_that_no_node_has_room_for_is_told_in_the_schedulers_words(tandem: World) -> None:
    body = alone()
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h200-141gb"], "count": 1}
    tandem.apply(body)
    wait_told(tandem, NAME, "pod llama-70b-verifier-", "Unschedulable: 0/", "nodes are available")
    assert tandem.conditions(NAME)["Ready"]["reason"] == "Unschedulable"
    tandem.apply(alone())
    tandem.wait_for(NAME, "Ready")


def test_a_claim_that_is_missing_is_told_and_the_deployment_comes_up_once_it_is_there(tandem: World) -> None:
    body = alone()
    body["spec"]["verifier"]["model"]["source"]["persistentVolumeClaim"]["claimName"] = "weights"
    tandem.apply(body)
    wait_told(tandem, NAME, 'persistentvolumeclaim "weights" not found')
    volume = model_volume.volume_of(tandem.namespace, tandem.folder)
    claim = model_volume.claim_of(tandem.namespace)
    volume["metadata"]["name"] = claim["spec"]["volumeName"] = f"weights-{tandem.namespace}"
    volume["spec"]["claimRef"]["name"] = claim["metadata"]["name"] = "weights"
    tandem.place.apply(volume, claim)
    try:
        tandem.wait_for(NAME, "Ready")
    finally:
        tandem.place.run("delete", "persistentvolume", volume["metadata"]["name"], "--wait=false")


def test_pods_that_a_quota_forbids_are_told_and_made_once_it_is_lifted(tandem: World) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    tandem.apply(quota)
    tandem.wait_until(lambda: "hard" in tandem.get("resourcequota/none").get("status", {}), "the quota is in force")
    tandem.apply(alone())
    wait_told(tandem, NAME, "is forbidden: exceeded quota: none")
    assert tandem.conditions(NAME)["Ready"]["reason"] == "FailedCreate"
    told = message(tandem, NAME)
    written = len(tandem.writes())
    tandem.wait_until(lambda: _refusals(tandem) >= 8, "the ReplicaSet to try again a few times")
    assert message(tandem, NAME) == told
    told_again = [w["objectRef"] for w in tandem.writes()[written:] if w["objectRef"]["resource"] == "llmdeployments"]
    assert told_again == [], "the same refusal is told once"
    tandem.run("delete", "resourcequota", "none")
    tandem.wait_for(NAME, "Ready")


def _refusals(world: World) -> int:
    events = world.get("events.v1.events.k8s.io")["items"]
    return sum(
        event.get("deprecatedCount") or (event.get("series") or {}).get("count") or 1
        for event in events
        if event["reason"] == "FailedCreate"
    )


def test_a_create_takes_as_many_events_as_there_are_transitions_and_none_at_rest(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for(NAME, "Ready")
    reasons = [(event["reason"], event["note"].partition(":")[0]) for event in _events(tandem)]
    # Not available and not ready; then, in whatever order, both; pods that wait for a moment may be told of once more.
    assert {("Serving", "Available=True"), ("RolledOut", "Ready=True")} <= set(reasons)
    assert len(reasons) <= 6, reasons
    tandem.operators[0].end()
    tandem.operator("again", resyncSeconds=0.5).start()
    resyncs = len(tandem.audited())
    tandem.wait_until(lambda: _lists(tandem, resyncs) >= 6, "some resyncs")
    assert len(_events(tandem)) == len(reasons)


def _events(world: World) -> list[dict[str, Any]]:
    """Those that the operator posted, in order."""
    found = world.get("events.v1.events.k8s.io")["items"]
    mine = [event for event in found if event.get("reportingController") == "tandem-operator"]
    return sorted(mine, key=lambda event: event["eventTime"])


def _lists(world: World, start: int = 0) -> int:
    return sum(
        event["verb"] == "list" and event["objectRef"]["resource"] == "pods" for event in world.audited()[start:]
    )


def test_a_resource_that_is_deleted_and_made_again_at_once_never_looks_stalled(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for(NAME, "Ready")
    old = tandem.get(f"llm/{NAME}")["metadata"]["uid"]
    tandem.run("delete", "llm", NAME, "--wait=true")
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for(NAME, "Ready")
    assert tandem.get(f"llm/{NAME}")["metadata"]["uid"] != old
    assert [event["reason"] for event in _events(tandem) if event["type"] == "Warning"] == []
    owners = {
        reference["uid"]
        for item in tandem.get("deployments,services,controllerrevisions")["items"]
        for reference in item["metadata"].get("ownerReferences", [])
        if reference["kind"] == "LLMDeployment"
    }
    assert old not in owners


def test_the_command_line_shows_the_tree_and_its_exit_code_says_whether_all_is_well(tandem: World) -> None:
    def status(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tandem_operator.cli.main", "status", name, "-n", tandem.namespace]
        arguments = ["--kubeconfig", str(tandem.place.kubeconfig)]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=30)

    missing = status("nobody")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "nobody" in missing.stderr
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for(NAME, "Ready")
    well = status(NAME)
    assert (well.returncode, well.stderr) == (0, "")
    pods = tandem.names("pods", "tandem.dev/role in (verifier,draft)")
    assert all(f"─ {pod}  Ready on " in well.stdout for pod in pods)
    body = sample("gpu-pair")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h200-141gb"], "count": 1}
    tandem.apply(body)
    tandem.wait_for(NAME, "Ready", status="False")
    tandem.wait_until(lambda: "Unschedulable: 0/" in status(NAME).stdout, "the cause at the pod")
    assert status(NAME).returncode == 1


# -- on the real node --------------------------------------------------------------------------------------------------


def real_node(world: World, *, image: str) -> None:
    """Start the operator with class cpu on the real node, its engine being `image`."""
    world.operator(accelerators={"cpu": SMALL}, engineImages={"cpu": image, "gpu": image}).start()


def pause_image(place: Place) -> str:
    """An image that the real node has: a program that is no engine."""
    images = place.get("node", NODE_NAME)["status"]["images"]
    return next(name for image in images for name in image.get("names") or [] if "pause" in name)


def cpu_alone(**parts: Any) -> dict[str, Any]:
    """A single verifier on CPUs."""
    body = sample("cpu-pair", **ALONE, **parts)
    del body["spec"]["draft"]
    return body


@pytest.mark.real_node
def test_an_image_that_cannot_be_pulled_is_told_with_the_registrys_words(world: World) -> None:
    real_node(world, image="registry.invalid/engine:none")
    world.apply(cpu_alone())
    wait_told(world, "pair", "ImagePullBackOff: ", "registry.invalid/engine:none")
    assert world.conditions("pair")["Ready"]["reason"] == "PodsFailing"


@pytest.mark.real_node
def test_a_secret_that_is_missing_is_told_and_no_more_once_it_is_there(world: World) -> None:
    real_node(world, image=pause_image(world.place))
    world.apply(cpu_alone(access={"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}))
    wait_told(world, "pair", 'CreateContainerConfigError: secret "keys" not found')
    world.run("create", "secret", "generic", "keys", "--from-literal=other=0123456789")
    world.wait_until(
        lambda: "couldn't find key chat in Secret" in message(world, "pair"), "the key that is missing is named"
    )
    world.run("delete", "secret", "keys")
    world.run("create", "secret", "generic", "keys", "--from-literal=chat=0123456789")
    # The image has no engine: what is told next is that, in the words of the container runtime.
    world.wait_until(lambda: "executable file not found" in message(world, "pair"), "the next cause")
    assert "Secret" not in message(world, "pair")
    assert "0123456789" not in str(world.get("llm/pair"))


@pytest.mark.real_node
def test_a_volume_that_cannot_be_mounted_is_told_from_the_pods_events(world: World) -> None:
    real_node(world, image=pause_image(world.place))
    claim = model_volume.claim_of(world.namespace)
    volume = model_volume.volume_of(world.namespace, world.folder / "not-there-yet")
    volume["metadata"]["name"] = claim["spec"]["volumeName"] = f"late-{world.namespace}"
    volume["spec"]["claimRef"]["name"] = claim["metadata"]["name"] = "late"
    world.place.apply(volume, claim)
    try:
        body = cpu_alone()
        body["spec"]["verifier"]["model"]["source"]["persistentVolumeClaim"]["claimName"] = "late"
        world.apply(body)
        wait_told(world, "pair", "FailedMount: MountVolume.SetUp failed", "not-there-yet")
        (world.folder / "not-there-yet").mkdir()
        world.wait_until(lambda: "FailedMount" not in message(world, "pair"), "the volume is mounted", limit_seconds=60)
    finally:
        world.place.run("delete", "persistentvolume", volume["metadata"]["name"], "--wait=false")
