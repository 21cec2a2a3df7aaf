"""What the operator says about a deployment: conditions as ordered, named checks. Pure.

Status is derived from scratch on every pass. The only thing taken from the previous one is when a condition last
changed. `Ready` takes its reason from the first check that fails, so the order of `_CHECKS` is the order of causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.status import Condition, LLMDeploymentStatus, RoleStatus
from tandem_operator.facts import Facts, Manifest
from tandem_operator.names import ConditionType, Reason
from tandem_operator.plan import Plan, RolePlan, Wait

MESSAGE_LIMIT = 4096


@dataclass(frozen=True)
class Problem:
    """Why the spec is not acted on, for the person who wrote it."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Observation:
    """All that status is derived from."""

    name: str
    generation: int
    facts: Facts
    plan: Plan
    problem: Problem | None = None
    """The spec is refused; the last good revision goes on."""
    refused: tuple[str, ...] = ()
    """What the API server refused in this pass, in its own words."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check."""

    holds: bool
    reason: Reason
    message: str


def status_of(observation: Observation, *, previous: Mapping[str, Any], now: datetime) -> Manifest:
    """The status subresource for what was observed; equal to `previous` when nothing changed."""
    verdicts = {condition: check(observation) for condition, check in _CHECKS.items()}
    verdicts[ConditionType.READY] = ready = _ready(observation, verdicts)
    verdicts[ConditionType.AVAILABLE] = _available(observation)
    accepted = verdicts[ConditionType.ACCEPTED]
    if not accepted.holds:  # kstatus: Stalled and Reconciling are abnormal, and absent while they do not hold
        verdicts[ConditionType.STALLED] = Verdict(holds=True, reason=accepted.reason, message=accepted.message)
    elif not ready.holds:
        verdicts[ConditionType.RECONCILING] = Verdict(holds=True, reason=ready.reason, message=ready.message)
    before = {condition["type"]: condition for condition in previous.get("conditions") or []}
    conditions = tuple(
        _condition(kind, verdicts[kind], observation.generation, before=before.get(kind, {}), now=now)
        for kind in ConditionType
        if kind in verdicts
    )
    status = LLMDeploymentStatus(
        observed_generation=observation.generation,
        conditions=conditions,
        verifier=_role_status(observation, Role.VERIFIER),
        draft=_role_status(observation, Role.DRAFT),
    )
    written: Manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def flipped(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Manifest, ...]:
    """Conditions that a person follows and whose truth or reason is another than before: each deserves an event.

    The others only repeat these in detail, and an event for each would say everything three times.
    """
    before = {c["type"]: (c["status"], c["reason"]) for c in previous.get("conditions") or []}
    told = [c for c in status["conditions"] if c["type"] in _TOLD]
    return tuple(c for c in told if before.get(c["type"]) != (c["status"], c["reason"]))


_TOLD = frozenset({ConditionType.AVAILABLE, ConditionType.READY, ConditionType.STALLED})


def _condition(
    kind: ConditionType, verdict: Verdict, generation: int, *, before: Mapping[str, Any], now: datetime
) -> Condition:
    truth = "True" if verdict.holds else "False"
    unchanged = before.get("status") == truth
    since = before["lastTransitionTime"] if unchanged else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Condition(
        type=kind.value,
        status="True" if verdict.holds else "False",
        reason=verdict.reason.value,
        message=_cut(verdict.message),
        last_transition_time=since,
        observed_generation=generation,
    )


def _cut(message: str) -> str:
    """What the API server, a webhook or a user writes has no bound; a condition's message has."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"


def _accepted(observation: Observation) -> Verdict:
    if observation.problem:
        return Verdict(holds=False, reason=observation.problem.reason, message=observation.problem.message)
    conflict = _wait(observation, ConditionType.ACCEPTED)
    if conflict:
        return Verdict(holds=False, reason=conflict.reason, message=conflict.message)
    return Verdict(holds=True, reason=Reason.ACCEPTED, message="the spec is valid and every name in it resolves")


def _verifier_ready(observation: Observation) -> Verdict:
    role = observation.plan.roles.get(Role.VERIFIER)
    if role is None:
        return Verdict(holds=False, reason=Reason.ABSENT, message="no verifier was ever started")
    return _role_ready(observation, Role.VERIFIER, role, condition=ConditionType.VERIFIER_READY)


def _draft_ready(observation: Observation) -> Verdict:
    role = observation.plan.roles.get(Role.DRAFT)
    if role is None:
        return Verdict(holds=True, reason=Reason.NOT_USED, message="the speculation method needs no draft pods")
    return _role_ready(observation, Role.DRAFT, role, condition=ConditionType.DRAFT_READY)


def _role_ready(observation: Observation, kind: Role, role: RolePlan, *, condition: ConditionType) -> Verdict:
    wait = _wait(observation, condition)
    workload = observation.facts.workload(kind, role.target)
    trouble = f": {workload.message}" if workload and workload.message else ""
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
    if workload is None or not workload.is_ready or workload.wanted != role.wanted:
        return Verdict(holds=False, reason=Reason.PODS_NOT_READY, message=progress + trouble)
    if role.wanted == 0:
        return Verdict(holds=True, reason=Reason.SCALED_TO_ZERO, message=f"no {kind} pods are wanted")
    return Verdict(holds=True, reason=Reason.PODS_READY, message=progress)


_CHECKS: Mapping[ConditionType, Callable[[Observation], Verdict]] = {
    ConditionType.ACCEPTED: _accepted,
    ConditionType.VERIFIER_READY: _verifier_ready,
    ConditionType.DRAFT_READY: _draft_ready,
}


def _ready(observation: Observation, verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    if observation.refused:
        return Verdict(holds=False, reason=Reason.API_REFUSED, message="; ".join(observation.refused))
    for condition in _CHECKS:
        if not verdicts[condition].holds:
            return verdicts[condition]
    return Verdict(
        holds=True,
        reason=Reason.ROLLED_OUT,
        message=f"generation {observation.generation} is rolled out on every role it asks for",
    )


def _available(observation: Observation) -> Verdict:
    service = observation.facts.service(names.serving_service_name(observation.name))
    workload = observation.facts.workload(Role.VERIFIER, service.selected_revision) if service else None
    if workload and workload.ready > 0:
        message = f"Service {observation.name} has {workload.ready} Ready verifier pods of revision {workload.revision}"
        return Verdict(holds=True, reason=Reason.SERVING, message=message)
    if workload and workload.wanted == 0:
        return Verdict(holds=False, reason=Reason.SCALED_TO_ZERO, message="no verifier pods are wanted")
    message = f"Service {observation.name} has no Ready verifier pod"
    return Verdict(holds=False, reason=Reason.NO_READY_VERIFIER, message=message)


def _wait(observation: Observation, condition: ConditionType) -> Wait | None:
    return next((wait for wait in observation.plan.waits if wait.condition is condition), None)


def _role_status(observation: Observation, kind: Role) -> RoleStatus | None:
    role = observation.plan.roles.get(kind)
    if role is None:
        return None
    workload = observation.facts.workload(kind, role.serving)
    ready = workload.ready if workload else 0
    labels = {
        names.LABEL_DEPLOYMENT: observation.name,
        names.LABEL_ROLE: kind.value,
        names.LABEL_REVISION: role.serving,
    }
    return RoleStatus(
        revision=role.serving,
        target_revision=role.target,
        replicas=workload.replicas if workload else 0,
        ready_replicas=ready,
        summary=f"{ready}/{role.wanted}",
        selector=",".join(f"{key}={value}" for key, value in labels.items()),
    )
