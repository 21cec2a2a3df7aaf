"""What stands around a role's pods: who is nobody, who may talk to whom, how many may be taken away."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_contracts.ports import GRPC_PORT, HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.api.access import Peer
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.job_policies import benchmark_policy_of, job_policies_of
from tandem_operator.objects.ownership import benchmark_labels_of, labels_of
from tandem_operator.objects.protection import (
    DNS_PORTS,
    NAMESPACE_NAME,
    NODE_LOCAL_DNS,
    OPERATOR_PODS,
    Watchers,
    disruption_budget_of,
    gate_network_policy_of,
    network_policy_of,
    service_account_of,
)
from tests.builders import NAME, NAMESPACE, UID
from tests.selectors import Endpoint, admits, lets_out, selects

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)


def policy(role: Role, allowed_from: tuple[Peer, ...] = (), *prometheus: str) -> Manifest:
    return network_policy_of(OWNER, role, allowed_from=allowed_from, watchers=Watchers(prometheus))


def at(namespace: str = NAMESPACE, labels: Any = None, **namespace_labels: str) -> Endpoint:
    return Endpoint(namespace, labels or {}, {NAMESPACE_NAME: namespace, **namespace_labels})


def pod_of(role: Role, name: str = NAME, namespace: str = NAMESPACE) -> Endpoint:
    owner = Owner(name=name, namespace=namespace, uid=UID)
    return at(namespace, labels_of(owner, role, revision="aaaaaaaa"))


OPERATOR = at(labels=OPERATOR_PODS)
STRANGERS = {
    "a pod of the namespace": at(labels={"app": "web"}),
    "a pod of another namespace": at("other", {"app": "web"}),
    "somebody outside the cluster": Endpoint(address="203.0.113.7"),
    "another deployment's verifier": pod_of(Role.VERIFIER, "other"),
    "a verifier of that name in another namespace": pod_of(Role.VERIFIER, namespace="other"),
    "another deployment's draft": pod_of(Role.DRAFT, "other"),
    "an operator of another namespace": at("other", OPERATOR_PODS),
    "the namespace of Prometheus, which nobody named": at("monitoring"),
}


@pytest.mark.parametrize("role", Role)
def test_every_object_is_named_like_its_role_and_belongs_to_no_revision(role: Role) -> None:
    for manifest in (service_account_of(OWNER, role), policy(role), disruption_budget_of(OWNER, role, revision="a")):
        metadata = manifest["metadata"]
        assert metadata["name"] == f"{NAME}-{role}"
        assert metadata["labels"][names.LABEL_ROLE] == role
        assert names.LABEL_REVISION not in metadata["labels"]
        (owner,) = metadata["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (UID, True)


def test_the_longest_name_that_a_deployment_may_have_leaves_room_for_ours() -> None:
    longest = "a" * names.NAME_MAX_LENGTH
    assert max(len(names.protection_name(longest, role)) for role in Role) <= 63


@pytest.mark.parametrize("role", Role)
def test_an_account_gives_nobody_a_token(role: Role) -> None:
    account = service_account_of(OWNER, role)
    assert account["automountServiceAccountToken"] is False
    assert account.keys() == {"apiVersion", "kind", "metadata", "automountServiceAccountToken"}


def test_an_account_names_what_pulls_the_images() -> None:
    assert service_account_of(OWNER, Role.DRAFT, pull_secrets=("b", "a"))["imagePullSecrets"] == [
        {"name": "b"},
        {"name": "a"},
    ]


def test_a_budget_counts_the_pods_of_the_revision_that_serves() -> None:
    spec = disruption_budget_of(OWNER, Role.VERIFIER, revision="new")["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert selects(spec["selector"], labels_of(OWNER, Role.VERIFIER, revision="new"))
    assert not selects(spec["selector"], labels_of(OWNER, Role.VERIFIER, revision="old"))
    assert not selects(spec["selector"], labels_of(OWNER, Role.DRAFT, revision="new"))


def test_a_budget_counts_the_pods_of_every_revision_while_all_of_them_serve() -> None:
    selector = disruption_budget_of(OWNER, Role.VERIFIER)["spec"]["selector"]
    for revision in ("new", "old"):
        assert selects(selector, labels_of(OWNER, Role.VERIFIER, revision=revision))
        assert not selects(selector, labels_of(OWNER, Role.DRAFT, revision=revision))


@pytest.mark.parametrize("role", Role)
def test_a_policy_holds_for_every_revision_of_its_role_and_for_no_other_pod(role: Role) -> None:
    selector = policy(role)["spec"]["podSelector"]
    for revision in ("new", "old"):
        assert selects(selector, labels_of(OWNER, role, revision=revision))
    (other,) = set(Role) - {role}
    assert not selects(selector, labels_of(OWNER, other, revision="new"))
    assert not selects(selector, pod_of(role, "other").labels)
    assert not selects(selector, OPERATOR_PODS)


@pytest.mark.parametrize("source", STRANGERS.values(), ids=STRANGERS)
def test_without_allowed_from_everybody_may_ask_a_verifier(source: Endpoint) -> None:
    assert admits(policy(Role.VERIFIER), source, port=HTTP_PORT)
    assert not admits(policy(Role.VERIFIER), source, port=22)


CLIENTS = {
    "pods of the namespace by their labels": (
        Peer(pod_labels={"app": "web"}),
        {"a pod of the namespace"},
    ),
    "a whole namespace": (
        Peer(namespace_labels={NAMESPACE_NAME: "other"}),
        {
            "a pod of another namespace",
            "a verifier of that name in another namespace",
            "an operator of another namespace",
        },
    ),
    "pods of a namespace": (
        Peer(namespace_labels={NAMESPACE_NAME: "other"}, pod_labels={"app": "web"}),
        {"a pod of another namespace"},
    ),
    "pods of somebody's own choice": (
        Peer(pod_labels={names.LABEL_PART_OF: names.PART_OF}),
        {"another deployment's verifier", "another deployment's draft"},
    ),
}


@pytest.mark.parametrize(("peer", "welcome"), CLIENTS.values(), ids=CLIENTS)
def test_only_the_clients_that_are_named_may_ask_a_verifier(peer: Peer, welcome: set[str]) -> None:
    closed = policy(Role.VERIFIER, (peer,))
    assert {name for name, source in STRANGERS.items() if admits(closed, source, port=HTTP_PORT)} == welcome
    assert {name for name, source in STRANGERS.items() if admits(closed, source, port=METRICS_PORT)} == set()


@pytest.mark.parametrize("source", STRANGERS.values(), ids=STRANGERS)
def test_only_its_own_verifiers_may_ask_a_draft(source: Endpoint) -> None:
    for allowed_from in ((), (Peer(pod_labels={"app": "web"}),)):
        drafts = policy(Role.DRAFT, allowed_from)
        assert not admits(drafts, source, port=GRPC_PORT)
        assert admits(drafts, pod_of(Role.VERIFIER), port=GRPC_PORT)
        assert not admits(drafts, pod_of(Role.DRAFT), port=GRPC_PORT)
        assert not admits(drafts, pod_of(Role.VERIFIER), port=METRICS_PORT)


@pytest.mark.parametrize("role", Role)
def test_metrics_are_read_by_the_operator_and_every_prometheus_that_was_named(role: Role) -> None:
    for allowed_from in ((), (Peer(pod_labels={"app": "none"}),)):
        watched = policy(role, allowed_from, "monitoring", "observability")
        for source in (OPERATOR, at("monitoring"), at("observability", {"app": "agent"})):
            assert admits(watched, source, port=METRICS_PORT)
            serves_metrics_too = role is Role.VERIFIER  # vLLM does, on the port of its API
            assert admits(watched, source, port=HTTP_PORT) is serves_metrics_too
            assert not admits(watched, source, port=GRPC_PORT)
        assert not admits(watched, at("monitoring-2"), port=METRICS_PORT)
        assert not admits(watched, at(labels={"app": "web"}), port=METRICS_PORT)
    assert not admits(policy(role), at("monitoring"), port=METRICS_PORT)


@pytest.mark.parametrize("role", Role)
def test_metrics_are_read_by_the_operator_of_the_whole_cluster_where_it_runs_and_nowhere_else(role: Role) -> None:
    policies = [
        network_policy_of(OWNER, role, allowed_from=(), watchers=Watchers((), "tandem-system")),
        gate_network_policy_of(OWNER, allowed_from=(), watchers=Watchers((), "tandem-system")),
        *job_policies_of(NAMESPACE, Watchers((), "tandem-system")),
    ]
    for watched in policies:
        assert admits(watched, at("tandem-system", OPERATOR_PODS), port=METRICS_PORT)
        for source in (OPERATOR, at("tandem-system"), at("other", OPERATOR_PODS)):
            assert not admits(watched, source, port=METRICS_PORT)


@pytest.mark.parametrize("component", ["inspect", "quantize", "evaluate", "smoke", "evict", "fetch"])
def test_each_job_of_a_model_is_closed_by_one_policy_and_only_one_that_fetches_has_a_way_out(component: str) -> None:
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_COMPONENT: component}
    (policy,) = [
        each for each in job_policies_of(NAMESPACE, Watchers()) if selects(each["spec"]["podSelector"], labels)
    ]
    assert ("Egress" in policy["spec"]["policyTypes"]) is (component != "fetch")
    assert not policy["spec"].get("egress")
    assert not selects(policy["spec"]["podSelector"], {**labels, names.LABEL_MANAGED_BY: "Helm"})


def test_who_measures_reaches_names_and_pods_of_ours_and_is_reached_by_nobody() -> None:
    measuring = benchmark_policy_of(NAMESPACE)
    assert selects(measuring["spec"]["podSelector"], benchmark_labels_of(OWNER))
    assert not selects(measuring["spec"]["podSelector"], pod_of(Role.VERIFIER).labels)
    for role in Role:
        for port in (HTTP_PORT, METRICS_PORT):
            assert lets_out(measuring, pod_of(role), port=port)
            assert not lets_out(measuring, pod_of(role, namespace="other"), port=port)
        assert not lets_out(measuring, pod_of(role), port=GRPC_PORT)
    for port in DNS_PORTS:
        assert lets_out(measuring, at("kube-system", {"k8s-app": "kube-dns"}), port=port, protocol="UDP")
    for target in (Endpoint(address="203.0.113.7"), at(labels={"app": "web"})):
        assert not lets_out(measuring, target, port=HTTP_PORT)
    for source in (OPERATOR, *STRANGERS.values()):
        assert not admits(measuring, source, port=METRICS_PORT)


@pytest.mark.parametrize("role", Role)
def test_pods_that_serve_reach_names_and_drafts_and_nothing_else(role: Role) -> None:
    out = policy(role)
    dns = at("kube-system", {"k8s-app": "kube-dns"})
    node_local = Endpoint(address=NODE_LOCAL_DNS.split("/")[0])
    for port in DNS_PORTS:
        for protocol in ("UDP", "TCP"):
            assert lets_out(out, dns, port=port, protocol=protocol)
            assert lets_out(out, node_local, port=port, protocol=protocol)
            assert not lets_out(out, Endpoint(address="203.0.113.7"), port=port, protocol=protocol)
    assert lets_out(out, pod_of(Role.DRAFT), port=GRPC_PORT) is (role is Role.VERIFIER)
    elsewhere = [
        Endpoint(address="203.0.113.7"),
        Endpoint(address="169.254.169.254"),
        at("kube-system"),
        pod_of(Role.VERIFIER),
        pod_of(Role.DRAFT, "other"),
        pod_of(Role.DRAFT, namespace="other"),
    ]
    for target in elsewhere:
        for port in (80, 443, HTTP_PORT, GRPC_PORT, METRICS_PORT):
            assert not lets_out(out, target, port=port)


def test_the_same_namespaces_in_another_order_are_the_same_policy() -> None:
    assert policy(Role.DRAFT, (), "b", "a", "b") == policy(Role.DRAFT, (), "a", "b")
