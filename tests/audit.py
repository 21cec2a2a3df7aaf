"""What the API server's audit log says of one namespace's operator and of others: what they really did."""

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


def writers_of(cluster: Cluster, namespace: str, resource: str, *, begin: int = 0) -> list[tuple[str, str]]:
    """Who has written objects of a kind, whole or by a subresource ("" or its name), after `begin` bytes of the log.

    Users without their prefixes, such as ("horizontal-pod-autoscaler", "scale"); refused writes are none.
    """
    with cluster.layout.audit_log.open() as log:
        log.seek(begin)
        events = [json.loads(line) for line in log.read().splitlines() if namespace in line]
    return [
        (event["user"]["username"].rpartition(":")[2], event["objectRef"].get("subresource", ""))
        for event in events
        if event["stage"] == "ResponseComplete"
        and event["verb"] in WRITES
        and event["responseStatus"]["code"] < 300
        and event["objectRef"].get("namespace") == namespace
        and event["objectRef"]["resource"] == resource
    ]


Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


def rights_used(events: list[dict[str, Any]]) -> set[Right]:
    """What an account must be allowed for these requests. Server-side apply of what was not there is a create, too."""
    used = set()
    for event in events:
        if about := event.get("objectRef"):
            resource = "/".join(part for part in (about["resource"], about.get("subresource", "")) if part)
            used.add((about.get("apiGroup", ""), resource, event["verb"]))
            if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
                used.add((about.get("apiGroup", ""), resource, "create"))
    return used


def rights_granted(rules: list[dict[str, Any]]) -> set[Right]:
    """What the rules of a Role allow, whatever names they are limited to."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def refusals_in(events: list[dict[str, Any]]) -> list[str]:
    """What was forbidden, such as "list secrets"."""
    forbidden = [event for event in events if event["responseStatus"]["code"] == 403]
    return [f"{event['verb']} {event['requestURI']}" for event in forbidden if not _is_for_another_reason(event)]


def _is_for_another_reason(event: dict[str, Any]) -> bool:
    """Admission (a quota, a namespace that goes) answers 403 as well, to who has the right."""
    return event.get("annotations", {}).get("authorization.k8s.io/decision") == "allow"
