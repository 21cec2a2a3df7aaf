"""The chart as both Helms render it: no cluster is needed, only their programs from the local cluster's cache."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.local.binaries import Binaries
from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT, HTTP_PORT_NAME, METRICS_PORT, METRICS_PORT_NAME
from tandem_contracts.termination import Phase
from tandem_operator import __main__, names
from tandem_operator.config import OperatorConfig
from tandem_operator.objects.job_policies import benchmark_policy_of, job_policies_of
from tandem_operator.objects.protection import NAMESPACE_NAME, OPERATOR_PODS, Watchers
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
    one,
    rendered,
    run,
)
from tests.pod_security import pods_of, violations_beyond_restricted, violations_of_restricted


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_both_helms_render_the_same_objects_twice(values: Manifest, binaries: Binaries, tmp_path: Path) -> None:
    texts = [rendered(binaries[name], values, tmp_path) for name in (*HELMS, *HELMS)]
    assert texts[:2] == texts[2:]
    as_sets = [{json.dumps(o, sort_keys=True) for o in yaml.safe_load_all(text) if o} for text in texts]
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


def test_rights_end_at_the_namespace_and_before_secrets(helm: str, tmp_path: Path) -> None:
    found = objects(helm, {}, tmp_path)
    assert not [o for o in found if o["kind"].startswith("ClusterRole")]
    role = one(found, "Role")
    assert role["rules"]
    for rule in role["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])
    binding = one(found, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(s["kind"], s["name"], s["namespace"]) for s in binding["subjects"]] == [
        ("ServiceAccount", one(found, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"], NAMESPACE)
    ]


def test_the_keys_of_tokens_are_all_that_may_be_read_of_the_whole_cluster(helm: str, tmp_path: Path) -> None:
    found = objects(helm, VALUES["with issuer discovery"], tmp_path)
    role, binding = one(found, "ClusterRole"), one(found, "ClusterRoleBinding")
    pages = ["/.well-known/openid-configuration", "/openid/v1/jwks"]
    assert role["rules"] == [{"nonResourceURLs": pages, "verbs": ["get"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == one(found, "RoleBinding")["subjects"]


def test_what_is_of_the_whole_cluster_is_there_only_when_asked_for(helm: str, tmp_path: Path) -> None:
    def cluster_wide(values: Manifest) -> set[str]:
        return {o["kind"] for o in objects(helm, values, tmp_path) if "namespace" not in o["metadata"]}

    assert cluster_wide({}) == {"CustomResourceDefinition"}
    assert cluster_wide({"crds": {"install": False}}) == set()
    policy = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert cluster_wide(VALUES["guarded"]) - cluster_wide({}) == policy
    assert cluster_wide(VALUES["with roles for users"]) - cluster_wide({}) == {"ClusterRole"}
    scope = {"config": {"scope": "Cluster"}}
    assert cluster_wide(scope) - cluster_wide({}) == {"ClusterRole", "ClusterRoleBinding"}


def test_the_whole_cluster_takes_the_same_rights_and_no_other_lease(helm: str, tmp_path: Path) -> None:
    def rules(found: list[Manifest], kind: str) -> list[Manifest]:
        role = one(found, kind)
        assert one(found, f"{kind}Binding")["roleRef"]["name"] == role["metadata"]["name"]
        return list(role["rules"])

    narrow = rules(objects(helm, {}, tmp_path), "Role")
    wide = objects(helm, VALUES["of the whole cluster"], tmp_path)
    leases = [rule for rule in narrow if rule["resources"] == ["leases"]]
    look = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["tandem-operator"]}
    assert rules(wide, "ClusterRole") == [*(r for r in narrow if r not in leases), {**look, "verbs": ["get"]}]
    assert rules(wide, "Role") == leases
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        account = {"kind": "ServiceAccount", "name": "release-tandem-operator", "namespace": NAMESPACE}
        assert one(wide, kind)["subjects"] == [account]


def test_the_whole_cluster_is_watched_and_guarded_from_the_operators_namespace(helm: str, tmp_path: Path) -> None:
    wide = objects(helm, VALUES["of the whole cluster"], tmp_path)
    assert one(wide, "PodMonitor")["spec"]["namespaceSelector"] == {"any": True}
    assert "matchResources" not in one(wide, "ValidatingAdmissionPolicyBinding")["spec"]
    config = OperatorConfig.model_validate(yaml.safe_load(one(wide, "ConfigMap")["data"]["config.yaml"]))
    assert (config.scope, config.operator_namespace) == ("Cluster", NAMESPACE)
    engines = one([o for o in wide if o["metadata"]["name"].endswith("-operator")], "NetworkPolicy")["spec"]["egress"][
        1
    ]
    assert [to["namespaceSelector"] for to in engines["to"]] == [{}]
    given = {"config": {"scope": "Cluster", "operatorNamespace": "elsewhere"}}
    assert "operatorNamespace: elsewhere\n" in one(objects(helm, given, tmp_path), "ConfigMap")["data"]["config.yaml"]


def test_jobs_in_other_namespaces_are_closed_as_the_chart_closes_those_of_its_own(helm: str, tmp_path: Path) -> None:
    """The chart's policies name the operator's pods by the release, ours by what all operators have."""
    watchers = Watchers(("monitoring",), "tandem-system")
    ours = job_policies_of(NAMESPACE, watchers)
    charts = [o for o in objects(helm, VALUES["of the whole cluster"], tmp_path) if o["kind"] == "NetworkPolicy"]
    for made, of in zip(ours, ("artifacts", "fetch"), strict=True):
        (theirs,) = [o for o in charts if o["metadata"]["name"].endswith(f"-{of}")]
        for manifest in (made, theirs):
            (figures,) = manifest["spec"].pop("ingress")
            assert figures["ports"] == [{"port": 8001, "protocol": "TCP"}]
            assert [peer.get("namespaceSelector") for peer in figures["from"]][1:] == [
                watchers.peers[1]["namespaceSelector"]
            ]
        assert made["spec"] == theirs["spec"]
        assert made["metadata"]["name"] == f"tandem-{of}"
    measuring = benchmark_policy_of(NAMESPACE)
    (theirs,) = [o for o in charts if o["metadata"]["name"].endswith("-benchmarks")]
    assert measuring["spec"] == theirs["spec"]
    assert measuring["metadata"]["name"] == "tandem-benchmarks"


def test_users_get_no_right_to_write_what_the_operator_writes(helm: str, tmp_path: Path) -> None:
    found = [o for o in objects(helm, VALUES["with roles for users"], tmp_path) if o["kind"] == "ClusterRole"]
    view, edit = sorted(found, key=lambda role: role["metadata"]["name"], reverse=True)
    aggregated = "rbac.authorization.k8s.io/aggregate-to-"
    assert view["metadata"]["labels"][f"{aggregated}view"] == "true"
    assert edit["metadata"]["labels"][f"{aggregated}edit"] == "true"
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    verbs = {resource: set(rule["verbs"]) for rule in edit["rules"] for resource in rule["resources"]}
    assert verbs.keys() == {names.PLURAL, f"{names.PLURAL}/scale", names.ARTIFACT_PLURAL}
    assert verbs[names.ARTIFACT_PLURAL] == {"delete"}


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


def test_pods_are_neither_made_nor_deleted_and_events_never_changed(helm: str, tmp_path: Path) -> None:
    rules = one(objects(helm, {}, tmp_path), "Role")["rules"]
    verbs = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    assert verbs["pods"] == {"get", "list", "watch", "patch"}, "patch: which go first, as an annotation"
    assert not {"pods/exec", "pods/eviction", "pods/ephemeralcontainers", "pods/status", "pods/log"} & verbs.keys()
    assert verbs["events"] == {"create", "list"}, "an event of its own is made and never changed"


def test_the_lease_that_may_be_changed_is_the_operators(helm: str, tmp_path: Path) -> None:
    rules = [r for r in one(objects(helm, {}, tmp_path), "Role")["rules"] if r["resources"] == ["leases"]]
    assert [rule for rule in rules if "resourceNames" not in rule] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    ]
    assert [rule["resourceNames"] for rule in rules if "resourceNames" in rule] == [[names.LEASE]]


def test_selectors_match_the_pods_and_no_label_of_the_user_is_in_them(helm: str, tmp_path: Path) -> None:
    spec = one(objects(helm, {"commonLabels": {"team": "inference"}}, tmp_path), "Deployment")["spec"]
    selector, labels = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert labels["team"] == "inference"
    assert "team" not in selector
    assert "helm.sh/chart" not in labels


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_operators_pods_are_those_that_engine_pods_let_in(values: Manifest, helm: str, tmp_path: Path) -> None:
    labels = one(objects(helm, values, tmp_path), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert OPERATOR_PODS.items() <= labels.items()


def policies(found: list[Manifest]) -> dict[str, Manifest]:
    """Specs of the chart's NetworkPolicies by name."""
    return {o["metadata"]["name"]: o["spec"] for o in found if o["kind"] == "NetworkPolicy"}


def test_the_operators_metrics_are_read_only_from_where_prometheus_is_said_to_be(helm: str, tmp_path: Path) -> None:
    def ingress(*namespaces: str) -> list[Manifest]:
        found = objects(helm, {"config": {"prometheusNamespaces": [*namespaces]}}, tmp_path)
        spec = policies(found)["release-tandem-operator"]
        labels = one(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
        rules: list[Manifest] = spec["ingress"]
        return rules

    health = {"ports": [{"port": __main__.HEALTH_PORT, "protocol": "TCP"}]}
    assert ingress() == [health]
    (_, metrics) = ingress("b", "a")
    assert metrics["ports"] == [{"port": __main__.METRICS_PORT, "protocol": "TCP"}]
    assert metrics["from"] == [
        {"namespaceSelector": {"matchExpressions": [{"key": NAMESPACE_NAME, "operator": "In", "values": ["b", "a"]}]}}
    ]


def test_with_the_ports_of_the_api_server_the_operator_reaches_nothing_that_it_does_not_need(
    helm: str, tmp_path: Path
) -> None:
    def egress(**config: object) -> list[Manifest] | None:
        values = {**VALUES["a way out to the API server"], "config": config}
        spec = policies(objects(helm, values, tmp_path))["release-tandem-operator"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        rules: list[Manifest] = spec["egress"]
        return rules

    def ports(rule: Manifest) -> list[int]:
        return [port["port"] for port in rule["ports"]]

    api, engines = egress() or []
    assert ports(api) == [443, 6443, 53, 53]
    assert ports(engines) == [HTTP_PORT, METRICS_PORT]
    assert engines["to"] == [{"podSelector": {"matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}}]
    for address, port in {"http://p.m:9090": 9090, "https://p.m": 443, "http://p.m/under": 80}.items():
        (_, _, metrics) = egress(prometheus={"address": address}) or []
        assert ports(metrics) == [port]
    (_, _, pods, _) = egress(prometheus={"address": "http://p.m"}, prometheusNamespaces=["m"]) or []
    assert "ports" not in pods
    assert "Egress" not in policies(objects(helm, {}, tmp_path))["release-tandem-operator"]["policyTypes"]


def test_without_network_policies_there_is_none(helm: str, tmp_path: Path) -> None:
    assert policies(objects(helm, VALUES["without network policies"], tmp_path)) == {}


def test_prometheus_finds_every_port_with_metrics(helm: str, tmp_path: Path) -> None:
    found = objects(helm, VALUES["watched"], tmp_path)
    pods, service = one(found, "PodMonitor"), one(found, "ServiceMonitor")
    assert pods["metadata"]["labels"]["release"] == service["metadata"]["labels"]["release"] == "prometheus"
    assert pods["spec"]["selector"]["matchLabels"] == {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    endpoints = pods["spec"]["podMetricsEndpoints"]
    assert [endpoint["port"] for endpoint in endpoints] == [HTTP_PORT_NAME, METRICS_PORT_NAME]
    (kept,) = endpoints[0]["relabelings"]
    assert kept["regex"] == Role.VERIFIER, "a wake gate's port of that name has no metrics"
    labels = one(found, "Service")["metadata"]["labels"]
    assert service["spec"]["selector"]["matchLabels"].items() <= labels.items()
    pod = one(found, "Deployment")["spec"]["template"]
    assert one(found, "Service")["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert one(found, "Service")["spec"]["ports"][0]["targetPort"] in ports
    unwatched = {o["kind"] for o in objects(helm, {}, tmp_path)}
    assert not {"PodMonitor", "ServiceMonitor", "Service"} & unwatched


def test_prometheus_may_find_the_operator_by_annotations(helm: str, tmp_path: Path) -> None:
    def annotations(values: Manifest) -> Manifest:
        found: Manifest = one(objects(helm, values, tmp_path), "Deployment")["spec"]["template"]["metadata"]
        return {key: text for key, text in found["annotations"].items() if key.startswith("prometheus.io/")}

    assert annotations({}) == {}
    assert annotations(VALUES["watched by annotations"]) == {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/port": str(__main__.METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }


def test_jobs_that_make_models_reach_nothing_and_are_asked_only_how_far_they_are(helm: str, tmp_path: Path) -> None:
    values = {"config": {"prometheusNamespaces": ["monitoring"]}}
    spec = policies(objects(helm, values, tmp_path))["release-tandem-operator-artifacts"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert "egress" not in spec
    (rule,) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == [METRICS_PORT]
    assert [set(peer) for peer in rule["from"]] == [{"podSelector"}, {"namespaceSelector"}]
    labels, (components,) = spec["podSelector"]["matchLabels"], spec["podSelector"]["matchExpressions"]
    assert labels == {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    offline = {Phase.INSPECT, Phase.QUANTIZE, Phase.EVALUATE, Phase.SMOKE, Phase.EVICT}
    assert (components["key"], set(components["values"])) == (names.LABEL_COMPONENT, offline)


def test_a_job_that_fetches_reaches_the_hub_and_nobody_reaches_more_than_its_figures(helm: str, tmp_path: Path) -> None:
    spec = policies(objects(helm, {}, tmp_path))["release-tandem-operator-fetch"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"]["matchLabels"][names.LABEL_COMPONENT] == Phase.FETCH
    (rule,) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == [METRICS_PORT]


def test_the_right_to_claims_is_given_only_when_asked_for(helm: str, tmp_path: Path) -> None:
    def groups(values: Manifest) -> set[str]:
        rules = one(objects(helm, values, tmp_path), "Role")["rules"]
        return {group for rule in rules for group in rule["apiGroups"]}

    assert groups(VALUES["with claims"]) - groups({}) == {"resource.k8s.io"}
    assert "resource.k8s.io" not in groups({})


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


def test_the_defaults_are_those_of_the_operator(helm: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(one(objects(helm, {}, tmp_path), "ConfigMap")["data"]["config.yaml"])
    assert OperatorConfig.load(file) == OperatorConfig()


@pytest.mark.parametrize(
    ("values", "image", "secrets"),
    [
        (
            {"image": {"digest": DIGEST}, "imagePullSecrets": [{"name": "pull"}]},
            f"tandem.local/operator@{DIGEST}",
            ("pull",),
        ),
        ({"config": {"gate": {"image": "r.example/gate:1", "pullSecrets": ["other"]}}}, "r.example/gate:1", ("other",)),
    ],
    ids=["omitted", "given"],
)
def test_a_wake_gate_has_the_operators_image_unless_another_is_given(
    values: Manifest, image: str, secrets: tuple[str, ...], helm: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(one(objects(helm, values, tmp_path), "ConfigMap")["data"]["config.yaml"])
    gate = OperatorConfig.load(file).gate
    assert (gate.image, gate.pull_secrets) == (image, secrets)


def test_the_chart_knows_every_key_of_the_operators_configuration() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    assert schema.keys() == {field.alias for field in OperatorConfig.model_fields.values()}
    assert schema.keys() == yaml.safe_load((CHART / "values.yaml").read_text())["config"].keys()


def test_the_configuration_reaches_the_operator_unchanged(helm: str, tmp_path: Path) -> None:
    values = VALUES["configured"]
    file = tmp_path / "config.yaml"
    file.write_text(one(objects(helm, values, tmp_path), "ConfigMap")["data"]["config.yaml"])
    config = OperatorConfig.load(file)
    assert config.engine_images["cpu"] == values["config"]["engineImages"]["cpu"]
    assert config.engine_images["gpu"] == OperatorConfig().engine_images["gpu"]
    assert config.accelerators["mine"].host_memory == "17179869184"
    assert config.resync_seconds == 1_000_000


def test_a_changed_configuration_restarts_the_operator_and_nothing_else_does(helm: str, tmp_path: Path) -> None:
    def template(values: Manifest) -> Manifest:
        found: Manifest = one(objects(helm, values, tmp_path), "Deployment")["spec"]["template"]
        return found

    assert template({}) != template({"config": {"resyncSeconds": 30}})
    assert template({}) == template({"crds": {"keep": False}, "rbac": {"create": False}})


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


REFUSED: dict[str, Manifest] = {
    "unknown key": {"replica": 1},
    "unknown key below": {"image": {"name": "x"}},
    "unknown configuration": {"config": {"prometheus": "x"}},
    "a namespace without a name": {"config": {"prometheusNamespaces": [""]}},
    "negative replicas": {"replicas": -1},
    "replicas as text": {"replicas": "1"},
    "short digest": {"image": {"digest": "sha256:abc"}},
    "tag that became a number": {"image": {"tag": 123456789012}},
    "policy": {"image": {"pullPolicy": "Sometimes"}},
    "accelerator that is no object": {"config": {"accelerators": {"mine": 1}}},
    "no limits": {"resources": {"limits": None}},
    "a port that there cannot be": {"networkPolicy": {"apiServerPorts": [0]}},
    "an interval without a unit": {"metrics": {"podMonitor": {"interval": "15"}}},
    "something else for a switch": {"admissionPolicy": {"create": "yes"}},
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
def test_the_schema_refuses(values: Manifest, helm: str, tmp_path: Path) -> None:
    done = run(helm, values, tmp_path)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_lint_finds_nothing(helm: str) -> None:
    argv = [helm, "lint", "--strict", str(CHART), "--kube-version", OLDEST_KUBERNETES]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr
