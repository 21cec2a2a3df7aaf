"""What status says of a role: whether its pods are as they are wanted, and how many there are. Pure."""

from __future__ import annotations

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.status import (
    SIZING_LENGTH,
    SIZING_SENTENCES,
    RoleStatus,
)
from tandem_operator.assessment import Assessment
from tandem_operator.names import ConditionType, Reason
from tandem_operator.observation import Observation, wait_of, waiting_for
from tandem_operator.plan import RolePlan
from tandem_operator.sizing import Unfit
from tandem_operator.speculation_status import DRAFTS_OFF, drafts_are_off
from tandem_operator.troubles import trouble_of_revision
from tandem_operator.verdict import Verdict


def verifier_ready(observation: Observation) -> Verdict:
    role = observation.plan.roles.get(Role.VERIFIER)
    if role is None:
        return waiting_for(observation, ConditionType.VERIFIER_READY) or Verdict(
            holds=False, reason=Reason.ABSENT, message="no verifier was ever started"
        )
    return _role_ready(observation, Role.VERIFIER, role, condition=ConditionType.VERIFIER_READY)


def draft_ready(observation: Observation) -> Verdict:
    role = observation.plan.roles.get(Role.DRAFT)
    if role is None and observation.problem:
        return Verdict(holds=False, reason=Reason.ABSENT, message="no draft was ever started")
    if role is None:
        return waiting_for(observation, ConditionType.DRAFT_READY) or _without_drafts(observation)
    return _role_ready(observation, Role.DRAFT, role, condition=ConditionType.DRAFT_READY)


def _without_drafts(observation: Observation) -> Verdict:
    verifier = wait_of(observation, ConditionType.VERIFIER_READY)
    if verifier is not None and observation.assessment.method is Speculation.REMOTE:
        told = "draft pods start with the verifier's, which wait"
        return Verdict(holds=False, reason=verifier.reason, message=told)
    return Verdict(holds=True, reason=Reason.NOT_USED, message="the speculation method needs no draft pods")


def _role_ready(observation: Observation, kind: Role, role: RolePlan, *, condition: ConditionType) -> Verdict:
    wait = wait_of(observation, condition)
    workload = observation.facts.workload(kind, role.target)
    cause = trouble_of_revision(observation.facts, kind, role.target)
    trouble = f": {cause.message}" if cause.message else ""
    if wait:
        return Verdict(holds=False, reason=wait.reason, message=wait.message + trouble)
    if not role.is_rolled_out:
        return Verdict(
            holds=False,
            reason=Reason.ROLLING_OUT,
            message=f"revision {role.target} takes over from {role.serving}",
        )
    ready = workload.ready if workload else 0
    progress = f"{ready} of {role.wanted} {kind} pods of revision {role.target} are Ready"
    is_at_gate = observation.plan.is_at_gate and ready < role.wanted  # the gate is there on the way to zero, too
    is_waking = is_at_gate and cause.reason is Reason.PODS_NOT_READY
    if is_waking and kind is Role.VERIFIER:
        return Verdict(holds=True, reason=Reason.WAKING, message=f"{progress}; the wake gate holds the requests")
    bounds = observation.scaled.bounds_of(kind) if observation.scaled else None
    # Where none is enough, pods that cannot start would else never be told of.
    is_starting = ready or cause.reason is Reason.PODS_NOT_READY
    if bounds and bounds.least <= ready < role.wanted and is_starting:
        return Verdict(holds=True, reason=Reason.SCALING_UP, message=f"{progress}; the others are starting{trouble}")
    going = max(workload.wanted, ready) - role.wanted if workload else 0
    if bounds and going > 0 and ready >= role.wanted:
        told = f"{role.wanted or 'no'} {kind} pods are wanted; {going} more {'goes' if going == 1 else 'go'}"
        reason = Reason.PODS_READY if role.wanted else Reason.SCALED_TO_ZERO
        return Verdict(holds=True, reason=reason, message=told)
    if workload is None or not workload.is_ready or workload.wanted != role.wanted:
        sized = observation.assessment.sizings.get(kind)
        if ready >= role.wanted:
            progress += "; its Deployment is on the way to what is wanted"
        is_in_doubt = cause.reason is Reason.PODS_FAILING and "memory" in cause.message.lower()
        doubt = f"; by estimate it does not fit: {sized.reason}" if is_in_doubt and isinstance(sized, Unfit) else ""
        return Verdict(holds=False, reason=cause.reason, message=progress + trouble + doubt)
    if role.wanted == 0:
        why = f": {DRAFTS_OFF}" if kind is Role.DRAFT and drafts_are_off(observation) else ""
        return Verdict(holds=True, reason=Reason.SCALED_TO_ZERO, message=f"no {kind} pods are wanted{why}")
    if role.outdated_by:
        told = f"{progress}; today it would be {role.outdated_by}: `tandem refresh {observation.name}` rolls it out"
        return Verdict(holds=True, reason=Reason.REVISION_OUTDATED, message=told)
    return Verdict(holds=True, reason=Reason.PODS_READY, message=progress)


def role_status(observation: Observation, kind: Role) -> RoleStatus | None:
    role = observation.plan.roles.get(kind)
    if role is None:
        return None
    counted = [w for w in observation.facts.workloads_of(kind) if w.revision in (role.counted or (role.serving,))]
    ready = sum(workload.ready for workload in counted)
    labels = {
        names.LABEL_DEPLOYMENT: observation.name,
        names.LABEL_ROLE: kind.value,
        names.LABEL_REVISION: role.serving,
    }
    return RoleStatus(
        revision=role.serving,
        target_revision=role.target,
        replicas=sum(workload.replicas for workload in counted),
        ready_replicas=ready,
        summary=f"{ready}/{role.wanted}",
        sizing=_sizing(observation.assessment, kind),
        selector=",".join(f"{key}={value}" for key, value in labels.items()),
    )


def _sizing(assessment: Assessment, role: Role) -> tuple[str, ...] | None:
    sentences = assessment.sentences_of(role)[-SIZING_SENTENCES:]
    return tuple(sentence[:SIZING_LENGTH] for sentence in sentences) or None
