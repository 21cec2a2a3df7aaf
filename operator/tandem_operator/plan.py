"""What to do now: `plan(owner, facts, wants)` -> what to apply, what to delete, what is waited for, and why. Pure.

There are no phases. The plan holds everything that is allowed now; each thing that is not is a wait, and ends up in a
condition. A rollout is therefore several plans in a row, each made from what is there; `rollout.py` decides how far one
may go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.deletion_costs import DeletionCost, Load, deletion_costs_of
from tandem_operator.facts import Facts, Manifest, Ref, RevisionFacts
from tandem_operator.gate_plan import NO_GATE, Gatekeeping, Rest, gate_objects_of, rest_of, superfluous_gate
from tandem_operator.objects.devices import claim_template_of
from tandem_operator.objects.revision import revision_object_of
from tandem_operator.objects.service import draft_service_of, serving_service_of
from tandem_operator.objects.workload import workload_of
from tandem_operator.protection_plan import ANYBODY, Served, Terms, plan_protection
from tandem_operator.rollout import Clock, Step, Wait, Want, draft_step, verifier_step

REVISION_HISTORY_LIMIT = 10


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
class RolePlan:
    """Where a role stands: the revision that serves, the one that is asked for, and the replicas of it."""

    serving: str
    target: str
    wanted: int
    counted: tuple[str, ...] = ()
    """The revisions whose pods serve now: the serving one, or all of them while a rollout is rolling."""
    outdated_by: str = ""
    """The revision that the request would resolve to today, if that is another one than the target."""

    @property
    def is_rolled_out(self) -> bool:
        return self.serving == self.target and len(self.counted) < 2


@dataclass(frozen=True)
class Plan:
    """All of it, as a value."""

    apply: tuple[Apply, ...] = ()
    delete: tuple[Deletion, ...] = ()
    costs: tuple[DeletionCost, ...] = ()
    """Marks of pods that come first: they say which ones go where a Deployment is to have fewer."""
    waits: tuple[Wait, ...] = ()
    details: tuple[str, ...] = ()
    roles: Mapping[Role, RolePlan] = field(default_factory=dict)
    due_seconds: float = 0.0
    """When something falls due by time alone; 0: nothing does."""
    is_at_gate: bool = False
    """Requests go to the wake gate."""


def plan(
    owner: Owner,
    facts: Facts,
    wants: Mapping[Role, Want],
    *,
    clock: Clock,
    asked_replicas: Mapping[Role, int] | None = None,
    idle: frozenset[str] = frozenset(),
    terms: Terms = ANYBODY,
    waits: tuple[Wait, ...] = (),
    keeping: Gatekeeping = NO_GATE,
    loads: Mapping[str, Load] = MappingProxyType({}),
) -> Plan:
    """The plan for one deployment. The same facts in any order give the same plan; a converged one repeats itself.

    `asked_replicas` counts for a role without a want: a spec that is refused for something else still scales.
    `idle`: draining verifier revisions without a request. `terms`: who may talk to the pods.
    `waits`: what roles without a want wait for. `keeping`: of the wake gate, where the spec lets it come to zero.
    `loads`: what pods have to do, by their names, as far as it is known.
    """
    planner = _Planner(owner, facts, wants, clock=clock, asked_replicas=asked_replicas or {}, loads=loads)
    planner.waits += waits
    planner.plan_rest(keeping, idle)
    planner.plan_verifiers(idle)
    planner.plan_drafts()
    planner.protect(terms, keeping)
    planner.keep_revisions()
    return planner.result()


def checks_tokens(facts: Facts, wants: Mapping[Role, Want]) -> bool:
    """Whether draft pods that there are, or that are wanted, need the keys that check tokens."""
    want = wants.get(Role.DRAFT)
    frozen = [facts.revision(Role.DRAFT, workload.revision) for workload in facts.workloads_of(Role.DRAFT)]
    frozen += [want.target if want else None]
    return any(revision is not None and revision.uses_draft_tls for revision in frozen)


class _Planner:
    """A plan while it is being written down. Lives for one call of `plan`."""

    def __init__(
        self,
        owner: Owner,
        facts: Facts,
        wants: Mapping[Role, Want],
        *,
        clock: Clock,
        asked_replicas: Mapping[Role, int],
        loads: Mapping[str, Load],
    ) -> None:
        self.owner, self.facts, self.wants = owner, facts, dict(wants)
        self.clock, self.asked_replicas, self.loads = clock, dict(asked_replicas), loads
        self.service = facts.service(names.serving_service_name(owner.name))
        self.rest = Rest.as_it_is(facts, self.service)
        self.applies: list[Apply] = []
        self.deletions: list[Deletion] = []
        self.costs: list[DeletionCost] = []
        self.roles: dict[Role, RolePlan] = {}
        self.steps: dict[Role, Step] = {}
        self.waits: list[Wait] = []
        self.details: list[str] = []

    def result(self) -> Plan:
        waits = self.waits + [wait for step in self.steps.values() for wait in step.waits]
        due = min((step.due_seconds for step in self.steps.values() if step.due_seconds), default=0.0)
        details = [detail for step in self.steps.values() for detail in step.details] + self.details
        return Plan(
            tuple(self.applies),
            tuple(self.deletions),
            tuple(self.costs),
            tuple(waits),
            tuple(details),
            self.roles,
            due,
            is_at_gate=self.rest.is_at_gate,
        )

    # -- zero ----------------------------------------------------------------------------------------------------

    def plan_rest(self, keeping: Gatekeeping, idle: frozenset[str]) -> None:
        """On the way to zero some verifiers stay for a while: the rest of the plan is made for those."""
        want, asked = self.wants.get(Role.VERIFIER), self.asked_replicas.get(Role.VERIFIER)
        wanted = want.replicas if want else asked
        if wanted is None:
            return
        self.rest = rest_of(self.facts, self.service, wanted=wanted, keeping=keeping, idle=idle, clock=self.clock)
        self.asked_replicas[Role.VERIFIER] = self.rest.replicas
        if want:
            self.wants[Role.VERIFIER] = replace(want, replicas=self.rest.replicas)
        self.details += self.rest.details

    # -- verifiers -----------------------------------------------------------------------------------------------

    def plan_verifiers(self, idle: frozenset[str]) -> None:
        service, rest = self.service, self.rest
        want, asked = self.wants.get(Role.VERIFIER), self.asked_replicas.get(Role.VERIFIER)
        step = verifier_step(self.facts, service, want, asked_replicas=asked, idle=idle, clock=self.clock)
        if step is None:
            return
        if rest.draining_since:
            step.draining[step.serving] = rest.draining_since
        if rest.due_seconds:
            step.falls_due(rest.due_seconds)
        self._carry_out(Role.VERIFIER, step)
        manifest = serving_service_of(self.owner, step.serving, is_rolling=step.is_rolling, is_at_gate=rest.is_at_gate)
        is_move = service is not None and (
            (step.serving, step.is_rolling, rest.is_at_gate)
            != (service.selected_revision, service.is_rolling, service.is_at_gate)
        )
        self.applies.append(Apply(manifest, service.resource_version if service and is_move else ""))

    # -- drafts --------------------------------------------------------------------------------------------------

    def plan_drafts(self) -> None:
        """Drafts for every verifier revision that asks draft pods, at a Service of its own."""
        verifiers = self.steps[Role.VERIFIER].replicas if Role.VERIFIER in self.steps else {}
        asking = {}
        for verifier in verifiers:
            name = names.draft_service_name(self.owner.name, verifier)
            service = self.facts.service(name)
            if self._is_remote(verifier, is_served=service is not None):
                asking[name] = (verifier, service)
        selected = frozenset(s.selected_revision for _, s in asking.values() if s and s.selected_revision)
        if asking and (selected or Role.DRAFT in self.wants):
            asked = self.asked_replicas.get(Role.DRAFT)
            step = draft_step(self.facts, selected, self.wants.get(Role.DRAFT), asked_replicas=asked, clock=self.clock)
            self._carry_out(Role.DRAFT, step)
            for verifier, service in asking.values():
                before = service.selected_revision if service else ""
                chosen = self._chosen_draft(step, before)
                if not chosen:
                    continue
                manifest = draft_service_of(self.owner, verifier_revision=verifier, draft_revision=chosen)
                version = service.resource_version if service and before != chosen else ""
                self.applies.append(Apply(manifest, version))
        else:
            self._carry_out(Role.DRAFT, Step("", ""))
        for seen in self.facts.services:
            if seen.role is Role.DRAFT and seen.ref.name not in asking:
                self.details.append(f"{seen.ref.name} is deleted: its verifier revision is gone or drafts for itself")
                self.deletions.append(Deletion(seen.ref, "", seen.resource_version))

    def _chosen_draft(self, step: Step, before: str) -> str:
        """The draft revision that a verifier revision's Service should select; empty when there is none.

        One that is made now goes with the new drafts: its verifiers are only starting too.
        """
        want = self.wants.get(Role.DRAFT)
        if want is None:
            return before
        if not before:
            return step.serving if want.target.failed else step.target
        return step.target if step.serving == step.target else before

    def _is_remote(self, verifier_revision: str, *, is_served: bool) -> bool:
        """Whether a verifier revision asks draft pods. Where its ControllerRevision is lost: if it has done so."""
        frozen = self._frozen(Role.VERIFIER, verifier_revision)
        return is_served if frozen is None else frozen.resolved.get("speculation") == Speculation.REMOTE

    # -- both roles ----------------------------------------------------------------------------------------------

    def _carry_out(self, role: Role, step: Step) -> None:
        """Apply the Deployments of the revisions that stay, delete those of every other revision of the role."""
        self.steps[role] = step
        for revision, replicas in step.replicas.items():
            frozen = self._frozen(role, revision)
            if frozen is None:
                continue  # its ControllerRevision is lost: the Deployment is left as it is until it is replaced
            if self.facts.revision(role, revision) is None:
                self.details.append(f"{role} revision {revision} is new: its template is frozen")
                self.applies.append(Apply(revision_object_of(self.owner, frozen)))
            if frozen.claim:  # before the pods that name it
                self.applies.append(Apply(claim_template_of(self.owner, frozen)))
            limits = self.clock.limits
            manifest = workload_of(
                self.owner,
                frozen,
                replicas=replicas,
                progress_deadline_seconds=int(limits.progress_deadline_seconds),
                draining_since=step.draining.get(revision),
            )
            there = self.facts.workload(role, revision)
            fewer = there.wanted - replicas if there else 0
            if replicas > 0 and fewer > 0:
                self.costs += deletion_costs_of(self.facts.pods_of(role, revision), self.loads, fewer=fewer)
            self.applies.append(Apply(manifest, there.resource_version if there and fewer > 0 else ""))
        for workload in self.facts.workloads_of(role):
            if workload.revision not in step.replicas and not workload.is_going:
                self.details.append(f"{workload.ref.name} is deleted: nothing selects its pods any more")
                self.deletions.append(Deletion(workload.ref, workload.uid, workload.resource_version))
        unclaimed = [c for c in self.facts.claims if c.role is role and c.revision not in step.replicas]
        self.deletions += [Deletion(claim.ref, claim.uid, "") for claim in unclaimed]
        if step.replicas:
            want = self.wants.get(role)
            counted = tuple(sorted(step.replicas)) if step.is_rolling else (step.serving,)
            wanted = want.replicas if want else step.replicas.get(step.target, 0)
            outdated_by = want.outdated_by if want else ""
            self.roles[role] = RolePlan(step.serving, step.target, wanted, counted, outdated_by)

    def protect(self, terms: Terms, keeping: Gatekeeping) -> None:
        """What stands around the pods goes before them: a pod without its ServiceAccount is not even made."""
        terms = replace(terms, has_gate=keeping.terms is not None or bool(self.facts.gate.objects))
        served = {
            role: Served(
                planned.wanted,
                planned.counted[0] if len(planned.counted) == 1 else "",
                checks_tokens=role is Role.DRAFT and checks_tokens(self.facts, self.wants),
            )
            for role, planned in self.roles.items()
        }
        protection = plan_protection(self.owner, self.facts, served, terms=terms)
        gate = gate_objects_of(self.owner, self.rest, keeping, terms=terms)
        self.applies[:0] = [Apply(manifest) for manifest in (*protection.apply, *gate)]
        self.deletions += [Deletion(ref, uid, "") for ref, uid in superfluous_gate(self.facts, self.rest).items()]
        self.deletions += [Deletion(found.ref, found.uid, "") for found in protection.delete]
        self.details += protection.details

    def _frozen(self, role: Role, revision: str) -> RevisionFacts | None:
        want = self.wants.get(role)
        if want and want.target.revision == revision:
            return want.target
        return self.facts.revision(role, revision)

    def keep_revisions(self) -> None:
        """Write down what became of revisions, and delete those past the history limit, never one in use."""
        for role in Role:
            step, want = self.steps.get(role), self.wants.get(role)
            for seen in self.facts.revisions_of(role):
                noted = want.target if want and want.target.revision == seen.revision else seen
                if want and noted.revision != want.target.revision and noted.failed:
                    noted = replace(noted, failed="")  # the spec is another one: it may be tried again
                if step and step.failed and noted.revision == step.target:
                    noted = replace(noted, failed=step.failed)
                    self.details.append(f"{role} revision {noted.revision} failed: {step.failed}")
                if noted != seen:
                    self.applies.append(Apply(revision_object_of(self.owner, noted)))
            unused = [r for r in self.facts.revisions_of(role) if step is None or r.revision not in step.replicas]
            for old in unused[REVISION_HISTORY_LIMIT:]:
                name = names.role_child_name(self.owner.name, role, revision=old.revision)
                self.deletions.append(Deletion(Ref("ControllerRevision", name), old.uid, ""))
