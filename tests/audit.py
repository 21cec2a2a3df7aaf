"""What the API server's audit log says of one namespace's operator: the judge of what it really did."""

from __future__ import annotations

import json
from typing import Any

from deploy.local.cluster import Cluster

ACCOUNT = "tandem-operator"
WRITES = frozenset({"create", "update", "patch", "delete"})


def events_of(cluster: Cluster, namespace: str, *, begin: int = 0) -> list[dict[str, Any]]:
    """Every request of the operator's ServiceAccount that was answered, in order, after `begin` bytes of the log."""
    user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
    with cluster.layout.audit_log.open() as log:
        log.seek(begin)
        lines = log.read().splitlines()
    events = [json.loads(line) for line in lines if user in line]
    return [event for event in events if event["user"]["username"] == user and event["stage"] == "ResponseComplete"]


def writes_of(cluster: Cluster, namespace: str, *, begin: int = 0) -> list[dict[str, Any]]:
    """Those of them that write, without the lease."""
    events = events_of(cluster, namespace, begin=begin)
    return [event for event in events if event["verb"] in WRITES and event["objectRef"]["resource"] != "leases"]
