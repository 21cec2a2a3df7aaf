"""What stands around a role's pods: their ServiceAccount, who may talk to them, how many may be taken away at once.

One of each for a role, not for a revision: a rollout changes nobody's rights. NetworkPolicies add up, so that whoever
needs more (a mesh's control plane) allows it with a policy of their own for the same pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tandem_contracts.launch import Role
from tandem_contracts.ports import GRPC_PORT, HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.api.access import Peer
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import (
    benchmark_selector_of,
    gate_metadata_of,
    gate_selector_of,
    metadata_of,
    sealed,
    selector_of,
)

MAX_UNAVAILABLE = 1
DNS_PORTS = (53, 5353)
"""Where DNS servers listen behind port 53 of their Service, which is what a policy sees: 5353 on OpenShift."""
NODE_LOCAL_DNS = "169.254.20.10/32"
"""Address of the cache that many clusters run on every node, in the node's network: no selector of pods reaches it."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
OPERATOR_PODS: Mapping[str, str] = {names.LABEL_COMPONENT: "operator", names.LABEL_PART_OF: names.PART_OF}
"""Labels of the operator's own pods."""


@dataclass(frozen=True)
class Watchers:
    """Who reads the metrics of pods: the operator, which counts requests while pods drain, and every Prometheus."""

    prometheus_namespaces: tuple[str, ...] = ()
    operator_namespace: str = ""
    """Where the operator runs that serves every namespace; empty for one that serves its own."""

    @property
    def peers(self) -> list[Manifest]:
        """As NetworkPolicies have them."""
        operator = _pods(OPERATOR_PODS)
        if self.operator_namespace:
            operator["namespaceSelector"] = _labelled({NAMESPACE_NAME: self.operator_namespace})
        if not self.prometheus_namespaces:
            return [operator]
        return [operator, _namespaces(self.prometheus_namespaces)]


def service_account_of(owner: Owner, role: Role, *, pull_secrets: tuple[str, ...] = ()) -> Manifest:
    """The identity of a role's pods: no right is bound to it, and nobody gets a token of it unasked.

    `pull_secrets` are names: pods that do not use the namespace's default account do not get that one's either.
    """
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata_of(owner, names.protection_name(owner.name, role), role=role),
            "automountServiceAccountToken": False,
            **({"imagePullSecrets": [{"name": name} for name in pull_secrets]} if pull_secrets else {}),
        }
    )


def disruption_budget_of(owner: Owner, role: Role, *, revision: str = "") -> Manifest:
    """Lets a drain of nodes take one pod at a time of those that serve, and every pod that does not serve anyway.

    It counts the pods that the Service selects (without a revision: all of the role). Those of a revision that is
    only coming up would count as unavailable, and hold up every drain until they are Ready, if they ever are.
    """
    return sealed(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata_of(owner, names.protection_name(owner.name, role), role=role),
            "spec": {
                "maxUnavailable": MAX_UNAVAILABLE,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector_of(owner, role, revision=revision)},
            },
        }
    )


def network_policy_of(
    owner: Owner,
    role: Role,
    *,
    allowed_from: tuple[Peer, ...],
    watchers: Watchers,
    has_gate: bool = False,
    traces_namespaces: tuple[str, ...] = (),
) -> Manifest:
    """Who may talk to a role's pods, and whom they may talk to.

    `allowed_from`: the clients of verifiers; none named is everybody. vLLM serves its metrics where it serves requests,
    so that whoever collects metrics reaches both ports of a verifier. `has_gate`: the wake gate passes requests on.
    Who measures the deployment is a client of it, and reads what the pods use meanwhile. `traces_namespaces`: where
    verifiers send traces, at whatever port: the one of a Service is not that of its pods.
    """
    measures = [_pods(benchmark_selector_of(owner))]
    http = _port(HTTP_PORT)
    if role is Role.DRAFT:
        requests = {"ports": [_port(GRPC_PORT)], "from": [_pods(selector_of(owner, Role.VERIFIER))]}
    elif allowed_from:
        gate = [_pods(gate_selector_of(owner))] if has_gate else []
        requests = {"ports": [http], "from": [*map(_peer, allowed_from), *gate, *measures, *watchers.peers]}
    else:
        requests = {"ports": [http]}
    drafts = {"ports": [_port(GRPC_PORT)], "to": [_pods(selector_of(owner, Role.DRAFT))]}
    traces = [{"to": [_namespaces(traces_namespaces)]}] if traces_namespaces else []
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata_of(owner, names.protection_name(owner.name, role), role=role),
            "spec": {
                "podSelector": {"matchLabels": selector_of(owner, role)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [requests, {"ports": [_port(METRICS_PORT)], "from": [*watchers.peers, *measures]}],
                "egress": [_dns(), drafts, *traces] if role is Role.VERIFIER else [_dns()],
            },
        }
    )


def gate_network_policy_of(owner: Owner, *, allowed_from: tuple[Peer, ...], watchers: Watchers) -> Manifest:
    """The same of the wake gate: it takes requests of whom the verifiers do, and talks to nobody but them."""
    http = _port(HTTP_PORT)
    requests: Manifest = {"ports": [http]}
    if allowed_from:
        requests["from"] = [*map(_peer, allowed_from), *watchers.peers]
    verifiers = {"ports": [http], "to": [_pods(selector_of(owner, Role.VERIFIER))]}
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": gate_metadata_of(owner, names.gate_name(owner.name)),
            "spec": {
                "podSelector": {"matchLabels": gate_selector_of(owner)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [requests, {"ports": [_port(METRICS_PORT)], "from": watchers.peers}],
                "egress": [_dns(), verifiers],
            },
        }
    )


def _namespaces(names_of_them: tuple[str, ...]) -> Manifest:
    within = {"key": NAMESPACE_NAME, "operator": "In", "values": sorted(set(names_of_them))}
    return {"namespaceSelector": {"matchExpressions": [within]}}


def _dns() -> Manifest:
    """Any pod of the cluster that answers DNS: where those pods are is the cluster's affair."""
    return {
        "ports": [_port(port, protocol) for port in DNS_PORTS for protocol in ("UDP", "TCP")],
        "to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}],
    }


def _peer(peer: Peer) -> Manifest:
    pods: Manifest = {"podSelector": _labelled(peer.pod_labels)}
    return {"namespaceSelector": _labelled(peer.namespace_labels), **pods} if peer.namespace_labels else pods


def _pods(labels: Mapping[str, str]) -> Manifest:
    return {"podSelector": _labelled(labels)}


def _labelled(labels: Mapping[str, str]) -> Manifest:
    return {"matchLabels": dict(sorted(labels.items()))} if labels else {}


def _port(port: int, protocol: str = "TCP") -> Manifest:
    return {"port": port, "protocol": protocol}
