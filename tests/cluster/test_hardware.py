"""Accelerators and the real scheduler: preferred classes, MIG slices, spot nodes, and devices that are claimed.

The nodes are kwok's, the ResourceSlices are written by hand as a DRA driver would; what places the pods is real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from deploy import chart
from deploy.local.cluster import Cluster
from deploy.local.processes import wait_until
from deploy.place import Place
from tandem_operator.cli.plan import plan_of
from tandem_operator.config import OperatorConfig
from tandem_operator.drift import needs_apply
from tests.cluster.world import ON_FAKE_NODES, Manifest, World

NAME = "model"
VERIFIERS = f"tandem.dev/deployment={NAME},tandem.dev/role=verifier"
NODES = {"amd-mi300x-192gb": 1, "amd-mi325x-256gb": 1, "mig-h100-80gb": 1, "spot-a10g-24gb": 1, "dra": 2}
IMAGES = {key: f"tandem.local/engine-{key}:none" for key in ("cpu", "gpu", "rocm", "fpga")}
H100, L40S = "NVIDIA H100 80GB HBM3", "NVIDIA L40S"
CLAIMED = {
    **ON_FAKE_NODES["accelerators"],
    **{name: {"allocation": "ResourceClaim"} for name in ("nvidia-h100-80gb", "nvidia-l40s-48gb")},
}


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, place: Place) -> Iterator[dict[str, list[str]]]:
    """Names of fake nodes by class; they are this module's alone."""
    made = {name: cluster.add_nodes(name, count=count) for name, count in NODES.items()}
    yield made
    place.run("delete", "node", *[name for names in made.values() for name in names], "--wait=false")


@pytest.fixture(autouse=True)
def _empty(cluster: Cluster, place: Place, nodes: dict[str, list[str]]) -> None:
    """No pod of the test before is left there: its namespace was deleted without waiting for it."""
    mine = {name for names in nodes.values() for name in names}

    def is_empty() -> bool:
        return mine.isdisjoint(pod["spec"].get("nodeName") for pod in place.get("pods", "--all-namespaces")["items"])

    wait_until(is_empty, "no pod on these nodes", limit_seconds=60, log=cluster.layout.log_of("controller-manager"))


@pytest.fixture(scope="module")
def devices(place: Place, nodes: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Node by product: two H100 on one node, four L40S on the other, as NVIDIA's DRA driver describes them."""
    first, second = nodes["dra"]
    slices = [make_slice(first, H100, "79Gi", count=2), make_slice(second, L40S, "45Gi", count=4)]
    is_gpu = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'"
    device_class = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "gpu.nvidia.com"},
        "spec": {"selectors": [{"cel": {"expression": is_gpu}}]},
    }
    place.apply(device_class, *slices)
    yield {H100: first, L40S: second}
    place.run("delete", "deviceclass/gpu.nvidia.com", *[f"resourceslice/{each['metadata']['name']}" for each in slices])


@pytest.fixture
def claiming(world: World, devices: dict[str, str]) -> World:
    """A namespace whose operator may make claims, and has two classes that are claimed."""
    values = {"crds": {"install": False}, "rbac": {"create": True, "resourceClaims": True}}
    images = {"operator": "tandem.local/operator:none", "engine-cpu": IMAGES["cpu"]}
    chart.install(world.place, world.namespace, values={**chart.values_of(images, replicas=0), **values})
    world.operator(engineImages=IMAGES, accelerators=CLAIMED).start()
    return world


def make_slice(node: str, product: str, memory: str, *, count: int) -> Manifest:
    """The ResourceSlice of a node with `count` equal GPUs."""
    described = {
        "attributes": {"type": {"string": "gpu"}, "productName": {"string": product}},
        "capacity": {"memory": {"value": memory}},
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-gpu.nvidia.com"},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": f"gpu-{number}", **described} for number in range(count)],
        },
    }


def make_model(*classes: str, count: int = 1, replicas: int = 1, name: str = NAME) -> Manifest:
    """An LLMDeployment without speculation on these classes."""
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {
            "verifier": {
                "model": {"source": {"persistentVolumeClaim": {"claimName": "models", "path": "any"}}},
                "accelerator": {"classes": list(classes), "count": count},
                "replicas": replicas,
            }
        },
    }


def placed(world: World, selector: str = VERIFIERS) -> Counter[str]:
    """Pods by the node that the scheduler has found for them; empty for those without one."""
    items = world.get(f"pods -l {selector}")["items"]
    return Counter(item["spec"].get("nodeName", "") for item in items)


def unschedulable(world: World) -> str:
    """What the scheduler says of pods that it finds no node for."""
    conditions = [
        condition
        for item in world.get(f"pods -l {VERIFIERS}")["items"]
        for condition in item["status"].get("conditions") or []
    ]
    return " ".join(each.get("message", "") for each in conditions if each.get("reason") == "Unschedulable")


def allocated(world: World) -> list[str]:
    """Devices of this namespace's claims, as NODE/DEVICE."""
    results = [
        result
        for claim in world.get("resourceclaims")["items"]
        for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
    ]
    return sorted(f"{result['pool']}/{result['device']}" for result in results)


# -- extended resources --------------------------------------------------------------------------------------------


def test_pods_fill_the_first_class_and_then_go_to_the_second(world: World, nodes: dict[str, list[str]]) -> None:
    world.operator(engineImages=IMAGES).start()
    (first,), (second,) = nodes["amd-mi300x-192gb"], nodes["amd-mi325x-256gb"]
    world.apply(make_model("amd-mi300x-192gb", "amd-mi325x-256gb", count=4, replicas=2))
    world.wait_for(NAME, "Ready")
    assert placed(world) == {first: 2}
    world.run("scale", f"llm/{NAME}", "--replicas=4")
    world.wait_until(lambda: placed(world) == {first: 2, second: 2}, "two pods on the second class")
    world.wait_for(NAME, "Ready")
    world.run("scale", f"llm/{NAME}", "--replicas=5")
    world.wait_until(lambda: "Insufficient amd.com/gpu" in unschedulable(world), "a fifth pod that finds no room")


def test_the_order_of_the_classes_is_the_users(world: World, nodes: dict[str, list[str]]) -> None:
    world.operator(engineImages=IMAGES).start()
    world.apply(make_model("amd-mi325x-256gb", "amd-mi300x-192gb", count=4, replicas=2))
    world.wait_for(NAME, "Ready")
    assert placed(world) == {nodes["amd-mi325x-256gb"][0]: 2}


def test_a_mig_slice_is_a_resource_of_its_own_and_no_whole_gpu(tandem: World, nodes: dict[str, list[str]]) -> None:
    (sliced,) = nodes["mig-h100-80gb"]
    tandem.apply(make_model("nvidia-h100-80gb-mig-3g-40gb", replicas=8), make_model("nvidia-h100-80gb", name="whole"))
    tandem.wait_for(NAME, "Ready")
    assert placed(tandem) == {sliced: 8}
    tandem.run("scale", f"llm/{NAME}", "--replicas=9")
    tandem.wait_until(lambda: "Insufficient nvidia.com/mig-3g.40gb" in unschedulable(tandem), "no ninth slice")
    tandem.wait_for("whole", "Ready")
    assert sliced not in placed(tandem, "tandem.dev/deployment=whole,tandem.dev/role=verifier")


def test_only_a_spot_class_runs_on_a_spot_node(tandem: World, nodes: dict[str, list[str]]) -> None:
    tandem.apply(make_model("nvidia-a10g-24gb"))
    tandem.wait_until(lambda: "affinity" in unschedulable(tandem), "the class on demand finds no node")
    tandem.apply(make_model("nvidia-a10g-24gb-spot", name="spot"))
    tandem.wait_for("spot", "Ready")
    assert placed(tandem, "tandem.dev/deployment=spot,tandem.dev/role=verifier") == {nodes["spot-a10g-24gb"][0]: 1}
    assert placed(tandem) == {"": 1}


def test_spot_may_come_first_and_on_demand_take_the_rest(tandem: World, nodes: dict[str, list[str]]) -> None:
    (spot,) = nodes["spot-a10g-24gb"]
    on_demand = tandem.cluster.add_nodes("nvidia-l40s", count=1)[0]
    try:
        tandem.run("label", "node", on_demand, "nvidia.com/gpu.product=NVIDIA-A10G", "--overwrite")
        tandem.apply(make_model("nvidia-a10g-24gb-spot", "nvidia-a10g-24gb", count=2, replicas=3))
        tandem.wait_for(NAME, "Ready")
        assert placed(tandem) == {spot: 2, on_demand: 1}
    finally:
        tandem.run("delete", "node", on_demand, "--wait=false")


# -- claims --------------------------------------------------------------------------------------------------------


def test_a_claimed_class_gets_its_devices_from_the_scheduler(claiming: World, devices: dict[str, str]) -> None:
    claiming.apply(make_model("nvidia-h100-80gb", count=2))
    claiming.wait_for(NAME, "Ready")
    node = devices[H100]
    assert placed(claiming) == {node: 1}
    assert allocated(claiming) == [f"{node}/gpu-0", f"{node}/gpu-1"]
    claiming.run("scale", f"llm/{NAME}", "--replicas=2")
    claiming.wait_until(lambda: "cannot allocate all claims" in unschedulable(claiming), "no third and fourth H100")


def test_a_claim_falls_back_to_the_next_class(claiming: World, devices: dict[str, str]) -> None:
    claiming.apply(make_model("nvidia-h100-80gb", count=2, name="first"))
    claiming.wait_for("first", "Ready")
    claiming.apply(make_model("nvidia-h100-80gb", "nvidia-l40s-48gb", count=2))
    claiming.wait_for(NAME, "Ready")
    assert placed(claiming) == {devices[L40S]: 1}


def test_a_claim_template_comes_back_and_goes_with_its_revision(claiming: World) -> None:
    # Nobody can ask the engines of fake nodes whether they are idle, so that the limit is what ends the draining.
    limit = {"rollout": {"drainTimeout": "1s"}}
    model, other = make_model("nvidia-l40s-48gb"), make_model("nvidia-l40s-48gb", count=2)
    claiming.apply({**model, "spec": {**model["spec"], **limit}})
    claiming.wait_for(NAME, "Ready")
    (before,) = claiming.names("resourceclaimtemplates")
    assert claiming.names("deployments", VERIFIERS) == [before]
    claiming.run("delete", "resourceclaimtemplate", before)
    claiming.wait_until(lambda: claiming.names("resourceclaimtemplates") == [before], "the template made again")
    claiming.apply({**other, "spec": {**other["spec"], **limit}})

    def has_moved() -> bool:
        templates = claiming.names("resourceclaimtemplates")
        return templates != [before] and len(templates) == 1 and templates == claiming.names("deployments", VERIFIERS)

    claiming.wait_until(has_moved, "the next revision's template alone")
    claiming.wait_for(NAME, "Ready")


def test_a_converged_claim_causes_no_write_also_after_a_restart(claiming: World) -> None:
    claiming.apply(make_model("nvidia-l40s-48gb"))
    claiming.wait_for(NAME, "Ready")
    claiming.wait_for(NAME, "ArtifactsReady")
    claiming.operators[0].end()
    written, read = len(claiming.writes()), len(claiming.audited())
    claiming.operator("restarted", engineImages=IMAGES, accelerators=CLAIMED, resyncSeconds=0.5).start()

    def lists() -> int:
        events = [(e["verb"], e.get("objectRef", {}).get("resource")) for e in claiming.audited()[read:]]
        return events.count(("list", "resourceclaimtemplates"))

    claiming.wait_until(lambda: lists() >= 6, "some resyncs of the restarted operator")
    assert [(w["verb"], w["objectRef"]) for w in claiming.writes()[written:]] == []


def test_what_is_planned_of_a_claim_is_what_the_api_server_gives_back(claiming: World) -> None:
    claiming.operators[0].end()
    claiming.apply(make_model("nvidia-h100-80gb", "nvidia-l40s-48gb", count=2))
    body = claiming.get(f"llm/{NAME}")
    config = OperatorConfig.model_validate({"engineImages": IMAGES, "accelerators": CLAIMED})
    manifests: list[Any] = [apply.manifest for apply in plan_of(body, config).apply]
    (template,) = (manifest for manifest in manifests if manifest["kind"] == "ResourceClaimTemplate")
    claiming.place.apply(template)
    there = claiming.get(f"resourceclaimtemplate/{template['metadata']['name']}")
    assert not needs_apply(template, there)


@pytest.mark.lacks_rights
def test_without_the_right_to_claims_their_deployment_says_so_and_others_go_on(world: World) -> None:
    operator = world.operator(engineImages=IMAGES, accelerators=CLAIMED, resyncSeconds=0.5)
    operator.start()
    world.apply(make_model("nvidia-l40s-48gb"), make_model("nvidia-h100-80gb-mig-1g-10gb", name="other"))
    ready = world.wait_for(NAME, "Ready", status="False", reason="APIRefused")
    assert "ResourceClaimTemplate" in ready["message"]
    world.wait_until(lambda: world.names("deployments", "tandem.dev/deployment=other") != [], "the other deployment")
    world.run("delete", "deployments", "-l", "tandem.dev/deployment=other", "--wait=true")
    world.wait_until(lambda: world.names("deployments", "tandem.dev/deployment=other") != [], "it is made again")
    assert operator.is_running()
