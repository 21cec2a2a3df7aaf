"""What was observed, as frozen values. Pure: parses raw objects, decides nothing.

A missing field of a raw object means what the API server means by its absence (a counter that is not there is 0).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.causes import steady, trouble_of
from tandem_operator.masking import one_line
from tandem_operator.model_files import ModelFiles

Manifest = dict[str, Any]


@dataclass(frozen=True, order=True)
class Ref:
    """Identity of an object within its namespace."""

    kind: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> Ref:
        return cls(kind=manifest["kind"], name=manifest["metadata"]["name"])


@dataclass(frozen=True)
class RevisionFacts:
    """A frozen revision of a role: its ControllerRevision."""

    role: Role
    revision: str
    number: int
    requested: Manifest
    resolved: Manifest
    template: Manifest
    uid: str = ""
    """Of the object that holds it; empty for a revision that is only about to be made."""
    failed: str = ""
    """Why its rollout failed; empty when it did not."""
    refreshed: str = ""
    """The last `tandem refresh` after which this revision was still, or became, what the spec asks for."""
    claim: Manifest = field(default_factory=dict)
    """Spec of the ResourceClaim that each pod gets; empty where pods ask for an extended resource."""
    wordings: tuple[Manifest, ...] = ()
    """Other requests that have asked for these very pods, such as one with a default written out."""

    @property
    def uses_draft_tls(self) -> bool:
        """Whether its pods talk over TLS to those of the other role, and tokens are shown and checked."""
        return bool(self.resolved.get("draft_tls"))


@dataclass(frozen=True)
class WorkloadFacts:
    """The Deployment of one revision of a role. `wanted` is what the object itself asks for."""

    ref: Ref
    uid: str
    resource_version: str
    role: Role
    revision: str
    wanted: int
    replicas: int
    ready: int
    is_observed: bool
    is_going: bool
    """It is being deleted; its pods are about to go."""
    message: str = ""
    """What its controller says of a rollout that makes no progress."""
    cannot_create: str = ""
    """Why the pods that it lacks may not even be made: a quota, PodSecurity, a webhook."""
    is_past_deadline: bool = False
    """Its pods have made no progress for as long as the rollout allows."""
    draining_since: datetime | None = None
    """Since when its pods get no new requests; None while they do."""
    scaled_by: str = ""
    """Who else has written how many it wants, if anybody has."""
    scaled_at: datetime | None = None
    """When they did, where the API server has noted it."""

    @property
    def is_ready(self) -> bool:
        """All wanted pods are Ready and stay, and the counters speak of the present spec."""
        return self.is_observed and not self.is_going and self.ready >= self.wanted


@dataclass(frozen=True)
class PodFacts:
    """A pod of one revision of a role."""

    ref: Ref
    uid: str
    role: Role
    revision: str
    address: str
    """IP, empty until it has one."""
    is_ready: bool
    is_going: bool
    created: datetime
    unschedulable: str = ""
    """The scheduler's message while it finds no node."""
    unschedulable_since: datetime | None = None
    trouble: str = ""
    """What keeps it from being Ready, in one line; empty when nothing is known."""
    is_over: bool = False
    """It has ended for good (evicted, preempted, its node lost) and is only remembered; another takes its place."""
    node: str = ""
    """Empty until the scheduler has found one."""
    ready_since: datetime | None = None
    """None while it is not Ready."""


@dataclass(frozen=True)
class ServiceFacts:
    """A Service of ours and the role's revision that it selects."""

    ref: Ref
    resource_version: str
    role: Role
    selected_revision: str
    """While it is rolling: the revision that it is leaving."""
    is_rolling: bool = False
    """It selects the pods of every revision."""


@dataclass(frozen=True)
class ClaimFacts:
    """The ResourceClaimTemplate of a revision whose pods claim their accelerators."""

    ref: Ref
    uid: str
    role: Role
    revision: str


PROTECTION_KINDS = ("ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap")


@dataclass(frozen=True)
class ProtectionFacts:
    """An object of a role that stands around its pods: one of PROTECTION_KINDS."""

    ref: Ref
    uid: str
    role: Role


@dataclass(frozen=True)
class IssuerKeys:
    """Who signs ServiceAccount tokens, and the public keys that check them, as the API server publishes both."""

    issuer: str = ""
    """Empty: not known yet."""
    jwks: str = ""
    """As JSON."""
    problem: str = ""
    """Why they could not be read the last time."""


@dataclass(frozen=True)
class ArtifactFacts:
    """The ModelArtifact of a role's model, which others may share."""

    name: str
    model: ModelFacts | None
    """What is to be served; None until that is known."""
    reason: names.Reason | Cause
    message: str
    """The model in a line, or how far it is, or why it cannot be known."""
    files: ModelFiles | None = None
    """Where pods find what is to be served; None until it is there, and may be served."""
    is_stuck: bool = False
    """Whether somebody has to do something before it gets further."""
    smoked: frozenset[str] | None = None
    """Targets on which it has answered; None for a model that is not asked."""
    job: str = ""
    """The Job that `telling` speaks of."""
    telling: str = ""
    """What the artifact itself says, whatever it is worth to this deployment."""


@dataclass(frozen=True)
class Facts:
    """Everything that was seen of one deployment's children, and of the models that it serves."""

    revisions: tuple[RevisionFacts, ...] = ()
    workloads: tuple[WorkloadFacts, ...] = ()
    services: tuple[ServiceFacts, ...] = ()
    protections: tuple[ProtectionFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    artifacts: Mapping[Role, ArtifactFacts] = field(default_factory=dict)
    """Of the roles that the spec uses."""
    models: Mapping[Role, ModelFacts] = field(default_factory=dict)
    """What the inspection of each role's model found; a role without an entry is not inspected."""
    issuer_keys: IssuerKeys = IssuerKeys()
    """Read only where draft pods check tokens."""

    def revisions_of(self, role: Role) -> tuple[RevisionFacts, ...]:
        """Newest first."""
        mine = [revision for revision in self.revisions if revision.role is role]
        return tuple(sorted(mine, key=lambda revision: (revision.number, revision.revision), reverse=True))

    def revision(self, role: Role, revision: str) -> RevisionFacts | None:
        return next((r for r in self.revisions if r.role is role and r.revision == revision), None)

    def workload(self, role: Role, revision: str) -> WorkloadFacts | None:
        return next((w for w in self.workloads if w.role is role and w.revision == revision), None)

    def workloads_of(self, role: Role) -> tuple[WorkloadFacts, ...]:
        return tuple(sorted((w for w in self.workloads if w.role is role), key=lambda w: w.revision))

    def pods_of(self, role: Role, revision: str) -> tuple[PodFacts, ...]:
        return tuple(pod for pod in self.pods if pod.role is role and pod.revision == revision)

    def service(self, name: str) -> ServiceFacts | None:
        return next((s for s in self.services if s.ref.name == name), None)


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
    for child in children:
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
    )


def pod_of(manifest: Manifest, *, mishap: str = "") -> PodFacts | None:
    """A pod, by its labels; None when they name no role and revision.

    Its controller is a ReplicaSet, which is nobody's child here, so its ownerReference says nothing. The labels are
    enough: they are in the selector of our Deployment, whose ReplicaSets adopt every pod that carries them, and who
    may label a pod so may also make one. Nothing is written to a pod by what is read here.
    """
    if not _is_labelled(manifest):
        return None
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
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
    )


def _time(written: str | None) -> datetime:
    """A time as Kubernetes writes it; one that is not there is long ago."""
    return datetime.fromisoformat(written) if written else datetime.fromtimestamp(0, UTC)


def controller_uid(manifest: Mapping[str, Any]) -> str:
    """The uid of the object's controller; empty when it has none."""
    owners = manifest["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


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
    leaving = _labels(manifest)[names.LABEL_REVISION] if is_rolling else ""
    return ServiceFacts(
        ref=Ref.of(manifest),
        resource_version=metadata.get("resourceVersion", ""),
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        selected_revision=leaving or selector.get(names.LABEL_REVISION, ""),
        is_rolling=is_rolling,
    )
