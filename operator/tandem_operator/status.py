"""What the operator says about a deployment: conditions as ordered, named checks. Pure.

Status is derived from scratch on every pass. The only thing taken from the previous one is when a condition last
changed. `Ready` takes its reason from the first check that fails, so the order of `_CHECKS` is the order of causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.status import (
    SIZING_LENGTH,
    SIZING_SENTENCES,
    ColdStartStatus,
    Condition,
    LLMDeploymentStatus,
    RoleStatus,
    ScalingStatus,
    SpeculationStatus,
)
from tandem_operator.assessment import UNASSESSED, Assessment
from tandem_operator.causes import steady
from tandem_operator.cold_start import ColdStart, written
from tandem_operator.facts import Facts, Manifest
from tandem_operator.masking import one_line
from tandem_operator.measured_speculation import Measured, is_effective, told_of
from tandem_operator.names import ConditionType, Reason
from tandem_operator.plan import Plan, RolePlan
from tandem_operator.rollout import Wait
from tandem_operator.scaling_status import Scaled, is_active, is_limited, is_target_met, told_of_scaling
from tandem_operator.sizing import Unfit
from tandem_operator.speed import WORTH_IT, Assumptions, Unpredictable
from tandem_operator.targets import Problem
from tandem_operator.timestamps import timestamp_of
from tandem_operator.troubles import trouble_of_revision
from tandem_operator.verdict import Verdict

MESSAGE_LIMIT = 4096


@dataclass(frozen=True)
class Observation:
    """All that status is derived from."""

    name: str
    generation: int
    facts: Facts
    plan: Plan
    problem: Problem | None = None
    """The spec is refused; the last good revision goes on."""
    predecessors: tuple[str, ...] = ()
    """Objects of an earlier resource of this name that are in the way until they are collected."""
    refused: tuple[str, ...] = ()
    """What the API server refused in this pass, in its own words."""
    unanswered: tuple[str, ...] = ()
    """What it failed at, or gave no answer to: passes by itself."""
    cold_start: ColdStart | None = None
    """The last start of a verifier pod, if one was seen since the operator runs."""
    assessment: Assessment = UNASSESSED
    """What is known of the models."""
    scaled: Scaled | None = None
    """What autoscaling has decided; None without it."""
    measured: Measured | None = None
    """What verifiers have measured of remote drafts lately; None while there is too little traffic."""


def status_of(observation: Observation, *, previous: Mapping[str, Any], now: datetime) -> Manifest:
    """The status subresource for what was observed; equal to `previous` when nothing changed."""
    verdicts = {condition: check(observation) for condition, check in _CHECKS.items()}
    verdicts[ConditionType.READY] = ready = _ready(observation, verdicts)
    verdicts[ConditionType.AVAILABLE] = _available(observation)
    transport = _draft_transport(observation)
    if transport is not None:
        verdicts[ConditionType.DRAFT_TRANSPORT_SECURE] = transport
    speculation: SpeculationStatus | None = None
    if observation.assessment.method is Speculation.REMOTE:
        speculation = _measured(observation, previous)
    if observation.assessment.method is not Speculation.OFF:
        verdicts[ConditionType.SPECULATION_EFFECTIVE] = _speculation_effective(observation, speculation)
    if observation.facts.artifacts:
        verdicts[ConditionType.ARTIFACTS_READY] = _artifacts_ready(observation.facts)
    scaling = None
    if observation.scaled is not None:
        scaling = told_of_scaling(observation.scaled, previous.get("scaling"), now=now)
        verdicts |= _scaling_verdicts(scaling)
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
        verifier=_role_status(observation, Role.VERIFIER),
        draft=_role_status(observation, Role.DRAFT),
        speculation=speculation,
        scaling=scaling,
        cold_start=_cold_start(observation.cold_start, previous.get("coldStart")),
    )
    written: Manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def flipped(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Manifest, ...]:
    """Conditions that a person follows and whose truth or reason is another than before: each deserves an event.

    The others only repeat these in detail, and an event for each would say everything three times.
    """
    before = _AT_FIRST | {c["type"]: (c["status"], c["reason"]) for c in previous.get("conditions") or []}
    told = {c["type"]: c for c in status["conditions"] if c["type"] in _TOLD}
    news = [c for c in told.values() if before.get(c["type"]) != (c["status"], c["reason"])]
    stalled = told.get(ConditionType.STALLED)
    if stalled is not None and stalled in news:  # it says the same as Ready, as a warning
        news = [c for c in news if c["type"] != ConditionType.READY or c["reason"] != stalled["reason"]]
    return tuple(news)


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
    conflict = _wait(observation, ConditionType.ACCEPTED)
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


def _verifier_ready(observation: Observation) -> Verdict:
    role = observation.plan.roles.get(Role.VERIFIER)
    if role is None:
        return _waiting(observation, ConditionType.VERIFIER_READY) or Verdict(
            holds=False, reason=Reason.ABSENT, message="no verifier was ever started"
        )
    return _role_ready(observation, Role.VERIFIER, role, condition=ConditionType.VERIFIER_READY)


def _draft_ready(observation: Observation) -> Verdict:
    role = observation.plan.roles.get(Role.DRAFT)
    if role is None and observation.problem:
        return Verdict(holds=False, reason=Reason.ABSENT, message="no draft was ever started")
    if role is None:
        return _waiting(observation, ConditionType.DRAFT_READY) or _without_drafts(observation)
    return _role_ready(observation, Role.DRAFT, role, condition=ConditionType.DRAFT_READY)


def _without_drafts(observation: Observation) -> Verdict:
    verifier = _wait(observation, ConditionType.VERIFIER_READY)
    if verifier is not None and observation.assessment.method is Speculation.REMOTE:
        told = "draft pods start with the verifier's, which wait"
        return Verdict(holds=False, reason=verifier.reason, message=told)
    return Verdict(holds=True, reason=Reason.NOT_USED, message="the speculation method needs no draft pods")


def _draft_transport(observation: Observation) -> Verdict | None:
    """How the drafts that serve are asked. Never a reason not to be Ready; None where there are no draft pods."""
    role = observation.plan.roles.get(Role.DRAFT)
    frozen = observation.facts.revision(Role.DRAFT, role.serving) if role else None
    if frozen is None:
        return None
    if not frozen.uses_draft_tls:
        told = "verifiers and draft pods talk in plaintext, and a NetworkPolicy alone says who may ask draft pods: "
        told += "spec.speculation.tls names certificates"
        return Verdict(holds=False, reason=Reason.DRAFT_TRANSPORT_PLAINTEXT, message=told)
    problem = observation.facts.issuer_keys.problem
    has_keys = any(each.ref.kind == "ConfigMap" and each.role is Role.DRAFT for each in observation.facts.protections)
    if not has_keys:
        told = f"draft pods answer nobody until the API server's keys can be read: {problem or 'not asked yet'}"
        return Verdict(holds=False, reason=Reason.DRAFT_KEYS_UNAVAILABLE, message=told)
    doubt = f"; its keys could not be read anew: {problem}" if problem else ""
    told = f"TLS, and draft pods answer only tokens of this deployment's verifiers, signed by the API server{doubt}"
    return Verdict(holds=True, reason=Reason.DRAFT_TRANSPORT_TLS, message=told)


def _waiting(observation: Observation, condition: ConditionType) -> Verdict | None:
    wait = _wait(observation, condition)
    return Verdict(holds=False, reason=wait.reason, message=wait.message) if wait else None


def _role_ready(observation: Observation, kind: Role, role: RolePlan, *, condition: ConditionType) -> Verdict:
    wait = _wait(observation, condition)
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
    is_waking = observation.plan.is_at_gate and role.wanted > 0 and cause.reason is Reason.PODS_NOT_READY
    if is_waking and kind is Role.VERIFIER:
        return Verdict(holds=True, reason=Reason.WAKING, message=f"{progress}; the wake gate holds the requests")
    bounds = observation.scaled.bounds_of(kind) if observation.scaled else None
    # Where none is enough, pods that cannot start would else never be told of.
    is_starting = ready or cause.reason is Reason.PODS_NOT_READY
    if bounds and bounds.least <= ready < role.wanted and is_starting:
        return Verdict(holds=True, reason=Reason.SCALING_UP, message=f"{progress}; the others are starting{trouble}")
    if workload is None or not workload.is_ready or workload.wanted != role.wanted:
        sized = observation.assessment.sizings.get(kind)
        if ready >= role.wanted:
            progress += "; its Deployment is on the way to what is wanted"
        is_in_doubt = cause.reason is Reason.PODS_FAILING and "memory" in cause.message.lower()
        doubt = f"; by estimate it does not fit: {sized.reason}" if is_in_doubt and isinstance(sized, Unfit) else ""
        return Verdict(holds=False, reason=cause.reason, message=progress + trouble + doubt)
    if role.wanted == 0:
        why = f": {_DRAFTS_OFF}" if kind is Role.DRAFT and _drafts_are_off(observation) else ""
        return Verdict(holds=True, reason=Reason.SCALED_TO_ZERO, message=f"no {kind} pods are wanted{why}")
    if role.outdated_by:
        told = f"{progress}; today it would be {role.outdated_by}: `tandem refresh {observation.name}` rolls it out"
        return Verdict(holds=True, reason=Reason.REVISION_OUTDATED, message=told)
    return Verdict(holds=True, reason=Reason.PODS_READY, message=progress)


_CHECKS: Mapping[ConditionType, Callable[[Observation], Verdict]] = {
    ConditionType.ACCEPTED: _accepted,
    ConditionType.VERIFIER_READY: _verifier_ready,
    ConditionType.DRAFT_READY: _draft_ready,
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


def _measured(observation: Observation, previous: Mapping[str, Any]) -> SpeculationStatus | None:
    """Figures of the verifiers that serve now, with the drafts that they have; none without drafts."""
    verifier, draft = (observation.plan.roles.get(role) for role in (Role.VERIFIER, Role.DRAFT))
    if draft is None or not draft.wanted:
        return None
    told = previous.get("speculation")
    if verifier is None or (previous.get("verifier") or {}).get("revision") != verifier.serving:
        told = None  # of other pods
    return told_of(observation.measured, told)


def _speculation_effective(observation: Observation, measured: SpeculationStatus | None) -> Verdict:
    """What was measured, else what is predicted, where the models are known. Never a reason not to be Ready."""
    assessment = observation.assessment
    pays = is_effective(measured) if measured else None
    drafts = observation.plan.roles.get(Role.DRAFT)
    if drafts is not None and not drafts.wanted and _drafts_are_off(observation):
        message = f"no draft pods are wanted: {_DRAFTS_OFF}; when they are tried again: `tandem why {observation.name}`"
        return Verdict(holds=False, reason=Reason.NOT_WORTH_IT, message=message)
    if drafts is not None and not drafts.wanted:
        message = "no draft pods are wanted: verifiers decode without drafts"
        return Verdict(holds=False, is_known=False, reason=Reason.NO_DRAFTS, message=message)
    has_drafts = any(workload.ready for workload in observation.facts.workloads_of(Role.DRAFT))
    if measured and pays is not None and not has_drafts:
        message = (
            f"no draft pod is Ready: verifiers decode without drafts; before that {measured.speedup} × was measured"
        )
        return Verdict(holds=False, is_known=False, reason=Reason.NO_DRAFTS, message=message)
    if measured and pays is not None:
        figures = f"{measured.speedup} × the speed of steps without drafts (seen: {measured.speedup_interval})"
        figures += (
            f", {measured.acceptance_rate} of the drafted tokens accepted, {measured.tokens_per_step} tokens a step"
        )
        if pays:
            return Verdict(
                holds=True, reason=Reason.MEASURED, message=f"measured: {figures}, at depth {measured.depth}"
            )
        advice = "speculation.method Off is faster: it also saves what waiting for drafts costs the engine itself"
        return Verdict(
            holds=False, reason=Reason.NOT_WORTH_IT, message=f"measured at the best depth: {figures}; {advice}"
        )
    prediction, warnings = assessment.prediction, assessment.pair.warnings if assessment.pair else ()
    if prediction is not None:
        reason = Reason.NOT_MEASURED if prediction.is_worth_it else Reason.PREDICTED_SLOWER
        verdict = "" if prediction.is_worth_it else f", below {WORTH_IT}"
        told = f"not measured; predicted for {prediction.sentence()}{verdict}; {Assumptions().sentence()}"
    else:
        reason = Reason.NOT_MEASURED
        missing = assessment.speed.reason if isinstance(assessment.speed, Unpredictable) else NO_PREDICTION
        told = f"not measured, and not predicted: {missing}"
    return Verdict(holds=False, is_known=False, reason=reason, message="; ".join((told, *warnings)))


_DRAFTS_OFF = "verifiers have measured that drafts do not pay"


def _drafts_are_off(observation: Observation) -> bool:
    return observation.scaled is not None and observation.scaled.drafts_are_off


NO_PREDICTION = "what the drafts will be like depends on the text, or the draft's model has not been inspected"


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
        return Verdict(holds=True, reason=Reason.IDLE, message=message)
    if selected and all(w.wanted == 0 for w in selected):
        return Verdict(holds=False, reason=Reason.SCALED_TO_ZERO, message="no verifier pods are wanted")
    message = f"Service {observation.name} has no Ready verifier pod"
    return Verdict(holds=False, reason=Reason.NO_READY_VERIFIER, message=message)


def _wait(observation: Observation, condition: ConditionType) -> Wait | None:
    return next((wait for wait in observation.plan.waits if wait.condition is condition), None)


def _scaling_verdicts(told: ScalingStatus) -> dict[ConditionType, Verdict]:
    """Never a reason not to be Ready."""
    return {
        ConditionType.SCALING_ACTIVE: is_active(told),
        ConditionType.SCALING_LIMITED: is_limited(told),
        ConditionType.LATENCY_TARGET_MET: is_target_met(told),
    }


def _cold_start(seen: ColdStart | None, previous: Any) -> ColdStartStatus | None:
    """The last start: what another operator process has seen is kept until a newer one is."""
    if seen:
        seconds = {phase.value: written(value) for phase, value in seen.seconds.items()}
        return ColdStartStatus(pod=seen.pod, **seconds)
    try:
        return ColdStartStatus.model_validate(previous) if previous else None
    except ValidationError:
        return None  # somebody else wrote it


def _role_status(observation: Observation, kind: Role) -> RoleStatus | None:
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
