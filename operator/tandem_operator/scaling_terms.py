"""From a spec and what was observed to what scaling is asked, and back to what status says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator.api.autoscaling import Autoscaling, ScalingRules, latency_seconds
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.api.fields import seconds_of
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest, PodFacts, Ref
from tandem_operator.objects.gate import GateTerms
from tandem_operator.scaling.drafts import DraftPolicy
from tandem_operator.scaling.observed import Gate, Observed, Pod
from tandem_operator.scaling.policy import Behavior, Bounds, Direction, Limit, Policy, Target
from tandem_operator.scaling.reading import Reading
from tandem_operator.timestamps import timestamp_of


def policy_of(deployment: LLMDeployment) -> Policy | None:
    """What scaling of the verifiers goes by; None where something else scales them."""
    autoscaling = deployment.spec.autoscaling
    if autoscaling is None:
        return None
    slo, bounds = autoscaling.slo, autoscaling.verifier
    policy = Policy(
        target=Target(
            percentile=slo.percentile,
            first_token_seconds=_seconds(slo.time_to_first_token),
            output_token_seconds=_seconds(slo.time_per_output_token),
        ),
        bounds=Bounds(bounds.min_replicas, bounds.max_replicas),
        strategy=autoscaling.strategy,
        behavior=_behavior_of(autoscaling),
        surge_quantile=float(autoscaling.surge_quantile),
        requests_per_pod=autoscaling.requests_per_replica,
        is_paused=autoscaling.paused,
        idle_seconds=seconds_of(autoscaling.idle.after) if autoscaling.idle else None,
    )
    sequences = deployment.spec.verifier.engine.scheduler.max_sequences
    return replace(policy, most_requests=sequences) if sequences else policy


def gate_terms_of(deployment: LLMDeployment, config: OperatorConfig) -> GateTerms | None:
    """What the wake gate is made of; None where the deployment never goes to zero."""
    autoscaling, access = deployment.spec.autoscaling, deployment.spec.access
    if autoscaling is None or autoscaling.idle is None:
        return None
    return GateTerms(
        image=config.gate.image,
        served_name=deployment.served_name,
        most_held=autoscaling.idle.max_held_requests,
        hold_seconds=seconds_of(autoscaling.idle.hold_timeout),
        api_key=access.api_key.secret_key_ref if access.api_key else None,
        pull_secrets=config.gate.pull_secrets,
        scrape_annotations=config.scrape_annotations,
    )


def first_replicas(deployment: LLMDeployment, facts: Facts) -> int:
    """Of an autoscaled deployment, where nothing is remembered: what there is, else what the spec begins with."""
    wanted = max((workload.wanted for workload in facts.workloads_of(Role.VERIFIER)), default=0)
    autoscaling = deployment.spec.autoscaling
    return autoscaling.verifier.clamped(wanted or deployment.spec.verifier.replicas) if autoscaling else 0


def draft_policy_of(deployment: LLMDeployment) -> DraftPolicy | None:
    """What scaling of the drafts goes by; None where their number is the spec's."""
    autoscaling = deployment.spec.autoscaling
    if autoscaling is None or autoscaling.draft is None:
        return None
    bounds = Bounds(autoscaling.draft.min_replicas, autoscaling.draft.max_replicas)
    return DraftPolicy(bounds, _behavior_of(autoscaling), is_paused=autoscaling.paused)


def first_drafts(deployment: LLMDeployment, facts: Facts) -> int:
    """Of a deployment whose drafts are autoscaled, where nothing is remembered: as `first_replicas`."""
    wanted = max((workload.wanted for workload in facts.workloads_of(Role.DRAFT)), default=0)
    draft, autoscaling = deployment.spec.draft, deployment.spec.autoscaling
    bounds = autoscaling.draft if autoscaling else None
    return bounds.clamped(wanted or draft.replicas) if bounds and draft else 0


HANDS_OFF_SECONDS, MOST_HANDS_OFF_SECONDS = 600.0, 7200.0
"""After somebody else has written the replicas of our Deployment they are theirs for so long: for twice as long as the
last time where an autoscaler has soon written again what we had changed, or both would go on by turns."""


@dataclass(frozen=True)
class TakenOver:
    """Somebody else, an autoscaler or a person, has written the replicas of a Deployment of ours."""

    ref: Ref
    by: str
    at: datetime
    replicas: int
    seconds: float = HANDS_OFF_SECONDS
    """For so long they are theirs."""
    is_over: bool = False
    """Whether they have been ours again since."""

    def lasts(self, now: datetime) -> bool:
        """Whether they are still theirs. Much later than now it was only where the clock was set back since."""
        return not self.is_over and abs((now - self.at).total_seconds()) <= self.seconds

    def again(self, before: TakenOver | None) -> TakenOver:
        """The same after `before`: for how long they are theirs now."""
        if before is None or before.by != self.by or _is_person(self.by):
            return self
        since = (self.at - before.at).total_seconds()
        if since <= before.seconds and not before.is_over:
            return replace(self, seconds=before.seconds)
        is_soon = since <= 2 * before.seconds + HANDS_OFF_SECONDS
        return replace(self, seconds=min(2 * before.seconds, MOST_HANDS_OFF_SECONDS)) if is_soon else self

    def to_data(self) -> dict[str, Any]:
        """To be written down: what they have written may be there for as long as ours is the same."""
        told = {"name": self.ref.name, "by": self.by, "at": timestamp_of(self.at), "replicas": self.replicas}
        return {**told, "seconds": self.seconds}

    def is_seen_in(self, facts: Facts, role: Role) -> bool:
        """Whether a Deployment still says so itself: what is written down of it gives nobody more replicas."""
        writings = [(each.ref, each.scaled_by, each.wanted) for each in facts.workloads_of(role)]
        return (self.ref, self.by, self.replicas) in writings

    def told(self, bounds: Bounds, *, is_paused: bool = False) -> str:
        """For a person: what was written, by whom, and what to do about it."""
        written = f"{self.ref.kind} {self.ref.name}: its replicas were written by {self.by}: {self.replicas}"
        written += bounds.beyond(self.replicas)
        if is_paused:
            return f"{written}; spec.autoscaling.paused keeps them"
        minutes = f"{self.seconds / 60:.0f} minutes"
        if _is_person(self.by):
            return (
                f"{written}; after {minutes} the load decides again. spec.autoscaling.paused keeps replicas for longer"
            )
        return f"{written}; take that autoscaler away, or spec.autoscaling; {minutes} later the load decides again"


def taken_over_in(data: object) -> TakenOver | None:
    """The reverse of `TakenOver.to_data`; None for what no version of ours has written."""
    match data:
        case {"name": str(name), "by": str(by), "at": str(written), "replicas": int(replicas), **others} if (
            replicas >= 0
        ):
            try:
                at = datetime.fromisoformat(written)
            except ValueError:
                return None
            seconds: Any = others.get("seconds")
            is_ours = isinstance(seconds, int | float) and HANDS_OFF_SECONDS <= seconds <= MOST_HANDS_OFF_SECONDS
            theirs = float(seconds) if is_ours else HANDS_OFF_SECONDS
            return TakenOver(Ref("Deployment", name), by, at, replicas, theirs) if at.tzinfo else None
    return None


def _is_person(manager: str) -> bool:
    """Whether a field manager is what people write with: kubectl, kubectl-edit, kubectl-client-side-apply."""
    return manager.startswith("kubectl")


def unheeded_of(body: Manifest) -> str:
    """What somebody has asked for by the scale subresource of a resource whose verifiers are scaled by the load, and
    gets nothing of as long as they are; empty otherwise. The API server remembers who it was.
    """
    spec = body.get("spec") or {}
    if not spec.get("autoscaling"):
        return ""
    for entry in body["metadata"].get("managedFields") or []:
        fields = ((entry.get("fieldsV1") or {}).get("f:spec") or {}).get("f:verifier") or {}
        if entry.get("subresource") == "scale" and "f:replicas" in fields:
            asked = (spec.get("verifier") or {}).get("replicas")
            return (
                f"{entry.get('manager', '')} has set spec.verifier.replicas to {asked}, which counts only once "
                "spec.autoscaling is taken out: until then its minReplicas and maxReplicas bound the verifiers (told "
                "until another value is applied or patched to that field)"
            )
    return ""


def taken_over(facts: Facts, before: TakenOver | None, *, now: datetime, role: Role) -> TakenOver | None:
    """The last time that this happened, which may be long ago. Our own next apply may wipe out its traces.

    The API server notes no time for who writes by the scale subresource: then it is when the number was seen first.
    """
    there = [w for w in facts.workloads_of(role) if w.scaled_by and not w.draining_since and not w.is_going]
    if before and not there and not before.lasts(now):
        before = replace(before, is_over=True)
    for workload in there:
        found = TakenOver(workload.ref, workload.scaled_by, workload.scaled_at or now, workload.wanted)
        is_known = (
            before is not None
            and replace(found, at=before.at, seconds=before.seconds) == before
            and (workload.scaled_at or before.at) <= before.at
        )
        if not is_known:
            before = found.again(before)
    return before


def addresses_of(facts: Facts, *roles: Role) -> dict[str, str]:
    """Of the pods of these roles that can be asked, by their names; those that drain included."""
    pods = (pod for role in roles for pod in _pods_of(facts, role))
    return {pod.ref.name: pod.address for pod in pods if pod.address and pod.is_ready}


def observed_of(
    facts: Facts,
    readings: Mapping[str, Reading],
    *,
    wanted: int,
    now: datetime,
    interval_seconds: float,
    gate: Gate | None = None,
    trouble: str = "",
) -> Observed:
    """The verifiers of a deployment as scaling sees them."""
    pods = pods_seen(facts, Role.VERIFIER)
    return Observed(now.timestamp(), wanted, pods, dict(readings), interval_seconds, gate=gate, trouble=trouble)


def pods_seen(facts: Facts, role: Role) -> tuple[Pod, ...]:
    """The pods of a role as scaling sees them."""
    draining = {w.revision for w in facts.workloads_of(role) if w.draining_since or w.is_going}
    return tuple(
        Pod(
            name=pod.ref.name,
            kind=pod.revision,
            created_at=pod.created.timestamp(),
            ready_at=pod.ready_since.timestamp() if pod.is_ready and pod.ready_since else None,
            is_going=pod.is_going or pod.revision in draining,
        )
        for pod in _pods_of(facts, role)
    )


def _pods_of(facts: Facts, role: Role) -> list[PodFacts]:
    return [pod for pod in facts.pods if pod.role is role and not pod.is_over]


def _seconds(latency: str | None) -> float | None:
    return None if latency is None else latency_seconds(latency)


def _behavior_of(autoscaling: Autoscaling) -> Behavior:
    usual, asked = Behavior(), autoscaling.behavior
    return Behavior(up=_direction(usual.up, asked.scale_up), down=_direction(usual.down, asked.scale_down))


def _direction(usual: Direction, asked: ScalingRules) -> Direction:
    window = asked.stabilization_window_seconds
    limits = tuple(Limit(each.type, each.value, each.period_seconds) for each in asked.policies)
    return Direction(
        limits=limits or usual.limits,
        select=asked.select_policy,
        stabilization_seconds=usual.stabilization_seconds if window is None else window,
    )
