"""What was observed, as frozen values. Pure: parses raw objects, decides nothing.

A missing field of a raw object means what the API server means by its absence (a counter that is not there is 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names

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
    message: str

    @property
    def is_ready(self) -> bool:
        """All wanted pods are Ready and stay, and the counters speak of the present spec."""
        return self.is_observed and not self.is_going and self.ready >= self.wanted


@dataclass(frozen=True)
class ServiceFacts:
    """A Service of ours and the role's revision that it selects."""

    ref: Ref
    resource_version: str
    role: Role
    selected_revision: str


@dataclass(frozen=True)
class Facts:
    """Everything that was seen of one deployment's children."""

    revisions: tuple[RevisionFacts, ...] = ()
    workloads: tuple[WorkloadFacts, ...] = ()
    services: tuple[ServiceFacts, ...] = ()
    foreign: tuple[Ref, ...] = ()
    """Objects that carry our labels or names but belong to another controller."""

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

    def service(self, name: str) -> ServiceFacts | None:
        return next((s for s in self.services if s.ref.name == name), None)


def facts_of(children: Iterable[Manifest], *, owner_uid: str) -> Facts:
    """Parse what the store holds for one deployment. The order of `children` does not matter."""
    revisions: list[RevisionFacts] = []
    workloads: list[WorkloadFacts] = []
    services: list[ServiceFacts] = []
    foreign: list[Ref] = []
    for child in children:
        if controller_uid(child) != owner_uid:
            foreign.append(Ref.of(child))
            continue
        if not _is_labelled(child):
            continue  # somebody overwrote our labels; the plan applies the object again, which restores them
        if child["kind"] == "ControllerRevision":
            revisions.append(_revision(child))
        elif child["kind"] == "Deployment":
            workloads.append(_workload(child))
        elif child["kind"] == "Service":
            services.append(_service(child))
    return Facts(
        revisions=tuple(sorted(revisions, key=lambda r: (r.role, r.number, r.revision))),
        workloads=tuple(sorted(workloads, key=lambda w: w.ref)),
        services=tuple(sorted(services, key=lambda s: s.ref)),
        foreign=tuple(sorted(foreign)),
    )


def controller_uid(manifest: Mapping[str, Any]) -> str:
    """The uid of the object's controller; empty when it has none."""
    owners = manifest["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def _is_labelled(manifest: Manifest) -> bool:
    labels = _labels(manifest)
    return labels.get(names.LABEL_ROLE) in set(Role) and bool(labels.get(names.LABEL_REVISION))


def _labels(manifest: Manifest) -> dict[str, str]:
    return manifest["metadata"].get("labels") or {}


def _revision(manifest: Manifest) -> RevisionFacts:
    data = manifest.get("data") or {}
    return RevisionFacts(
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        revision=_labels(manifest)[names.LABEL_REVISION],
        number=manifest.get("revision", 0),
        requested=data.get("requested") or {},
        resolved=data.get("resolved") or {},
        template=data.get("template") or {},
        uid=manifest["metadata"].get("uid", ""),
    )


def _workload(manifest: Manifest) -> WorkloadFacts:
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    failing = [
        condition.get("message", "")
        for condition in status.get("conditions") or []
        if (condition.get("type"), condition.get("status")) in {("ReplicaFailure", "True"), ("Progressing", "False")}
    ]
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
        message=" ".join(failing),
    )


def _service(manifest: Manifest) -> ServiceFacts:
    selector = (manifest.get("spec") or {}).get("selector") or {}
    return ServiceFacts(
        ref=Ref.of(manifest),
        resource_version=manifest["metadata"].get("resourceVersion", ""),
        role=Role(_labels(manifest)[names.LABEL_ROLE]),
        selected_revision=selector.get(names.LABEL_REVISION, ""),
    )
