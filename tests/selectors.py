"""What selectors and NetworkPolicies mean, to ask of objects and pods: who is selected, who may talk to whom.

The evaluation is of the API's documentation, and only of what our objects use; anything else is refused, so that a
test cannot pass because something was not understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Manifest = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Endpoint:
    """A pod as a policy sees it, or, without a namespace, an address outside the pods' network."""

    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    address: str = ""


def selects(selector: Manifest, labels: Labels) -> bool:
    """Whether a LabelSelector selects something with these labels. An empty one selects everything."""
    known = {"matchLabels", "matchExpressions"}
    assert selector.keys() <= known, selector
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", []))


def _holds(expression: Manifest, labels: Labels) -> bool:
    assert expression["operator"] == "In", expression
    return labels.get(expression["key"]) in expression["values"]


def admits(policy: Manifest, source: Endpoint, *, port: int, protocol: str = "TCP") -> bool:
    """Whether a policy lets a source reach a port of the pods that it selects."""
    assert "Ingress" in policy["spec"]["policyTypes"]
    return _is_allowed(policy, policy["spec"].get("ingress", []), "from", source, (port, protocol))


def lets_out(policy: Manifest, target: Endpoint, *, port: int, protocol: str = "TCP") -> bool:
    """Whether a policy lets the pods that it selects reach a port of a target."""
    assert "Egress" in policy["spec"]["policyTypes"]
    return _is_allowed(policy, policy["spec"].get("egress", []), "to", target, (port, protocol))


def _is_allowed(policy: Manifest, rules: list[Manifest], side: str, other: Endpoint, where: tuple[int, str]) -> bool:
    namespace = policy["metadata"]["namespace"]
    return any(
        (not rule.get("ports") or where in {(at["port"], at["protocol"]) for at in rule["ports"]})
        and (not rule.get(side) or any(_is_peer(peer, other, namespace) for peer in rule[side]))
        for rule in rules
    )


def _is_peer(peer: Manifest, other: Endpoint, namespace: str) -> bool:
    assert peer, "the API server refuses an empty peer"
    if "ipBlock" in peer:
        assert peer.keys() == {"ipBlock"}
        assert peer["ipBlock"].keys() == {"cidr"}
        return bool(other.address) and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    assert peer.keys() <= {"podSelector", "namespaceSelector"}
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        is_there = selects(peer["namespaceSelector"], other.namespace_labels)
    else:
        is_there = other.namespace == namespace
    return is_there and selects(peer.get("podSelector", {}), other.labels)
