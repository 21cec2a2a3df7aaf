"""What to do now: `plan(owner, facts, wants)` -> what to apply, what to delete, what is waited for, and why. Pure.

There are no phases. The plan holds everything that is allowed now; each thing that is not is a wait, and ends up in a
condition. A rollout is therefore three plans in a row, each made from what is there: the target's Deployment beside the
serving one; the Service moved once the target is Ready; the old Deployment deleted once nothing selects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Facts, Manifest, Ref, RevisionFacts, WorkloadFacts
from tandem_operator.names import ConditionType, Reason
from tandem_operator.objects.revision import revision_object_of
from tandem_operator.objects.service import draft_service_of, serving_service_of
from tandem_operator.objects.workload import workload_of

REVISION_HISTORY_LIMIT = 10


@dataclass(frozen=True)
class Want:
    """What the spec asks of a role. A role without a want keeps what it has (the spec is invalid or does without)."""

    target: RevisionFacts
    replicas: int


@dataclass(frozen=True)
class Apply:
    """An object to apply. With a resource version, only if that is still the newest: a stale read moves nothing."""

    manifest: Manifest
    resource_version: str = ""


@dataclass(frozen=True)
class Deletion:
    """An object to delete, if it is still the one that was seen."""

    ref: Ref
    uid: str
    resource_version: str


@dataclass(frozen=True)
class Wait:
    """Something that the plan does not hold yet, and why; ends up in a condition."""

    condition: ConditionType
    reason: Reason
    message: str


@dataclass(frozen=True)
class RolePlan:
    """Where a role stands: the revision that serves, the one that is asked for, and the replicas of it."""

    serving: str
    target: str
    wanted: int

    @property
    def is_rolled_out(self) -> bool:
        return self.serving == self.target


@dataclass(frozen=True)
class Plan:
    """All of it, as a value."""

    apply: tuple[Apply, ...] = ()
    delete: tuple[Deletion, ...] = ()
    waits: tuple[Wait, ...] = ()
    details: tuple[str, ...] = ()
    roles: Mapping[Role, RolePlan] = field(default_factory=dict)


def plan(
    owner: Owner, facts: Facts, wants: Mapping[Role, Want], *, asked_replicas: Mapping[Role, int] | None = None
) -> Plan:
    """The plan for one deployment. The same facts in any order give the same plan; a converged one repeats itself.

    `asked_replicas` counts for a role without a want: a spec that is refused for something else still scales.
    """
    planner = _Planner(owner, facts, wants, asked_replicas=asked_replicas or {})
    planner.plan_verifiers()
    planner.plan_drafts()
    planner.prune_revisions()
    return planner.result()


class _Planner:
    """A plan while it is being written down. Lives for one call of `plan`."""

    def __init__(
        self, owner: Owner, facts: Facts, wants: Mapping[Role, Want], *, asked_replicas: Mapping[Role, int]
    ) -> None:
        self.owner, self.facts, self.wants = owner, facts, wants
        self.asked_replicas = asked_replicas
        self.applies: list[Apply] = []
        self.deletions: list[Deletion] = []
        self.waits: list[Wait] = []
        self.details: list[str] = []
        self.roles: dict[Role, RolePlan] = {}
        self.kept: dict[Role, tuple[str, ...]] = {Role.VERIFIER: (), Role.DRAFT: ()}

    def result(self) -> Plan:
        conflicts = set(self.facts.foreign)
        applies = [apply for apply in self.applies if Ref.of(apply.manifest) not in conflicts]
        for apply in self.applies:
            ref = Ref.of(apply.manifest)
            if ref in conflicts:
                message = f"{ref.kind} {ref.name} exists and belongs to another controller; it is left alone"
                self.waits.append(Wait(ConditionType.ACCEPTED, Reason.NAME_CONFLICT, message))
        return Plan(tuple(applies), tuple(self.deletions), tuple(self.waits), tuple(self.details), self.roles)

    # -- verifiers -----------------------------------------------------------------------------------------------

    def plan_verifiers(self) -> None:
        want = self.wants.get(Role.VERIFIER)
        service = self.facts.service(names.serving_service_name(self.owner.name))
        selected = service.selected_revision if service else ""
        serving = self._serving(selected, want)
        target = want.target.revision if want else serving
        if not target:
            return
        self._keep_workloads(Role.VERIFIER, _distinct(serving, target))
        chosen = serving or target
        if serving and serving != target and self._is_switch_due(want, serving):
            self.details.append(f"verifier revision {target} is Ready: the Service moves to it from {serving}")
            chosen = target
        version = service.resource_version if service and chosen != selected else ""
        self.applies.append(Apply(serving_service_of(self.owner, chosen), version))
        self.roles[Role.VERIFIER] = RolePlan(serving or target, target, self._replicas(Role.VERIFIER, target))

    def _serving(self, selected: str, want: Want | None) -> str:
        """The revision that serves: the one that the Service selects, if it is one that there is.

        Somebody may have deleted the Service, or changed its selector to nothing: then it is the revision with most
        Ready pods, so that a running one is never taken for superfluous. Empty when there is no verifier at all.
        """
        target = want.target.revision if want else ""
        if selected and (selected == target or self.facts.workload(Role.VERIFIER, selected)):
            return selected
        numbers = {revision.revision: revision.number for revision in self.facts.revisions_of(Role.VERIFIER)}
        running = self.facts.workloads_of(Role.VERIFIER)
        best = max(running, key=lambda w: (w.ready, numbers.get(w.revision, 0), w.revision), default=None)
        if best is None and self.facts.revisions_of(Role.VERIFIER):
            return target or self.facts.revisions_of(Role.VERIFIER)[0].revision
        return best.revision if best else ""

    def _is_switch_due(self, want: Want | None, serving: str) -> bool:
        """Whether the target may serve: all of it is Ready, or some of it while nothing of the old one is."""
        if want is None:
            return False
        workload = self.facts.workload(Role.VERIFIER, want.target.revision)
        old = self.facts.workload(Role.VERIFIER, serving)
        if workload and workload.is_ready and workload.wanted == want.replicas:
            return True
        if workload and workload.ready > 0 and not workload.is_going and (old is None or old.ready == 0):
            return True
        ready = workload.ready if workload else 0
        message = f"revision {want.target.revision}: {ready} of {want.replicas} pods are Ready; the old one serves"
        self.waits.append(Wait(ConditionType.VERIFIER_READY, Reason.ROLLING_OUT, message))
        return False

    # -- drafts --------------------------------------------------------------------------------------------------

    def plan_drafts(self) -> None:
        want = self.wants.get(Role.DRAFT)
        needed: set[str] = set()
        serving = ""
        services = set()
        for verifier in self.kept[Role.VERIFIER]:
            name = names.draft_service_name(self.owner.name, verifier)
            service = self.facts.service(name)
            if not self._is_remote(verifier, is_served=service is not None):
                continue
            services.add(name)
            selected = service.selected_revision if service else ""
            chosen = self._chosen_draft(selected, want)
            if not chosen:
                continue
            version = service.resource_version if service and selected != chosen else ""
            manifest = draft_service_of(self.owner, verifier_revision=verifier, draft_revision=chosen)
            self.applies.append(Apply(manifest, version))
            needed |= {revision for revision in (selected, chosen) if revision}
            if want:
                needed.add(want.target.revision)
            serving = selected or chosen
        self._keep_workloads(Role.DRAFT, tuple(sorted(needed)))
        for seen in self.facts.services:
            if seen.role is Role.DRAFT and seen.ref.name not in services:
                self.details.append(f"{seen.ref.name} is deleted: its verifier revision is gone or drafts for itself")
                self.deletions.append(Deletion(seen.ref, "", seen.resource_version))
        if needed:
            target = want.target.revision if want else serving
            self.roles[Role.DRAFT] = RolePlan(serving, target, self._replicas(Role.DRAFT, target))

    def _chosen_draft(self, selected: str, want: Want | None) -> str:
        """The draft revision that a verifier revision's Service should select now; empty when there is none."""
        if want is None or want.target.revision == selected:
            return selected
        target = want.target.revision
        workload = self.facts.workload(Role.DRAFT, target)
        if not selected or (workload and workload.is_ready and workload.wanted == want.replicas):
            if selected:
                self.details.append(f"draft revision {target} is Ready: verifiers move to it from {selected}")
            return target
        ready = workload.ready if workload else 0
        message = f"revision {target}: {ready} of {want.replicas} pods are Ready; the old one drafts"
        wait = Wait(ConditionType.DRAFT_READY, Reason.ROLLING_OUT, message)
        if wait not in self.waits:
            self.waits.append(wait)
        return selected

    def _is_remote(self, verifier_revision: str, *, is_served: bool) -> bool:
        """Whether a verifier revision asks draft pods. Where its ControllerRevision is lost: if it has done so."""
        frozen = self._frozen(Role.VERIFIER, verifier_revision)
        return is_served if frozen is None else frozen.resolved.get("speculation") == Speculation.REMOTE

    # -- both roles ----------------------------------------------------------------------------------------------

    def _keep_workloads(self, role: Role, revisions: tuple[str, ...]) -> None:
        """Apply the Deployments of `revisions`, delete those of every other revision of the role."""
        self.kept[role] = revisions
        for revision in revisions:
            frozen = self._frozen(role, revision)
            if frozen is None:
                continue  # its ControllerRevision is lost: the Deployment is left as it is until it is replaced
            if self.facts.revision(role, revision) is None:
                self.details.append(f"{role} revision {revision} is new: its template is frozen")
                self.applies.append(Apply(revision_object_of(self.owner, frozen)))
            replicas = self._replicas(role, revision)
            self.applies.append(Apply(workload_of(self.owner, frozen, replicas=replicas)))
        for workload in self.facts.workloads_of(role):
            if workload.revision not in revisions and not workload.is_going:
                self.details.append(f"{workload.ref.name} is deleted: nothing selects its pods any more")
                self.deletions.append(Deletion(workload.ref, workload.uid, workload.resource_version))

    def _frozen(self, role: Role, revision: str) -> RevisionFacts | None:
        want = self.wants.get(role)
        if want and want.target.revision == revision:
            return want.target
        return self.facts.revision(role, revision)

    def _replicas(self, role: Role, revision: str) -> int:
        """Wanted replicas of a revision. One that is on its way out gets no more than it has."""
        want = self.wants.get(role)
        workload: WorkloadFacts | None = self.facts.workload(role, revision)
        if want is None:
            return self.asked_replicas.get(role, workload.wanted if workload else 1)
        if revision != want.target.revision and workload:
            return min(workload.wanted, want.replicas)
        return want.replicas

    def prune_revisions(self) -> None:
        """Delete ControllerRevisions past the history limit, never one in use."""
        for role in Role:
            unused = [r for r in self.facts.revisions_of(role) if r.revision not in self.kept[role]]
            for old in unused[REVISION_HISTORY_LIMIT:]:
                name = names.role_child_name(self.owner.name, role, revision=old.revision)
                self.deletions.append(Deletion(Ref("ControllerRevision", name), old.uid, ""))


def _distinct(*revisions: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(revision for revision in revisions if revision))
