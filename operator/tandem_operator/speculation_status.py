"""What status says of speculation: whether drafts pay, and how they are asked. Never a reason not to be Ready. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator.api.status import (
    SpeculationStatus,
)
from tandem_operator.measured_speculation import is_effective, told_of
from tandem_operator.names import Reason
from tandem_operator.observation import Observation
from tandem_operator.speed import WORTH_IT, Assumptions, Unpredictable
from tandem_operator.verdict import Verdict


def draft_transport(observation: Observation) -> Verdict | None:
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


def measured_by(observation: Observation, previous: Mapping[str, Any]) -> SpeculationStatus | None:
    """Figures of the verifiers that serve now, with the drafts that they have; none without drafts."""
    verifier, draft = (observation.plan.roles.get(role) for role in (Role.VERIFIER, Role.DRAFT))
    if draft is None or not draft.wanted:
        return None
    told = previous.get("speculation")
    if verifier is None or (previous.get("verifier") or {}).get("revision") != verifier.serving:
        told = None  # of other pods
    return told_of(observation.measured, told)


def speculation_effective(observation: Observation, measured: SpeculationStatus | None) -> Verdict:
    """What was measured, else what is predicted, where the models are known. Never a reason not to be Ready."""
    assessment = observation.assessment
    pays = is_effective(measured) if measured else None
    drafts = observation.plan.roles.get(Role.DRAFT)
    if drafts is not None and not drafts.wanted and drafts_are_off(observation):
        message = f"no draft pods are wanted: {DRAFTS_OFF}; when they are tried again: `tandem why {observation.name}`"
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


DRAFTS_OFF = "verifiers have measured that drafts do not pay"


def drafts_are_off(observation: Observation) -> bool:
    return observation.scaled is not None and observation.scaled.drafts_are_off


NO_PREDICTION = "what the drafts will be like depends on the text, or the draft's model has not been inspected"
