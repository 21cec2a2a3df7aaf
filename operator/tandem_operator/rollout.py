"""How a role gets from one revision to another: `verifier_step(...)` and `draft_step(...)`. Pure.

A step says how many pods of which revision there may be now, what the Service selects, and what is waited for. It is
made from what is there, never from a remembered phase. What a rollout has to remember lies on the objects themselves:
that it is rolling on the Service, since when a revision drains on its Deployment, that it failed on its
ControllerRevision.

BlueGreen: the new pods beside the old ones; all of them Ready, the Service moves; the old ones drain, then go.
Rolling: where the scheduler finds no room for that. Both revisions are selected, and one old pod goes for one new,
so that never more than one is missing.
Recreate: the old pods go first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tandem_contracts.launch import Role
from tandem_contracts.termination import Reason as Cause
from tandem_operator.api.rollout import OnFailure, Rollout, RolloutStrategy
from tandem_operator.facts import Facts, RevisionFacts, ServiceFacts, WorkloadFacts
from tandem_operator.names import ConditionType, Reason

DRAIN_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Want:
    """What the spec asks of a role. A role without a want keeps what it has (the spec is invalid or does without)."""

    target: RevisionFacts
    replicas: int
    outdated_by: str = ""
    """The revision that the same request would resolve to today; empty when it is the target itself."""


@dataclass(frozen=True)
class Wait:
    """Something that the plan does not hold yet, and why; ends up in a condition."""

    condition: ConditionType
    reason: Reason | Cause
    message: str


@dataclass(frozen=True)
class Clock:
    """What a step needs to know of time: now, and the user's limits."""

    now: datetime
    limits: Rollout = field(default_factory=Rollout)

    def left(self, since: datetime, seconds: float) -> float:
        """Seconds until `seconds` have passed since then; 0 or less when they have."""
        return seconds - (self.now - since) / timedelta(seconds=1)


@dataclass
class Step:
    """What a role's rollout may do now."""

    serving: str
    """The revision that stands for the role: the one that the Service selects, or is leaving."""
    target: str
    replicas: dict[str, int] = field(default_factory=dict)
    """Pods of each revision that stays; every other revision's Deployment goes."""
    is_rolling: bool = False
    """The Service selects the pods of every revision."""
    draining: dict[str, datetime] = field(default_factory=dict)
    """Revisions that serve no new requests and stay until they have none left, and since when."""
    failed: str = ""
    """Why the target has failed, when this pass finds that out."""
    waits: list[Wait] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    due_seconds: float = 0.0
    """When something falls due by time alone; 0: nothing does."""

    def falls_due(self, seconds: float) -> None:
        """Something is due in so many seconds."""
        seconds = max(seconds, 0.1)
        self.due_seconds = min(self.due_seconds or seconds, seconds)


def verifier_step(
    facts: Facts,
    service: ServiceFacts | None,
    want: Want | None,
    *,
    asked_replicas: int | None,
    idle: frozenset[str],
    clock: Clock,
) -> Step | None:
    """The step of the verifiers; None when there never was one and none is wanted.

    `idle`: revisions whose engines have reported no request in two samples. `asked_replicas`: for a role whose spec is
    refused for something else, and which scales nevertheless.
    """
    serving = _serving(facts, service, want)
    target = want.target.revision if want else serving
    if not target:
        return None
    rollout = _VerifierRollout(facts, service, want, serving=serving or target, idle=idle, clock=clock)
    rollout.decide(asked_replicas)
    rollout.drain()
    return rollout.step


class _VerifierRollout:
    """A step while it is being decided. Lives for one call of `verifier_step`."""

    def __init__(
        self,
        facts: Facts,
        service: ServiceFacts | None,
        want: Want | None,
        *,
        serving: str,
        idle: frozenset[str],
        clock: Clock,
    ) -> None:
        self.facts, self.want, self.idle, self.clock = facts, want, idle, clock
        self.was_rolling = service is not None and service.is_rolling
        self.step = Step(serving, want.target.revision if want else serving)
        self.old = facts.workload(Role.VERIFIER, serving)

    def decide(self, asked_replicas: int | None) -> None:
        """Fill in replicas, what the Service selects, and waits."""
        step, want = self.step, self.want
        if want is None:
            found = self.facts.workloads_of(Role.VERIFIER) if self.was_rolling else (self.old,)
            step.replicas = {w.revision: w.wanted for w in found if w and not w.is_going}
            fallback = self.old.wanted if self.old else 1
            step.replicas[step.serving] = fallback if asked_replicas is None else asked_replicas
            step.is_rolling = self.was_rolling
        elif want.target.failed and step.serving != step.target:
            self._stand_back(want)
        elif self.was_rolling:
            self._roll(want, step.target)
        elif step.serving == step.target:
            step.replicas = {step.target: want.replicas}
        elif self.clock.limits.strategy is RolloutStrategy.RECREATE:
            self._recreate(want)
        else:
            self._surge(want)

    # -- the ways -------------------------------------------------------------------------------------------------

    def _surge(self, want: Want) -> None:
        """BlueGreen, for as long as there is room for it."""
        step, limits = self.step, self.clock.limits
        new = self.facts.workload(Role.VERIFIER, step.target)
        old_ready = self.old.ready if self.old else 0
        step.replicas = {step.serving: min(self.old.wanted, want.replicas) if self.old else want.replicas}
        step.replicas[step.target] = want.replicas
        if _is_switch_due(new, want, old_ready=old_ready):
            step.details.append(
                f"verifier revision {step.target} is Ready: the Service moves to it from {step.serving}"
            )
            step.serving = step.target
            return
        ready = new.ready if new else 0
        serves = "the old one serves" if old_ready else "nothing serves"
        told = f"revision {step.target}: {ready} of {want.replicas} pods are Ready; {serves}"
        if failure := _failure(self.facts, Role.VERIFIER, new):
            step.failed = failure
        no_room = _no_room(self.facts, Role.VERIFIER, step.target)
        may_roll = limits.strategy is not RolloutStrategy.BLUE_GREEN and (want.replicas > 1 or old_ready == 0)
        if limits.strategy is RolloutStrategy.ROLLING and may_roll:
            self._roll(want, step.target)
        elif no_room and not self._is_draining():
            since, message = no_room
            left = self.clock.left(since, limits.surge_wait_seconds)
            if left > 0:
                step.falls_due(left)
                self._wait(Reason.ROLLING_OUT, told)
            elif may_roll:
                step.details.append(f"no room for all new pods beside the old ones: one goes for one ({message})")
                self._roll(want, step.target)
            else:
                step.replicas[step.serving] = want.replicas
                self._wait(Reason.NO_ROOM_FOR_SURGE, f"{told}; there is no room for the new pods: {message}")
        else:
            self._wait(Reason.ROLLING_OUT, told)

    def _roll(self, want: Want, target: str) -> None:
        """One old pod for one new: towards `target`, which is the serving one when a rollout is taken back."""
        step = self.step
        new = self.facts.workload(Role.VERIFIER, target)
        ready = new.ready if new and not new.is_going else 0
        others = [w for w in self.facts.workloads_of(Role.VERIFIER) if w.revision != target and not w.is_going]
        if ready >= want.replicas:
            step.details.append(f"all pods of verifier revision {target} are Ready: the Service leaves the others")
            step.serving, step.replicas = target, {target: want.replicas}
            return
        if new and target != step.serving and (failure := _failure(self.facts, Role.VERIFIER, new)):
            step.failed = failure
        wanted = min(want.replicas, max(ready + 1, want.replicas - sum(w.wanted for w in others)))
        budget = want.replicas - wanted
        step.is_rolling, step.replicas = True, {target: wanted}
        for other in sorted(others, key=lambda w: (w.revision != step.serving, w.revision)):
            step.replicas[other.revision] = min(other.wanted, budget)
            budget -= step.replicas[other.revision]
        self._wait(Reason.ROLLING_OUT, f"revision {target}: {ready} of {want.replicas} pods are Ready, one for one old")

    def _recreate(self, want: Want) -> None:
        step = self.step
        # The controller does not count pods that are going, which hold their accelerators to the end of their drain.
        old = [p for p in self.facts.pods if p.role is Role.VERIFIER and p.revision != step.target and not p.is_over]
        if old or (self.old and self.old.replicas > 0):
            step.replicas = {step.serving: 0, step.target: 0}
            self._wait(Reason.ROLLING_OUT, f"strategy Recreate: revision {step.serving} ends before {step.target}")
        else:
            step.serving, step.replicas = step.target, {step.target: want.replicas}

    def _stand_back(self, want: Want) -> None:
        """The target has failed: the revision that served before serves on, until the spec is another one."""
        step, failed = self.step, want.target
        kept = self.facts.workload(Role.VERIFIER, failed.revision)
        if self.clock.limits.on_failure is OnFailure.HOLD and kept:
            self._hold(want, kept)
        elif self.was_rolling:
            self._roll(want, step.serving)
            step.waits.clear()
        else:
            step.replicas = {step.serving: want.replicas}
        self._wait(
            Reason.ROLLOUT_FAILED,
            f"revision {failed.revision} failed: {failed.failed}; revision {step.serving} serves on. "
            "It is tried again when the spec changes",
        )

    def _hold(self, want: Want, kept: WorkloadFacts) -> None:
        """The failed pods stay as they are, for somebody to look at; scaling goes to the others."""
        step, held = self.step, min(kept.wanted, want.replicas)
        serving = want.replicas
        if self.was_rolling:  # there was no room for both
            serving = max(want.replicas - held, min(self.old.wanted if self.old else 0, want.replicas))
        step.is_rolling = self.was_rolling
        step.replicas = {step.serving: serving, kept.revision: held}

    # -- what follows ----------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Keep what the Service has left until its requests are answered."""
        step = self.step
        for workload in self.facts.workloads_of(Role.VERIFIER):
            revision = workload.revision
            if revision in step.replicas or workload.is_going or workload.ready == 0 or self._goes_at_once(revision):
                continue
            since = workload.draining_since or self.clock.now
            left = self.clock.left(since, self.clock.limits.drain_timeout_seconds)
            if revision in self.idle:
                step.details.append(f"verifier revision {revision} has answered its last request")
            elif left <= 0:
                step.details.append(f"verifier revision {revision} still had requests after rollout.drainTimeout")
            else:
                step.draining[revision] = since
                step.replicas[revision] = workload.wanted
                step.falls_due(min(left, DRAIN_POLL_SECONDS))

    def _goes_at_once(self, revision: str) -> bool:
        """What is left of one that has failed is not worth the time; one whose ControllerRevision is lost could not be
        told to drain, and its pods answer what they have within their own grace period.
        """
        found = self.facts.revision(Role.VERIFIER, revision)
        return found is None or bool(found.failed)

    def _is_draining(self) -> bool:
        """Whether pods of a still older revision hold room that is about to be free."""
        return any(w.draining_since and w.revision != self.step.serving for w in self.facts.workloads_of(Role.VERIFIER))

    def _wait(self, reason: Reason, message: str) -> None:
        self.step.waits.append(Wait(ConditionType.VERIFIER_READY, reason, message))


def _serving(facts: Facts, service: ServiceFacts | None, want: Want | None) -> str:
    """The revision that serves: the one that the Service selects, if it is one that there is.

    Somebody may have deleted the Service, or changed its selector to nothing: then it is the revision with most Ready
    pods, so that a running one is never taken for superfluous. Empty when there is no verifier at all.
    """
    target = want.target.revision if want else ""
    selected = service.selected_revision if service else ""
    if selected and (selected == target or facts.workload(Role.VERIFIER, selected)):
        return selected
    numbers = {revision.revision: revision.number for revision in facts.revisions_of(Role.VERIFIER)}
    running = facts.workloads_of(Role.VERIFIER)
    best = max(running, key=lambda w: (w.ready, numbers.get(w.revision, 0), w.revision), default=None)
    if best is None and facts.revisions_of(Role.VERIFIER):
        return target or facts.revisions_of(Role.VERIFIER)[0].revision
    return best.revision if best else ""


def _is_switch_due(new: WorkloadFacts | None, want: Want, *, old_ready: int) -> bool:
    """Whether the target may serve: all of it is Ready, or some of it while nothing of the old one is."""
    if new is None or new.is_going:
        return False
    return (new.is_ready and new.wanted == want.replicas) or (new.ready > 0 and old_ready == 0)


def _no_room(facts: Facts, role: Role, revision: str) -> tuple[datetime, str] | None:
    """Since when, and why, the scheduler finds no node for a pod of a revision."""
    waiting = [(p.unschedulable_since, p.unschedulable) for p in facts.pods_of(role, revision) if not p.is_going]
    return min(((since, message) for since, message in waiting if since), default=None)


def _failure(facts: Facts, role: Role, workload: WorkloadFacts | None) -> str:
    """Why a revision that made no progress until its deadline failed; empty when it did not.

    Pods that the scheduler has no room for, and pods that may not even be made, say nothing about the revision.
    """
    if workload is None or not workload.is_past_deadline:
        return ""
    started = [
        p
        for p in facts.pods_of(role, workload.revision)
        if not (p.is_ready or p.is_going or p.is_over or p.unschedulable)
    ]
    trouble = next((pod.trouble for pod in started if pod.trouble), "")
    return (trouble or "no progress within rollout.progressDeadline") if started else ""


def draft_step(
    facts: Facts, selected: frozenset[str], want: Want | None, *, asked_replicas: int | None, clock: Clock
) -> Step:
    """The step of the drafts; its `serving` is the revision that verifiers should ask from now on.

    `selected`: the draft revisions that the Services of the verifier revisions select. Verifiers serve without drafts,
    so that here the old pods may make room down to the last one, and nothing drains.
    """
    old = min(selected - ({want.target.revision} if want else frozenset()), default="")
    if want is None:
        step = Step(old, old)
        for revision in selected:
            there = facts.workload(Role.DRAFT, revision)
            kept = there.wanted if there else 1
            step.replicas[revision] = kept if asked_replicas is None else asked_replicas
        return step
    target, limits = want.target.revision, clock.limits
    step = Step(old or target, target, {target: want.replicas})
    if not old:
        return step
    new = facts.workload(Role.DRAFT, target)
    ready = new.ready if new and not new.is_going else 0
    olds = {r: facts.workload(Role.DRAFT, r) for r in selected - {target}}
    step.replicas.update({r: min(w.wanted, want.replicas) if w else want.replicas for r, w in olds.items()})
    if want.target.failed:
        step.replicas.update(dict.fromkeys(olds, want.replicas))
        step.replicas[target] = new.wanted if new else 0
        if limits.on_failure is OnFailure.ROLLBACK:
            del step.replicas[target]
        told = f"revision {target} failed: {want.target.failed}; revision {old} drafts on"
        step.waits.append(Wait(ConditionType.DRAFT_READY, Reason.ROLLOUT_FAILED, told))
        return step
    if new and new.is_ready and new.wanted == want.replicas:
        step.details.append(f"draft revision {target} is Ready: verifiers move to it from {old}")
        step.serving = target
        return step
    step.failed = _failure(facts, Role.DRAFT, new)
    told = f"revision {target}: {ready} of {want.replicas} pods are Ready; the old one drafts"
    step.waits.append(Wait(ConditionType.DRAFT_READY, Reason.ROLLING_OUT, told))
    if (no_room := _no_room(facts, Role.DRAFT, target)) and limits.strategy is not RolloutStrategy.BLUE_GREEN:
        left = clock.left(no_room[0], limits.surge_wait_seconds)
        if left > 0:
            step.falls_due(left)
        else:
            step.details.append(f"no room for the new drafts beside the old ones: one goes for one ({no_room[1]})")
            fewer = max(want.replicas - ready - 1, 0)
            step.replicas.update({r: min(w.wanted, fewer) for r, w in olds.items() if w})
    if ready > 0 and ready >= sum(w.ready for w in olds.values() if w):
        step.serving = target
    return step


def drained_pods_of(facts: Facts) -> Mapping[str, tuple[str, ...]]:
    """Addresses of the Ready pods of every verifier revision that drains, by revision: whose requests are counted."""
    return {
        workload.revision: tuple(
            pod.address for pod in facts.pods_of(Role.VERIFIER, workload.revision) if pod.is_ready and pod.address
        )
        for workload in facts.workloads_of(Role.VERIFIER)
        if workload.draining_since and not workload.is_going
    }
