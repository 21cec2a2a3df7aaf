"""What was observed, as frozen values. Pure: `facts_parsing.py` reads them out of raw objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
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
    deletion_cost: int = 0
    """The higher, the later it goes where its Deployment is to have fewer pods."""


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
    is_at_gate: bool = False
    """It selects the wake gate's pod instead of those of the revision."""


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
class GateFacts:
    """The wake gate of a deployment: its Deployment, and what stands around it."""

    objects: Mapping[Ref, str] = field(default_factory=dict)
    """Uids of all that belong to it."""
    is_ready: bool = False
    """It takes requests."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of its pods that take requests, by their names. One that is evicted takes them until there is another."""
    left_since: datetime | None = None
    """Since when it gets no new requests, and finishes those that it has."""


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
    gate: GateFacts = GateFacts()
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


def controller_uid(manifest: Mapping[str, Any]) -> str:
    """The uid of the object's controller; empty when it has none."""
    owners = manifest["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")
