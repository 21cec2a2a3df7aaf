"""What is of the whole cluster, and what changes where one operator serves all of it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tandem_operator.config import OperatorConfig
from tandem_operator.objects.job_policies import benchmark_policy_of, job_policies_of
from tandem_operator.objects.protection import Watchers
from tests.chart.rendering import NAMESPACE, VALUES, Manifest, objects, one


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
