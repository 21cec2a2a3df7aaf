"""What the operator may do by the chart: rights end where the namespace does, and before Secrets."""

from __future__ import annotations

from pathlib import Path

from tandem_operator import names
from tests.chart.rendering import NAMESPACE, VALUES, Manifest, objects, one


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


def test_the_right_to_claims_is_given_only_when_asked_for(helm: str, tmp_path: Path) -> None:
    def groups(values: Manifest) -> set[str]:
        rules = one(objects(helm, values, tmp_path), "Role")["rules"]
        return {group for rule in rules for group in rule["apiGroups"]}

    assert groups(VALUES["with claims"]) - groups({}) == {"resource.k8s.io"}
    assert "resource.k8s.io" not in groups({})


def test_the_right_to_block_the_deletion_of_owners_is_given_only_when_asked_for(helm: str, tmp_path: Path) -> None:
    asked = one(objects(helm, {"rbac": {"create": True, "ownerFinalizers": True}}, tmp_path), "Role")["rules"]
    added = [rule for rule in asked if rule not in one(objects(helm, {}, tmp_path), "Role")["rules"]]
    finalizers = [f"{plural}/finalizers" for plural in (names.PLURAL, names.ARTIFACT_PLURAL)]
    assert added == [{"apiGroups": [names.GROUP], "resources": finalizers, "verbs": ["update"]}]
