"""What the operator says about a deployment: conditions as ordered, named checks. Pure.

Status is derived from scratch on every pass. The only thing taken from the previous one is when a condition last
changed. `Ready` takes its reason from the first check that fails, so the order of `_CHECKS` is the order of causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.status import (
    ColdStartStatus,
    Condition,
    LLMDeploymentStatus,
    SpeculationStatus,
)
from tandem_operator.benchmark_status import benchmark_status
from tandem_operator.causes import steady
from tandem_operator.cold_start import ColdStart, written
from tandem_operator.facts import Facts, Manifest
from tandem_operator.masking import one_line
from tandem_operator.names import TROUBLES_OF_SCALING, ConditionType, Reason
from tandem_operator.observation import Observation, wait_of
from tandem_operator.role_status import draft_ready, role_status, verifier_ready
from tandem_operator.scaling_status import scaling_verdicts, told_of_scaling
from tandem_operator.speculation_status import draft_transport, measured_by, speculation_effective
from tandem_operator.timestamps import timestamp_of
from tandem_operator.verdict import Verdict

MESSAGE_LIMIT = 4096


def status_of(observation: Observation, *, previous: Mapping[str, Any], now: datetime) -> Manifest:
    """The status subresource for what was observed; equal to `previous` when nothing changed."""
    verdicts = {condition: check(observation) for condition, check in _CHECKS.items()}
    verdicts[ConditionType.READY] = ready = _ready(observation, verdicts)
    verdicts[ConditionType.AVAILABLE] = _available(observation)
    transport = draft_transport(observation)
    if transport is not None:
        verdicts[ConditionType.DRAFT_TRANSPORT_SECURE] = transport
    speculation: SpeculationStatus | None = None
    if observation.assessment.method is Speculation.REMOTE:
        speculation = measured_by(observation, previous)
    if observation.assessment.method is not Speculation.OFF:
        verdicts[ConditionType.SPECULATION_EFFECTIVE] = speculation_effective(observation, speculation)
    if observation.facts.artifacts:
        verdicts[ConditionType.ARTIFACTS_READY] = _artifacts_ready(observation.facts)
    scaling = None
    if observation.scaled is not None:
        scaling = told_of_scaling(observation.scaled, previous, now=now)
        verdicts |= scaling_verdicts(scaling, unheeded=observation.scaled.unheeded)
    # kstatus: Stalled and Reconciling are abnormal, and absent while they do not hold.
    stuck = next((v for v in verdicts.values() if not v.holds and v.reason in _STALLING), None)
    if not verdicts[ConditionType.ACCEPTED].holds:
        stuck = verdicts[ConditionType.ACCEPTED]
    elif stuck is None and not ready.holds and _is_stuck(observation.facts):
        stuck = verdicts[ConditionType.ARTIFACTS_READY]
    if stuck:
        verdicts[ConditionType.STALLED] = Verdict(holds=True, reason=stuck.reason, message=stuck.message)
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
        verifier=role_status(observation, Role.VERIFIER),
        draft=role_status(observation, Role.DRAFT),
        speculation=speculation,
        scaling=scaling,
        cold_start=_cold_start(observation.cold_start, previous.get("coldStart")),
        benchmark=benchmark_status(observation, previous.get("benchmark")),
    )
    written: Manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def flipped(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Manifest, ...]:
    """Conditions that a person follows and whose truth or reason is another than before: each deserves an event.

    Of scaling's conditions, that a trouble has begun or is over. The others only repeat these in detail, and an event
    for each would say everything three times.
    """
    before = _AT_FIRST | {c["type"]: (c["status"], c["reason"]) for c in previous.get("conditions") or []}
    news = [c for c in status["conditions"] if _is_news(c, before.get(c["type"], ("", "")))]
    stalled = next((c for c in news if c["type"] == ConditionType.STALLED), None)
    if stalled is not None:  # it says the same as Ready, as a warning
        news = [c for c in news if c["type"] != ConditionType.READY or c["reason"] != stalled["reason"]]
    return tuple(news)


def _is_news(condition: Manifest, before: tuple[str, str]) -> bool:
    """`before`: the status and the reason that it had."""
    if before == (condition["status"], condition["reason"]):
        return False
    return condition["type"] in _TOLD or bool({before[1], condition["reason"]} & TROUBLES_OF_SCALING)


_STALLING = frozenset({Reason.ROLLOUT_FAILED, Reason.GATE_FAILED, Reason.SMOKE_FAILED})
"""What does not pass by itself, besides a spec that is not accepted and a model that cannot be made."""
_TOLD = frozenset({ConditionType.AVAILABLE, ConditionType.READY, ConditionType.STALLED})
_AT_FIRST = {ConditionType.AVAILABLE.value: ("False", Reason.NO_READY_VERIFIER.value)}
"""What is so of every deployment that is new."""


def _condition(
    kind: ConditionType, verdict: Verdict, generation: int, *, before: Mapping[str, Any], now: datetime
) -> Condition:
    truth: Literal["True", "False", "Unknown"] = (
        ("True" if verdict.holds else "False") if verdict.is_known else "Unknown"
    )
    unchanged = before.get("status") == truth
    since = before["lastTransitionTime"] if unchanged else timestamp_of(now)
    return Condition(
        type=kind.value,
        status=truth,
        reason=verdict.reason.value,
        message=_cut(one_line(verdict.message)),
        last_transition_time=since,
        observed_generation=generation,
    )


def _cut(message: str) -> str:
    """What the API server, a webhook or a user writes has no bound; a condition's message has."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"


def _accepted(observation: Observation) -> Verdict:
    if observation.problem:
        return Verdict(holds=False, reason=observation.problem.reason, message=observation.problem.message)
    conflict = wait_of(observation, ConditionType.ACCEPTED)
    if conflict:
        return Verdict(holds=False, reason=conflict.reason, message=conflict.message)
    return Verdict(
        holds=True, reason=Reason.ACCEPTED, message="the spec is valid, with classes and images that are known here"
    )


def _artifacts_ready(facts: Facts) -> Verdict:
    """Whether the models are known, and made where they have to be. By itself no cause of Ready: a model that serves
    from where it lies needs nobody to have looked into it.
    """
    missing = {role: artifact for role, artifact in facts.artifacts.items() if artifact.model is None}
    told = missing or facts.artifacts
    message = "; ".join(f"{role}: {each.message} (ModelArtifact {each.name})" for role, each in told.items())
    stuck = [each.reason for each in told.values() if each.is_stuck]
    telling = [each.reason for each in told.values() if each.reason not in _UNTOLD]
    reason = next(iter((*stuck, *telling)), next(iter(told.values())).reason)
    return Verdict(holds=not missing, reason=reason, message=message)


def _is_stuck(facts: Facts) -> bool:
    """Whether a model cannot be made as it is asked for. One that serves from where it lies needs nobody to look."""
    return any(each.model is None and each.files is None and each.is_stuck for each in facts.artifacts.values())


_UNTOLD = frozenset({Reason.INSPECTED, Reason.INSPECTING, Reason.PUBLISHED})
"""Reasons that go without saying where the other role has one that does not."""


_CHECKS: Mapping[ConditionType, Callable[[Observation], Verdict]] = {
    ConditionType.ACCEPTED: _accepted,
    ConditionType.VERIFIER_READY: verifier_ready,
    ConditionType.DRAFT_READY: draft_ready,
}


def _ready(observation: Observation, verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    for reason, told in (
        (Reason.PREDECESSOR_GOING, observation.predecessors),
        (Reason.API_REFUSED, observation.refused),
        (Reason.API_UNAVAILABLE, observation.unanswered),
    ):
        if told:
            return Verdict(holds=False, reason=reason, message=steady("; ".join(told)))
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
    workloads = observation.facts.workloads_of(Role.VERIFIER) if service else ()
    selected = [w for w in workloads if service and (service.is_rolling or w.revision == service.selected_revision)]
    serving = [w for w in selected if w.ready > 0]
    if serving:
        revisions = " and ".join(w.revision for w in serving)
        ready = sum(w.ready for w in serving)
        message = f"Service {observation.name} has {ready} Ready verifier pods of revision {revisions}"
        return Verdict(holds=True, reason=Reason.SERVING, message=message)
    if observation.plan.is_at_gate and observation.facts.gate.is_ready:
        message = "at zero: the wake gate holds requests until a verifier pod is Ready"
        if observation.scaled and observation.scaled.policy.is_paused:
            message += ", which none becomes before spec.autoscaling.paused is taken back (`tandem resume`)"
        return Verdict(holds=True, reason=Reason.IDLE, message=message)
    if selected and all(w.wanted == 0 for w in selected):
        return Verdict(holds=False, reason=Reason.SCALED_TO_ZERO, message="no verifier pods are wanted")
    message = f"Service {observation.name} has no Ready verifier pod"
    return Verdict(holds=False, reason=Reason.NO_READY_VERIFIER, message=message)


def _cold_start(seen: ColdStart | None, previous: Any) -> ColdStartStatus | None:
    """The last start: what another operator process has seen is kept until a newer one is."""
    if seen:
        seconds = {phase.value: written(value) for phase, value in seen.seconds.items()}
        return ColdStartStatus(pod=seen.pod, **seconds)
    try:
        return ColdStartStatus.model_validate(previous) if previous else None
    except ValidationError:
        return None  # somebody else wrote it
