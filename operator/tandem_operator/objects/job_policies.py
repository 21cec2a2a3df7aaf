"""Whom the Jobs of artifacts may reach, in a namespace that the operator serves from another one.

In its own namespace the chart has the same two policies. They belong to no artifact, and stay while the namespace does:
a policy that went with an artifact would leave another one's Job open.
"""

from __future__ import annotations

from tandem_contracts.ports import METRICS_PORT
from tandem_operator import names
from tandem_operator.facts import Manifest
from tandem_operator.objects.protection import Watchers

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


def _policy(name: str, namespace: str, spec: Manifest) -> Manifest:
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_PART_OF: names.PART_OF}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
