"""The objects that a resource becomes: as reviewed in golden/, selecting the right pods, with what an engine needs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import LaunchOptions, Role, Speculation
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.cli.plan import plan_of
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import sealed
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.objects.service import draft_service_of, serving_service_of
from tandem_operator.objects.workload import workload_of
from tests.builders import NAME, NAMESPACE, UID, make_inputs, make_revision, make_role, make_spec
from tests.unit.operator.golden import golden_difference

SAMPLES = Path(__file__).parents[3] / "deploy" / "samples"
OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)


def manifests_of(sample: str) -> list[Manifest]:
    body = yaml.safe_load((SAMPLES / f"{sample}.yaml").read_text(encoding="utf-8"))
    body["metadata"].update(namespace=NAMESPACE, uid=UID)
    return [apply.manifest for apply in plan_of(body, OperatorConfig()).apply]


def template(spec: Manifest | None = None, role: Role = Role.VERIFIER, **settings: Any) -> Manifest:
    return pod_template_of(OWNER, make_inputs(spec, role, **settings))


def engine(spec: Manifest | None = None, role: Role = Role.VERIFIER, **settings: Any) -> Manifest:
    (container,) = template(spec, role, **settings)["spec"]["containers"]
    found: Manifest = container
    return found


def on(*classes: str, count: int = 1) -> Manifest:
    return make_spec(verifier=make_role(classes=classes, count=count))


ALL_SAMPLES = ["cpu-pair", "gpu-pair", "ngram"]


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_a_sample_becomes_the_reviewed_objects(sample: str) -> None:
    difference = golden_difference(sample, manifests_of(sample))
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_a_sample_becomes_one_revision_and_one_deployment_a_role_and_its_services(sample: str) -> None:
    kinds = Counter(manifest["kind"] for manifest in manifests_of(sample))
    roles = 1 if sample == "ngram" else 2
    assert {kind: kinds[kind] for kind in ("ControllerRevision", "Deployment", "Service")} == {
        "ControllerRevision": roles,
        "Deployment": roles,
        "Service": roles,
    }


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_a_revision_is_frozen_before_its_pods_are_made(sample: str) -> None:
    refs = [(m["kind"], m["metadata"]["name"]) for m in manifests_of(sample)]
    for kind, name in refs:
        if kind == "Deployment":
            assert refs.index(("ControllerRevision", name)) < refs.index((kind, name))


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_no_pod_gets_a_token_of_the_api_server(sample: str) -> None:
    for manifest in manifests_of(sample):
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is False
            assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_every_object_is_controlled_by_its_resource_and_found_by_our_labels(sample: str) -> None:
    for manifest in manifests_of(sample):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (names.KIND, UID, True)
        labels = manifest["metadata"]["labels"]
        assert labels[names.LABEL_MANAGED_BY] == names.MANAGED_SELECTOR.split("=")[1]
        assert labels[names.LABEL_DEPLOYMENT] == owner["name"]
        assert manifest["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_every_service_selects_pods_that_the_plan_makes_by_a_port_that_they_name(sample: str) -> None:
    manifests = manifests_of(sample)
    pods = [m["spec"]["template"] for m in manifests if m["kind"] == "Deployment"]
    for service in (m for m in manifests if m["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        selected = [pod for pod in pods if selector <= pod["metadata"]["labels"].items()]
        assert len(selected) == 1
        ports = {port["name"] for port in selected[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_a_deployment_selects_its_own_pods_and_no_other_ones(sample: str) -> None:
    deployments = [m for m in manifests_of(sample) if m["kind"] == "Deployment"]
    for deployment in deployments:
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        selected = [d for d in deployments if selector <= d["spec"]["template"]["metadata"]["labels"].items()]
        assert selected == [deployment]


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_the_engine_reads_its_arguments_back(sample: str) -> None:
    for manifest in manifests_of(sample):
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            options = LaunchOptions.parse(container["args"])
            assert options.role.value == manifest["metadata"]["labels"][names.LABEL_ROLE]
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts == {"/models", "/tmp", "/dev/shm"}
            assert options.model.startswith("/models/")


def test_a_verifier_asks_for_drafts_at_the_service_of_its_own_revision() -> None:
    spec = make_spec()
    options = LaunchOptions.parse(engine(spec)["args"])
    revision = make_inputs(spec).revision
    assert options.draft_address == f"{names.draft_service_name(NAME, revision)}:8002"
    assert options.speculation is Speculation.REMOTE
    assert options.max_depth == 4
    service = draft_service_of(OWNER, verifier_revision=revision, draft_revision="d1")
    assert service["metadata"]["name"] == options.draft_address.split(":")[0]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"][0]["port"] == 8002


@pytest.mark.parametrize("method", ["NGram", "Off"])
def test_without_remote_drafts_there_is_no_draft_address(method: str) -> None:
    options = LaunchOptions.parse(engine(make_spec(speculation={"method": method}))["args"])
    assert options.draft_address == ""
    assert options.speculation.value == method


def test_a_gpu_pod_asks_for_its_gpus_tolerates_their_taint_and_goes_to_their_nodes() -> None:
    spec = on("nvidia-h100-80gb", count=2)
    pod, container = template(spec)["spec"], engine(spec)
    assert container["resources"] == {
        "requests": {"nvidia.com/gpu": "2", "memory": "32Gi", "ephemeral-storage": "1Gi"},
        "limits": {"nvidia.com/gpu": "2", "memory": "64Gi", "ephemeral-storage": "9Gi"},
    }
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    product = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3"]}
    assert term["matchExpressions"][0] == product
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert LaunchOptions.parse(container["args"]).tensor_parallel == 2


def test_a_cpu_pod_has_no_limit_of_cpu_and_no_placement() -> None:
    spec = on("cpu", count=3)
    pod, container = template(spec)["spec"], engine(spec)
    assert container["resources"] == {
        "requests": {"cpu": "3", "memory": "12Gi", "ephemeral-storage": "1Gi"},
        "limits": {"memory": "24Gi", "ephemeral-storage": "9Gi"},
    }
    assert not {"nodeSelector", "affinity", "tolerations"} & pod.keys()
    assert {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"} in container["env"]


def test_models_are_mounted_read_only_and_the_rest_is_writable_by_nobody_else() -> None:
    pod = template()["spec"]
    claim = next(volume for volume in pod["volumes"] if volume["name"] == "models")
    assert claim["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["models"]["readOnly"] is True
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}


def test_the_deployment_runs_the_frozen_template_and_not_what_would_be_rendered_now() -> None:
    frozen = make_revision(make_spec(), engineImages={"cpu": "engine:1"})
    workload = workload_of(OWNER, frozen, replicas=5, progress_deadline_seconds=1800)
    assert workload["spec"]["template"] == frozen.template
    assert workload["spec"]["replicas"] == 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_the_applied_hash_changes_exactly_when_the_manifest_does(one: Any, other: Any) -> None:
    def hash_of(spec: Any) -> str:
        manifest = {"kind": "X", "metadata": {"name": "x"}, "spec": spec}
        found: str = sealed(manifest)["metadata"]["annotations"][names.ANNOTATION_APPLIED]
        return found

    assert (hash_of(one) == hash_of(other)) is (repr_of(one) == repr_of(other))


def repr_of(value: Any) -> str:
    """Tells True from 1, which are equal in Python and not in JSON, and not one order of keys from another."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{repr_of(value[key])}" for key in sorted(value)) + "}"
    return "[" + ",".join(map(repr_of, value)) + "]" if isinstance(value, list) else repr(value)


def test_sealing_keeps_other_annotations_and_leaves_the_original_alone() -> None:
    manifest = {"kind": "X", "metadata": {"name": "x", "annotations": {"a": "b"}}}
    assert sealed(manifest)["metadata"]["annotations"].keys() == {"a", names.ANNOTATION_APPLIED}
    assert manifest["metadata"]["annotations"] == {"a": "b"}


def test_the_serving_service_listens_where_clients_expect_http() -> None:
    service = serving_service_of(OWNER, "v1")
    assert service["metadata"]["name"] == NAME
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [(80, "http")]
