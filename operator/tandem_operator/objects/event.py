"""The event for a condition that flipped."""

from __future__ import annotations

import hashlib
from datetime import datetime

from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.names import Reason

NOTE_LIMIT_BYTES = 1024


def event_of(owner: Owner, condition: Manifest, *, now: datetime) -> Manifest:
    """An events.k8s.io event about the deployment; a warning where somebody should look."""
    truth = f"{condition['type']}={condition['status']}"
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    suffix = hashlib.sha256(f"{owner.uid}{truth}{stamp}".encode()).hexdigest()[:16]
    note = f"{truth}: {condition['message']}".encode()[:NOTE_LIMIT_BYTES].decode(errors="ignore")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.name}.{suffix}", "namespace": owner.namespace},
        "eventTime": stamp,
        "reportingController": names.MANAGED_BY,
        "reportingInstance": names.MANAGED_BY,
        "action": "Reconcile",
        "type": "Warning" if _is_warning(condition) else "Normal",
        "reason": condition["reason"],
        "note": note,
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
    }


_WARNINGS = {
    Reason.PODS_FAILING,
    Reason.UNSCHEDULABLE,
    Reason.FAILED_CREATE,
    Reason.NO_ROOM_FOR_SURGE,
    Reason.API_REFUSED,
    Reason.API_UNAVAILABLE,
}
"""Reasons of Ready that somebody should look at."""


def _is_warning(condition: Manifest) -> bool:
    return bool(condition["type"] == names.ConditionType.STALLED or condition["reason"] in _WARNINGS)
