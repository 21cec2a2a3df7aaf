"""The chart's objects as both Helms render them, and the operator's pod: no cluster is needed, only their programs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.local.binaries import Binaries
from tandem_operator import __main__
from tests.chart.rendering import (
    CHART,
    DIGEST,
    HELMS,
    LIMIT_SECONDS,
    NAMESPACE,
    OLDEST_KUBERNETES,
    VALUES,
    Manifest,
    objects,
    objects_in,
    one,
    rendered,
)
from tests.pod_security import pods_of, violations_beyond_restricted, violations_of_restricted


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_both_helms_render_the_same_objects_twice(values: Manifest, binaries: Binaries, tmp_path: Path) -> None:
    texts = [rendered(binaries[name], values, tmp_path) for name in (*HELMS, *HELMS)]
    assert texts[:2] == texts[2:]
    as_sets = [{json.dumps(o, sort_keys=True) for o in objects_in(text)} for text in texts]
    assert as_sets[0] == as_sets[1]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_is_named_placed_and_labelled(values: Manifest, helm: str, tmp_path: Path) -> None:
    rendered_once = objects(helm, values, tmp_path)
    assert len({(o["kind"], o["metadata"]["name"]) for o in rendered_once}) == len(rendered_once)
    for found in rendered_once:
        metadata = found["metadata"]
        labels = metadata["labels"]
        assert labels["app.kubernetes.io/part-of"] == "tandem"
        assert labels["app.kubernetes.io/instance"] == "release"
        assert labels["helm.sh/chart"].startswith("tandem-")
        assert values.get("commonLabels", {}).items() <= labels.items()
        if found["kind"].startswith(("ClusterRole", "ValidatingAdmissionPolicy")):
            assert metadata["name"].startswith(f"{NAMESPACE}-"), "another release must be able to have its own"
            assert "namespace" not in metadata
        elif found["kind"] != "CustomResourceDefinition":
            assert metadata["namespace"] == NAMESPACE
            assert metadata["name"].startswith(values.get("fullnameOverride", "release-tandem"))


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_pod_is_restricted_and_more(values: Manifest, helm: str, tmp_path: Path) -> None:
    found = objects(helm, values, tmp_path)
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    for name, each in pods_of(found).items():
        assert violations_of_restricted(each) == violations_beyond_restricted(each) == [], name
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    kinds = {"projected", "configMap", "emptyDir"} | ({"secret"} if values.get("prometheusSecretName") else set())
    assert {next(key for key in volume if key != "name") for volume in pod["volumes"]} == kinds


def test_the_only_token_is_the_one_that_the_pod_asks_for(helm: str, tmp_path: Path) -> None:
    found = objects(helm, {}, tmp_path)
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    assert one(found, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False
    sources = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    tokens = [source for source in sources if source.keys() - {"configMap", "downwardAPI"}]
    assert tokens == [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]
    assert not [volume["name"] for volume in pod["volumes"] if "secret" in volume]
    assert "Secret" not in {manifest["kind"] for manifest in found}


def test_several_operators_are_kept_apart_and_evicted_one_by_one(helm: str, tmp_path: Path) -> None:
    found = objects(helm, {"replicas": 2}, tmp_path)
    deployment, budget = one(found, "Deployment")["spec"], one(found, "PodDisruptionBudget")["spec"]
    assert budget["selector"] == deployment["selector"]
    assert budget["maxUnavailable"] == 1
    (term,) = deployment["template"]["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"]["labelSelector"] == deployment["selector"]
    together = objects(helm, VALUES["two operators, evicted together"], tmp_path)
    assert "PodDisruptionBudget" not in {o["kind"] for o in together}
    single = objects(helm, {}, tmp_path)
    assert "PodDisruptionBudget" not in {o["kind"] for o in single}, "it would only stop whoever empties the node"
    assert "affinity" not in one(single, "Deployment")["spec"]["template"]["spec"]


def test_what_the_user_says_of_placement_is_taken_as_it_is(helm: str, tmp_path: Path) -> None:
    values = VALUES["two operators, placed"]
    found = objects(helm, values, tmp_path)
    pod, selector = one(found, "Deployment")["spec"]["template"]["spec"], one(found, "Deployment")["spec"]["selector"]
    assert pod["affinity"] == values["affinity"]
    zone, node = pod["topologySpreadConstraints"]
    assert zone == {**values["topologySpreadConstraints"][0], "labelSelector": selector}
    assert node == values["topologySpreadConstraints"][1]


def test_an_upgrade_ends_no_operator_before_the_next_one_is_ready(helm: str, tmp_path: Path) -> None:
    strategy = one(objects(helm, {}, tmp_path), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_pod_that_is_alive_is_told_from_one_that_is_ready(helm: str, tmp_path: Path) -> None:
    (container,) = one(objects(helm, {}, tmp_path), "Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_selectors_match_the_pods_and_no_label_of_the_user_is_in_them(helm: str, tmp_path: Path) -> None:
    spec = one(objects(helm, {"commonLabels": {"team": "inference"}}, tmp_path), "Deployment")["spec"]
    selector, labels = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert labels["team"] == "inference"
    assert "team" not in selector
    assert "helm.sh/chart" not in labels


def test_a_label_of_the_user_replaces_none_of_ours(helm: str, tmp_path: Path) -> None:
    values = {"commonLabels": {"app.kubernetes.io/name": "other"}}
    spec = one(objects(helm, values, tmp_path), "Deployment")["spec"]
    assert spec["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "tandem"


def test_no_replica_stops_the_operator(helm: str, tmp_path: Path) -> None:
    assert one(objects(helm, {"replicas": 0}, tmp_path), "Deployment")["spec"]["replicas"] == 0


def test_a_digest_wins_over_the_tag(helm: str, tmp_path: Path) -> None:
    found = one(objects(helm, VALUES["by digest"], tmp_path), "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example/tandem/operator@{DIGEST}"


def test_ports_and_files_are_those_of_the_operator(helm: str, tmp_path: Path) -> None:
    found = objects(helm, {}, tmp_path)
    (container,) = one(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"health": __main__.HEALTH_PORT, "metrics": __main__.METRICS_PORT}
    environment = {e["name"]: e.get("value") for e in container["env"]}
    assert environment.keys() == {"TANDEM_CONFIG", "TANDEM_NAMESPACE", "POD_NAME"}
    folder, _, file = str(environment["TANDEM_CONFIG"]).rpartition("/")
    assert folder in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert file in one(found, "ConfigMap")["data"]


def test_crds_are_kept_unless_asked_otherwise(helm: str, tmp_path: Path) -> None:
    def crds(values: Manifest) -> list[Manifest]:
        return [o for o in objects(helm, values, tmp_path) if o["kind"] == "CustomResourceDefinition"]

    def policies(values: Manifest) -> set[str | None]:
        return {o["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for o in crds(values)}

    assert policies({}) == {"keep"}
    assert policies({"crds": {"keep": False}}) == {None}
    assert crds({"crds": {"install": False}}) == []


def test_crds_are_rendered_as_they_are_checked_in(helm: str, tmp_path: Path) -> None:
    found = {o["metadata"]["name"]: o for o in objects(helm, {}, tmp_path) if o["kind"] == "CustomResourceDefinition"}
    checked_in = [yaml.safe_load(file.read_text()) for file in sorted((CHART / "files" / "crds").glob("*.yaml"))]
    assert found.keys() == {crd["metadata"]["name"] for crd in checked_in}
    for crd in checked_in:
        assert found[crd["metadata"]["name"]]["spec"] == crd["spec"]


def test_lint_finds_nothing(helm: str) -> None:
    argv = [helm, "lint", "--strict", str(CHART), "--kube-version", OLDEST_KUBERNETES]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr
