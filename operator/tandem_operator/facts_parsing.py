"""From raw objects to facts. Pure, and decides nothing.

A missing field of a raw object means what the API server means by its absence (a counter that is not there is 0).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.causes import steady, trouble_of
from tandem_operator.facts import (
    PROTECTION_KINDS,
    ClaimFacts,
    Facts,
    GateFacts,
    Manifest,
    PodFacts,
    ProtectionFacts,
    Ref,
    RevisionFacts,
    ServiceFacts,
    WorkloadFacts,
    controller_uid,
)
from tandem_operator.masking import one_line


def facts_of(
    children: Iterable[Manifest], *, owner_uid: str, mishaps: Mapping[str, str] = MappingProxyType({})
) -> Facts:
    """Parse what the store holds for one deployment. The order of `children` does not matter.

    `mishaps`, by a pod's uid: what the cluster's events say of a pod whose own status gives no cause.
    """
    revisions: list[RevisionFacts] = []
    workloads: list[WorkloadFacts] = []
    services: list[ServiceFacts] = []
    protections: list[ProtectionFacts] = []
    claims: list[ClaimFacts] = []
    pods: list[PodFacts] = []
    gate: list[Manifest] = []
    for child in children:
        if _labels(child).get(names.LABEL_COMPONENT) == names.GATE:
            gate += [child] if child["kind"] == "Pod" or controller_uid(child) == owner_uid else []
            continue
        if child["kind"] == "Pod":
            pod = pod_of(child, mishap=mishaps.get(child["metadata"].get("uid", ""), ""))
            pods += [pod] if pod else []
            continue
        if controller_uid(child) != owner_uid:
            continue  # somebody else's; whether it is in the way turns out when ours is to be made
        if child["kind"] in PROTECTION_KINDS:
            protections += _protections(child)
            continue
        if not _is_labelled(child):
            continue  # somebody overwrote our labels; the plan applies the object again, which restores them
        if child["kind"] == "ControllerRevision":
            revisions.append(_revision(child))
        elif child["kind"] == "Deployment":
            workloads.append(_workload(child))
        elif child["kind"] == "Service":
            services.append(_service(child))
        elif child["kind"] == names.CLAIM_TEMPLATE_KIND:
            claims.append(_claim(child))
    return Facts(
        revisions=tuple(sorted(revisions, key=lambda r: (r.role, r.number, r.revision))),
        workloads=tuple(sorted(workloads, key=lambda w: w.ref)),
        services=tuple(sorted(services, key=lambda s: s.ref)),
        protections=tuple(sorted(protections, key=lambda p: p.ref)),
        claims=tuple(sorted(claims, key=lambda c: c.ref)),
        pods=tuple(sorted(pods, key=lambda p: p.ref)),
        gate=_gate(gate),
    )


def pod_of(manifest: Manifest, *, mishap: str = "") -> PodFacts | None:
    """A pod, by its labels; None when they name no role and revision.

    Its controller is a ReplicaSet, which is nobody's child here, so its ownerReference says nothing. The labels are
    enough: they are in the selector of our Deployment, whose ReplicaSets adopt every pod that carries them, and who
    may label a pod so may also make one. All that is ever written to such a pod is its deletion cost.
    """
    if not _is_labelled(manifest):
        return None
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = _conditions(status)
    scheduled, is_over = conditions.get("PodScheduled", {}), status.get("phase") in {"Failed", "Succeeded"}
    is_unschedulable = (scheduled.get("status"), scheduled.get("reason")) == ("False", "Unschedulable") and not is_over
    ready = conditions.get("Ready", {})
    is_ready = ready.get("status") == "True" and not is_over
    return PodFacts(
        ref=Ref.of(manifest),
        uid=metadata.get("uid", ""),
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        revision=_labels(manifest)[names.LABEL_REVISION],
        address=status.get("podIP", ""),
        is_ready=is_ready,
        is_going="deletionTimestamp" in metadata,
        created=_time(metadata.get("creationTimestamp")),
        unschedulable=one_line(scheduled.get("message", "")) if is_unschedulable else "",
        unschedulable_since=_time(scheduled.get("lastTransitionTime")) if is_unschedulable else None,
        trouble=trouble_of(manifest, mishap=mishap),
        is_over=is_over,
        node=(manifest.get("spec") or {}).get("nodeName", ""),
        ready_since=_time(ready.get("lastTransitionTime")) if is_ready else None,
        deletion_cost=_deletion_cost(metadata),
    )


def _deletion_cost(metadata: Mapping[str, Any]) -> int:
    """As a ReplicaSet reads it: what is no number is 0."""
    try:
        return int((metadata.get("annotations") or {})[names.ANNOTATION_DELETION_COST])
    except (KeyError, ValueError):
        return 0


def _conditions(status: Manifest) -> dict[str, Manifest]:
    """Of a pod, by type."""
    return {condition["type"]: condition for condition in status.get("conditions") or []}


def _time(written: str | None) -> datetime:
    """A time as Kubernetes writes it; one that is not there is long ago."""
    return datetime.fromisoformat(written) if written else datetime.fromtimestamp(0, UTC)


def _is_labelled(manifest: Manifest) -> bool:
    """Whether role and revision can be believed: what is named after them must be named as its labels say."""
    labels = _labels(manifest)
    role, revision = labels.get(names.LABEL_ROLE), labels.get(names.LABEL_REVISION)
    if role not in set(Role) or not revision:
        return False
    is_named_after = manifest["kind"] in {"Deployment", "ControllerRevision"}
    return not is_named_after or str(manifest["metadata"]["name"]).endswith(f"-{role}-{revision}")


def _labels(manifest: Manifest) -> dict[str, str]:
    return manifest["metadata"].get("labels") or {}


def _revision(manifest: Manifest) -> RevisionFacts:
    data, annotations = manifest.get("data") or {}, manifest["metadata"].get("annotations") or {}
    return RevisionFacts(
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        revision=_labels(manifest)[names.LABEL_REVISION],
        number=manifest.get("revision", 0),
        requested=data.get("requested") or {},
        resolved=data.get("resolved") or {},
        template=data.get("template") or {},
        claim=data.get("claim") or {},
        uid=manifest["metadata"].get("uid", ""),
        failed=annotations.get(names.ANNOTATION_FAILED, ""),
        refreshed=annotations.get(names.ANNOTATION_REFRESHED, ""),
        wordings=_wordings(annotations.get(names.ANNOTATION_WORDINGS, "[]")),
    )


def _claim(manifest: Manifest) -> ClaimFacts:
    return ClaimFacts(
        ref=Ref.of(manifest),
        uid=manifest["metadata"].get("uid", ""),
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        revision=_labels(manifest)[names.LABEL_REVISION],
    )


def _wordings(written: str) -> tuple[Manifest, ...]:
    """What anybody may have written there by hand; what is none is no wording."""
    try:
        found = json.loads(written)
    except ValueError:
        return ()
    return tuple(item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def _draining_since(metadata: Mapping[str, Any]) -> datetime | None:
    try:
        written = datetime.fromisoformat((metadata.get("annotations") or {})[names.ANNOTATION_DRAINING])
    except (KeyError, ValueError):
        return None
    return written if written.tzinfo else None


def _workload(manifest: Manifest) -> WorkloadFacts:
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    conditions = status.get("conditions") or []
    told = {(condition.get("type"), condition.get("status")): condition.get("message", "") for condition in conditions}
    writer: Manifest = max(metadata.get("managedFields") or [{}], key=lambda entry: entry.get("time", ""))
    return WorkloadFacts(
        ref=Ref.of(manifest),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        revision=_labels(manifest)[names.LABEL_REVISION],
        wanted=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        is_observed=status.get("observedGeneration", 0) >= metadata.get("generation", 1),
        is_going="deletionTimestamp" in metadata,
        message=steady(told.get(("Progressing", "False"), "")),
        cannot_create=steady(told.get(("ReplicaFailure", "True"), "")),
        is_past_deadline=any(c.get("reason") == "ProgressDeadlineExceeded" for c in conditions),
        draining_since=_draining_since(metadata),
        scaled_by=writer.get("manager", ""),
        scaled_at=_time(writer["time"]) if writer.get("time") else None,
    )


def _protections(manifest: Manifest) -> list[ProtectionFacts]:
    """The object, unless somebody overwrote the label of its role: then the plan restores it by its name."""
    role = _labels(manifest).get(names.LABEL_ROLE)
    if role not in set(Role):
        return []
    return [ProtectionFacts(Ref.of(manifest), manifest["metadata"].get("uid", ""), Role(role))]


def _service(manifest: Manifest) -> ServiceFacts:
    selector, metadata = (manifest.get("spec") or {}).get("selector") or {}, manifest["metadata"]
    is_rolling = names.ANNOTATION_ROLLING in (metadata.get("annotations") or {})
    is_at_gate = selector.get(names.LABEL_COMPONENT) == names.GATE
    leaving = _labels(manifest)[names.LABEL_REVISION] if is_rolling or is_at_gate else ""
    return ServiceFacts(
        ref=Ref.of(manifest),
        resource_version=metadata.get("resourceVersion", ""),
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        selected_revision=leaving or selector.get(names.LABEL_REVISION, ""),
        is_rolling=is_rolling,
        is_at_gate=is_at_gate,
    )


def _gate(parts: list[Manifest]) -> GateFacts:
    owned = [part for part in parts if part["kind"] != "Pod"]
    workload = next((part for part in owned if part["kind"] == "Deployment"), None)
    ready = {}
    for pod in (part for part in parts if part["kind"] == "Pod"):
        status = pod.get("status") or {}
        is_ready = _conditions(status).get("Ready", {}).get("status") == "True"
        if is_ready and status.get("podIP") and owned:
            ready[pod["metadata"]["name"]] = status["podIP"]
    counted = (workload or {}).get("status") or {}
    return GateFacts(
        objects={Ref.of(part): part["metadata"].get("uid", "") for part in owned},
        is_ready=bool(counted.get("readyReplicas")) and "deletionTimestamp" not in (workload or {})["metadata"],
        addresses=ready,
        left_since=_draining_since(workload["metadata"]) if workload else None,
    )
