"""Events about a deployment: a condition that flipped, replicas that scaling has changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.names import TROUBLES_OF_SCALING, Reason

NOTE_LIMIT_BYTES = 1024


@dataclass(frozen=True)
class Rescaled:
    """Scaling wants another number of a role's replicas than before."""

    role: Role
    before: int
    after: int
    reason: str


def event_of(owner: Owner, condition: Manifest, *, now: datetime) -> Manifest:
    """That a condition flipped; a warning where somebody should look."""
    truth = f"{condition['type']}={condition['status']}"
    return _event(
        owner,
        truth,
        action="Reconcile",
        kind="Warning" if _is_warning(condition) else "Normal",
        reason=condition["reason"],
        message=condition["message"],
        now=now,
    )


def rescaled_event_of(owner: Owner, change: Rescaled, *, now: datetime) -> Manifest:
    """That scaling wants another number of replicas, as HorizontalPodAutoscaler's SuccessfulRescale."""
    return _event(
        owner,
        f"{change.role}s {change.before} → {change.after}",
        action="Rescale",
        kind="Normal",
        reason=names.Reason.RESCALED,
        message=change.reason,
        now=now,
    )


def _event(
    owner: Owner,
    head: str,
    *,
    action: str,
    kind: Literal["Normal", "Warning"],
    reason: str,
    message: str,
    now: datetime,
) -> Manifest:
    """An events.k8s.io event; what it is about, `head`, comes first in its note."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    suffix = hashlib.sha256(f"{owner.uid}{head}{stamp}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.name}.{suffix}", "namespace": owner.namespace},
        "eventTime": stamp,
        "reportingController": names.MANAGED_BY,
        "reportingInstance": names.MANAGED_BY,
        "action": action,
        "type": kind,
        "reason": reason,
        "note": f"{head}: {message}".encode()[:NOTE_LIMIT_BYTES].decode(errors="ignore"),
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
    *TROUBLES_OF_SCALING,
}
"""Reasons of Ready and of scaling that somebody should look at."""


def _is_warning(condition: Manifest) -> bool:
    return bool(condition["type"] == names.ConditionType.STALLED or condition["reason"] in _WARNINGS)
