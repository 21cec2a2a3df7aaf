"""What `tandem status` knows of a resource, for programs; and what of it the tree asks, too. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator.facts import Manifest, PodFacts
from tandem_operator.masking import one_line
from tandem_operator.names import ConditionType, Reason

KEYS = {
    "name": "of the resource",
    "namespace": "of the resource",
    "generation": "of its spec",
    "observedGeneration": "the one that the operator has acted on; 0: none",
    "ready": "whether the present generation is Ready, as the exit code says",
    "deleting": "whether it is being deleted",
    "conditions[].type": "as in the resource, in the order of the API",
    "conditions[].status": "True, False or Unknown",
    "conditions[].good": "whether that is as it should be; null: not known",
    "conditions[].reason": "one word",
    "conditions[].message": "a sentence, on one line",
    "conditions[].lastTransitionTime": "since when",
    "roles[].role": "verifier or draft",
    "roles[].summary": "Ready of wanted",
    "roles[].revision": "that serves",
    "roles[].targetRevision": "that is to",
    "roles[].failed": "whether the target has failed",
    "roles[].pods[].name": "of the pod",
    "roles[].pods[].revision": "of the pod",
    "roles[].pods[].state": "Ready, NotReady, Going or Ended",
    "roles[].pods[].node": "empty: none yet",
    "roles[].pods[].created": "when",
    "roles[].pods[].trouble": "what keeps it from being Ready; empty: nothing is known",
    "coldStart": "the last one, as in the resource's status; null: none",
    "scalingUpdated": "when the figures of scaling, and its conditions, were written; null: never",
    "cost": "as in the resource's status.scaling; null: not known",
    "benchmark": "the last one, as in the resource's status; null: none",
    "notes": "what could not be read",
}

SCALING = frozenset({ConditionType.SCALING_ACTIVE, ConditionType.SCALING_LIMITED, ConditionType.LATENCY_TARGET_MET})
FRESH_SECONDS = 60.0
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))
_ABNORMAL = frozenset({ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.SCALING_LIMITED})
"""Conditions that are good while they are False."""
_HARMLESS = frozenset({Reason.AT_MINIMUM, Reason.LIMITED_BY_BEHAVIOR})
"""Reasons of such a condition to be True that ask nothing of anybody."""


def document_of(body: Manifest, pods: Iterable[PodFacts], *, notes: Sequence[str]) -> Manifest:
    """All of it, under KEYS."""
    metadata, status = body["metadata"], body.get("status") or {}
    every = sorted(pods, key=lambda pod: pod.ref)
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "generation": metadata.get("generation", 1),
        "observedGeneration": max(status.get("observedGeneration", 0), 0),
        "ready": is_ready(body),
        "deleting": "deletionTimestamp" in metadata,
        "conditions": [_condition(each) for each in conditions_of(body)],
        "roles": [
            _role(body, role, status.get(role.value) or {}, [pod for pod in every if pod.role is role])
            for role in Role
            if status.get(role.value) or any(pod.role is role for pod in every)
        ],
        "coldStart": shown(status.get("coldStart")),
        "scalingUpdated": shown((status.get("scaling") or {}).get("updated")),
        "cost": shown((status.get("scaling") or {}).get("cost")),
        "benchmark": shown(status.get("benchmark")),
        "notes": list(notes),
    }


def counted(count: object, what: str) -> str:
    """`1 draft`, `2 drafts`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def age_told(updated: object, now: datetime) -> str:
    """How old the figures of scaling are; empty while they are new: where something matters they are written soon."""
    try:
        seconds = (now - datetime.fromisoformat(str(updated))).total_seconds()
    except (ValueError, TypeError):  # nothing that we have written, or a time of nowhere
        return ""
    if seconds <= FRESH_SECONDS:
        return ""
    unit, size = next(each for each in _UNITS if seconds >= each[1])
    return f"these figures are {counted(int(seconds // size), unit)} old"


def conditions_of(body: Manifest) -> list[Manifest]:
    """In the order of the API, whatever order they are stored in; what it does not know comes last."""
    order = {kind.value: position for position, kind in enumerate(ConditionType)}
    found = (body.get("status") or {}).get("conditions") or []
    return sorted(found, key=lambda condition: (order.get(condition["type"], len(order)), condition["type"]))


def is_of_scaling(condition: Manifest) -> bool:
    """Whether a condition says what scaling found, whose figures are written less often than others."""
    return condition["type"] in SCALING


def is_good(condition: Manifest) -> bool:
    """Whether a condition that is known says what it should."""
    return (condition.get("status") == "True") != (condition["type"] in _ABNORMAL)


def is_harmless(condition: Manifest) -> bool:
    """Whether one that is not good asks nothing of anybody."""
    return not is_good(condition) and condition.get("reason") in _HARMLESS


def is_ready(body: Manifest) -> bool:
    """Whether the present generation is Ready."""
    ready = next((c for c in conditions_of(body) if c["type"] == ConditionType.READY), {})
    is_current = ready.get("observedGeneration") == body["metadata"].get("generation")
    return is_current and ready.get("status") == "True"


def has_failed(body: Manifest, role: Role) -> bool:
    """Whether the revision that a role was to go to has failed."""
    kind = ConditionType.VERIFIER_READY if role is Role.VERIFIER else ConditionType.DRAFT_READY
    return any((c["type"], c.get("reason")) == (kind, Reason.ROLLOUT_FAILED) for c in conditions_of(body))


def shown(value: Any) -> Any:
    """What others wrote, every text of it on one line and masked; null where there is nothing."""
    if isinstance(value, dict):
        return {one_line(str(key)): shown(each) for key, each in value.items()} or None
    if isinstance(value, list):
        return [shown(each) for each in value]
    return one_line(value) if isinstance(value, str) else value


def _condition(condition: Manifest) -> Manifest:
    truth = condition.get("status", "Unknown")
    return {
        "type": condition["type"],
        "status": truth,
        "good": None if truth == "Unknown" else is_good(condition) or is_harmless(condition),
        "reason": condition.get("reason", ""),
        "message": one_line(condition.get("message", "")),
        "lastTransitionTime": condition.get("lastTransitionTime"),
    }


def _role(body: Manifest, role: Role, status: Manifest, pods: Sequence[PodFacts]) -> Manifest:
    return {
        "role": role.value,
        "summary": status.get("summary", ""),
        "revision": status.get("revision", ""),
        "targetRevision": status.get("targetRevision", ""),
        "failed": has_failed(body, role),
        "pods": [
            {
                "name": pod.ref.name,
                "revision": pod.revision,
                "state": _state(pod),
                "node": pod.node,
                "created": pod.created.isoformat().replace("+00:00", "Z"),
                "trouble": pod.trouble,
            }
            for pod in pods
        ],
    }


def _state(pod: PodFacts) -> str:
    if pod.is_over:
        return "Ended"
    if pod.is_going:
        return "Going"
    return "Ready" if pod.is_ready else "NotReady"
