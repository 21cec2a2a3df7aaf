"""Whom Jobs may reach, those of artifacts and of benchmarks, in a namespace that the operator serves from another one.

In its own namespace the chart has the same policies. They belong to no artifact and no deployment, and stay while the
namespace does: a policy that went with one of them would leave another one's Job open.
"""

from __future__ import annotations

from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import sealed
from tandem_operator.objects.protection import DNS_PORTS, Watchers

REACH_NOTHING = ("inspect", "quantize", "evaluate", "smoke", "evict")
"""The node gives them all that they need."""
FETCH = "fetch"


def job_policies_of(namespace: str, watchers: Watchers) -> tuple[Manifest, Manifest]:
    """Of the Jobs that reach nothing, and of those that fetch: whoever reads metrics may ask each how far it is."""
    figures = {"ports": [{"port": METRICS_PORT, "protocol": "TCP"}], "from": watchers.peers}
    closed = {
        "podSelector": {
            "matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "matchExpressions": [{"key": names.LABEL_COMPONENT, "operator": "In", "values": list(REACH_NOTHING)}],
        },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [figures],
    }
    fetching = {
        "podSelector": {"matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_COMPONENT: FETCH}},
        "policyTypes": ["Ingress"],
        "ingress": [figures],
    }
    return _policy("tandem-artifacts", namespace, closed), _policy("tandem-fetch", namespace, fetching)


def benchmark_policy_of(namespace: str) -> Manifest:
    """Of the Jobs of `tandem bench`: they ask the deployment's Service, and its pods for their metrics; nobody asks
    them. A user makes them, so that the policy has to be there before.
    """
    names_of_services = {"ports": [{"port": port, "protocol": each} for port in DNS_PORTS for each in ("UDP", "TCP")]}
    pods = {
        "ports": [{"port": port, "protocol": "TCP"} for port in (HTTP_PORT, METRICS_PORT)],
        "to": [{"podSelector": {"matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}}],
    }
    measuring = {
        "podSelector": {
            "matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_COMPONENT: names.BENCHMARK}
        },
        "policyTypes": ["Ingress", "Egress"],
        "egress": [names_of_services, pods],
    }
    return sealed(_policy(f"tandem-{names.BENCHMARK}s", namespace, measuring))


def _policy(name: str, namespace: str, spec: Manifest) -> Manifest:
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_PART_OF: names.PART_OF}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
