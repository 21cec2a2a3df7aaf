"""What status says of scaling: the decision in figures and one sentence, and its conditions. Pure.

The figures move all the time. They are written anew when something is decided, soon after a steady condition has
changed, and else every TOLD_SECONDS: a deployment under constant load causes no more writes than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil, floor, inf
from typing import Any

from pydantic import ValidationError

from tandem_contracts.launch import Role
from tandem_operator.api.status import (
    CHANGES_TOLD,
    REASON_LENGTH,
    AttainmentStatus,
    CostStatus,
    ScalingChange,
    ScalingStatus,
)
from tandem_operator.names import ConditionType, Reason
from tandem_operator.objects.event import Rescaled
from tandem_operator.scaling.decision import Decision, Health, Limited
from tandem_operator.scaling.drafts import DraftDecision, DraftPolicy
from tandem_operator.scaling.policy import Bounds, Policy, Target
from tandem_operator.serving_cost import Cost
from tandem_operator.timestamps import timestamp_of
from tandem_operator.verdict import Verdict

TOLD_SECONDS = 300.0
PAUSED, CONFLICT, OFF = "Paused", "Conflict", "Off"
NEWS_TOLD_SECONDS = 60.0
"""That a condition has come to hold, or holds no more, that other pods cost something, and another reason for
deciding nothing, is told at most so often."""
STEADY_SECONDS, MOVING_SECONDS = 3600.0, 600.0
"""A condition that was another more recently is no news: noise would write it each minute. Not so for its first turn
after a change of replicas, or of what the spec asks for: it shows what that was good for, and comes so soon or not at
all."""


@dataclass(frozen=True)
class ScaledDrafts:
    """What scaling has decided for the drafts, and by what."""

    policy: DraftPolicy
    decision: DraftDecision
    conflict: str = ""
    """Who else scales them, so that this one does not."""
    decisions: Sequence[Mapping[str, Any]] = ()
    """As of `Scaled`."""

    @property
    def health(self) -> str:
        """In a word."""
        if self.conflict:
            return CONFLICT
        if self.policy.is_paused:
            return PAUSED
        return OFF if self.decision.is_off else self.decision.health.value


@dataclass(frozen=True)
class Scaled:
    """What scaling has decided for the verifiers, and by what."""

    policy: Policy
    decision: Decision
    changed: datetime | None = None
    """When replicas changed last, if that is known."""
    asked: datetime | None = None
    """When the spec has last asked for something else than before, if this process has seen it."""
    decisions: Sequence[Mapping[str, Any]] = ()
    """The last ones that changed something, the oldest first, as they are remembered: somebody may have spoilt them."""
    cost: Cost | None = None
    """None: not known."""
    conflict: str = ""
    """Who else scales, so that this one does not."""
    drafts: ScaledDrafts | None = None
    """None where their number is the spec's."""
    unheeded: str = ""
    """What somebody has asked for that scaling takes no notice of."""

    def bounds_of(self, role: Role) -> Bounds | None:
        """Within which replicas of a role follow the load; None where the spec says how many there are."""
        if role is Role.VERIFIER:
            return self.policy.bounds
        return self.drafts.policy.bounds if self.drafts else None

    @property
    def drafts_are_off(self) -> bool:
        """Whether there are few drafts, or none, since they do not pay."""
        return self.drafts is not None and self.drafts.health == OFF


def told_of_scaling(scaled: Scaled, previous: Mapping[str, Any], *, now: datetime) -> ScalingStatus:
    """The figures of the previous status while they still say what matters."""
    told, before = _status_of(scaled, now), _before(previous)
    if before is None:
        return told
    if told.health == Health.NEW and before.desired_verifiers == told.desired_verifiers:
        return before  # what an earlier process has said is still the best there is
    if _decided(before) != _decided(told) or _asks_for_something_else(before, told):
        return told
    if scaled.asked and before.updated <= timestamp_of(scaled.asked):
        return told  # the sentence is to follow what is asked for
    age = _seconds_since(before.updated, now)
    known = [at for at in (scaled.changed, scaled.asked) if at]
    changed = min(((now - at).total_seconds() for at in known), default=inf)
    is_news = _is_news(before, told, previous, now, changed=changed)
    is_due = age >= (NEWS_TOLD_SECONDS if is_news else TOLD_SECONDS)
    return told if is_due or age < 0 else before


def _before(previous: Mapping[str, Any]) -> ScalingStatus | None:
    try:
        return ScalingStatus.model_validate(previous["scaling"]) if previous.get("scaling") else None
    except ValidationError:
        return None  # somebody else wrote it


def _decided(told: ScalingStatus) -> tuple[object, ...]:
    """What is told at once: how many there are to be, and that nobody decides."""
    undecided = {Health.NEW, Health.NO_PODS, PAUSED, CONFLICT}
    healths = (health if health in undecided else "" for health in (told.health, told.draft_health))
    return told.desired_verifiers, told.desired_drafts, told.draft_health == OFF, *healths


def _asks_for_something_else(before: ScalingStatus, told: ScalingStatus) -> bool:
    """Whether requests were compared with other targets than now: the verdict would be beside what is asked for."""
    return bool(before.attainment and told.attainment and before.attainment.asked != told.attainment.asked)


def _is_news(
    before: ScalingStatus, told: ScalingStatus, previous: Mapping[str, Any], now: datetime, *, changed: float
) -> bool:
    """Whether it is to be told soon. `changed`: seconds since replicas did, or what is asked for."""
    is_idle = told.health in {Health.BLIND, Health.NO_PODS, CONFLICT}
    if _per_hour(before) != _per_hour(told) or (
        is_idle and before.health == told.health and before.reason != told.reason
    ):
        return True
    is_first = before.health == Health.GOOD and before.target == "Unknown"  # no requests until now
    is_mended = before.health == Health.BLIND != told.health
    turned = {c["type"]: _seconds_since(c["lastTransitionTime"], now) for c in previous.get("conditions") or []}
    was = _truths(before)
    return any(
        was[kind] != truth and (is_first or is_mended or _is_turn_told(turned.get(kind, inf), changed))
        for kind, truth in _truths(told).items()
    )


def _truths(told: ScalingStatus) -> dict[ConditionType, tuple[bool, bool]]:
    """Of the conditions of scaling, whether each holds, and whether that is known."""
    return {kind: (each.holds, each.is_known) for kind, each in scaling_verdicts(told).items()}


def _is_turn_told(turned: float, changed: float) -> bool:
    """Whether another turn of a condition is news, so many seconds after its last one, and after something changed."""
    return turned >= STEADY_SECONDS or (changed < MOVING_SECONDS and turned >= changed)


def _seconds_since(written: str, now: datetime) -> float:
    """Infinitely many since what nobody can read."""
    try:
        return (now - datetime.fromisoformat(written)).total_seconds()
    except ValueError:
        return inf


def _status_of(scaled: Scaled, now: datetime) -> ScalingStatus:
    decision, policy, drafts = scaled.decision, scaled.policy, scaled.drafts
    figures = decision.figures
    shares = (figures.first_token_attainment, figures.output_token_attainment)
    known = [share for share in shares if share is not None]
    is_met = all(share + figures.attainment_error >= policy.target.share for share in known)
    return ScalingStatus(
        desired_verifiers=decision.replicas,
        reason=(scaled.conflict or decision.reason)[:REASON_LENGTH],
        desired_drafts=drafts.decision.replicas if drafts else None,
        draft_reason=(drafts.conflict or drafts.decision.reason)[:REASON_LENGTH] if drafts else None,
        draft_health=drafts.health if drafts else None,
        health=_health(scaled),
        limited=decision.limited.value or None,
        target=("Met" if is_met else "Missed") if known else "Unknown",
        attainment=AttainmentStatus(
            asked=_asked(policy.target),
            time_to_first_token=_percent(shares[0]),
            time_per_output_token=_percent(shares[1]),
            at_most_wrong_by=f"{ceil(1000 * figures.attainment_error - 1e-9) / 10:.1f}"
            if figures.attainment_error
            else None,
        )
        if known
        else None,
        requests_per_second=_short(figures.requests_rate),
        surge_per_second=_short(figures.surge_rate),
        capacity_per_second=_short(figures.capacity_rate) if figures.capacity_rate else None,
        cold_start=f"{figures.cold_start_seconds:.0f}s",
        cost=_cost(scaled.cost) if scaled.cost else None,
        last_scale_time=timestamp_of(scaled.changed) if scaled.changed else None,
        changes=_changes(scaled) or None,
        updated=timestamp_of(now),
    )


def _changes(scaled: Scaled) -> tuple[ScalingChange, ...]:
    """The last ones of both roles, the newest first."""
    remembered = {Role.VERIFIER: scaled.decisions, Role.DRAFT: scaled.drafts.decisions if scaled.drafts else ()}
    found = []
    for role, decisions in remembered.items():
        for each in decisions[-CHANGES_TOLD:]:
            told = {"role": role, **{key: each.get(key) for key in ("at", "from", "to")}}
            try:
                found.append(
                    ScalingChange.model_validate({**told, "reason": str(each.get("reason") or "")[:REASON_LENGTH]})
                )
            except ValidationError:
                continue  # somebody else wrote it
    return tuple(sorted(found, key=lambda change: change.at, reverse=True)[:CHANGES_TOLD])


def _cost(cost: Cost) -> CostStatus:
    tokens, output_tokens = cost.per_million_tokens, cost.per_million_output_tokens
    return CostStatus(
        per_hour=_money(cost.per_hour),
        per_million_tokens=None if tokens is None else _money(tokens),
        per_million_output_tokens=None if output_tokens is None else _money(output_tokens),
    )


def _per_hour(told: ScalingStatus) -> str:
    return told.cost.per_hour if told.cost else ""


def _money(amount: float) -> str:
    return f"{amount:.2f}" if amount >= 0.1 or not amount else f"{amount:.4f}"


def _health(scaled: Scaled) -> str:
    if scaled.conflict:
        return CONFLICT
    return PAUSED if scaled.policy.is_paused else scaled.decision.health.value


def scaling_verdicts(told: ScalingStatus, *, unheeded: str = "") -> dict[ConditionType, Verdict]:
    """The conditions of scaling. None of them is ever a reason not to be Ready. `unheeded`: as of `Scaled`."""
    active = _is_active(told)
    if unheeded:
        active = replace(active, message=f"{active.message}; {unheeded}")
    return {
        ConditionType.SCALING_ACTIVE: active,
        ConditionType.SCALING_LIMITED: _is_limited(told),
        ConditionType.LATENCY_TARGET_MET: _is_target_met(told),
    }


def _is_active(told: ScalingStatus) -> Verdict:
    """Whether replicas follow the load."""
    if CONFLICT in {told.health, told.draft_health}:
        found = told.reason if told.health == CONFLICT else told.draft_reason
        return Verdict(holds=False, reason=Reason.SCALING_CONFLICT, message=found or "")
    if told.health == PAUSED:
        paused = f"spec.autoscaling.paused: replicas stay as they are; verifiers {told.reason}"
        drafts = f"; drafts {told.draft_reason}" if told.draft_reason else ""
        return Verdict(holds=False, reason=Reason.PAUSED, message=f"{paused}{drafts}")
    if told.health in {Health.NEW, Health.NO_PODS}:
        return Verdict(holds=True, reason=Reason.NO_READY_VERIFIER, message=told.reason)
    if told.health == Health.BLIND:
        return Verdict(holds=False, reason=Reason.METRICS_MISSING, message=told.reason)
    if told.health == Health.PARTIAL:
        return Verdict(holds=True, reason=Reason.METRICS_INCOMPLETE, message=f"up alone: {told.reason}")
    if told.draft_health == Health.BLIND:
        return Verdict(holds=True, reason=Reason.METRICS_INCOMPLETE, message=f"drafts: {told.draft_reason}")
    return Verdict(holds=True, reason=Reason.DECIDING, message=told.reason)


def _is_limited(told: ScalingStatus) -> Verdict:
    """Whether the load asks for something else than may be had."""
    words: Mapping[str | None, tuple[Reason, str]] = {
        Limited.AT_MOST.value: (Reason.AT_MAXIMUM, f"maxReplicas, {told.desired_verifiers}, are not enough"),
        Limited.AT_LEAST.value: (Reason.AT_MINIMUM, f"fewer than minReplicas, {told.desired_verifiers}, would do"),
        Limited.BEHAVIOR.value: (Reason.LIMITED_BY_BEHAVIOR, "spec.autoscaling.behavior allows no more at once"),
    }
    reason, message = words.get(told.limited, (Reason.NOT_LIMITED, _unlimited(told)))
    return Verdict(holds=told.limited is not None, reason=reason, message=message)


_NOT_ASKED = {
    PAUSED: "the load is not asked while spec.autoscaling.paused",
    CONFLICT: "the load is not asked while somebody else writes the replicas",
    Health.BLIND.value: "what the load asks for is not known",
    Health.NEW.value: "what the load asks for is not known yet",
    Health.NO_PODS.value: "what the load asks for is not known while no verifier is Ready",
}
"""By health, why nothing can be limited: nothing is asked for."""


def _unlimited(told: ScalingStatus) -> str:
    why = _NOT_ASKED.get(told.health)
    return (
        f"nothing is limited: {why}" if why else "neither bounds nor policies keep replicas from what the load asks for"
    )


def _is_target_met(told: ScalingStatus) -> Verdict:
    """Whether requests of the last minutes kept the target."""
    if told.target == "Unknown":
        told_none = "no request came lately"
        return Verdict(holds=False, reason=Reason.NO_REQUESTS, message=told_none, is_known=False)
    shares = told.attainment or AttainmentStatus()
    named = {"time to first token": shares.time_to_first_token, "time per output token": shares.time_per_output_token}
    message = "in time: " + ", ".join(f"{name} {share} %" for name, share in named.items() if share)
    if shares.at_most_wrong_by:
        message += f" (wrong by {shares.at_most_wrong_by} points at most)"
    if shares.asked:
        message += f"; asked for {shares.asked}"
    is_met = told.target == "Met"
    return Verdict(holds=is_met, reason=Reason.TARGET_MET if is_met else Reason.TARGET_MISSED, message=message)


def rescaled(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Rescaled, ...]:
    """Of which roles scaling wants another number now than the status before said; each deserves an event.

    What somebody else has written is nothing that scaling has decided, and what it begins with is no change.
    """
    before, after = previous.get("scaling") or {}, status.get("scaling") or {}
    found = []
    for role, (count, reason, health) in _TOLD_OF_ROLES.items():
        was, now = before.get(count), after.get(count)
        if isinstance(was, int) and isinstance(now, int) and was != now and after.get(health) != CONFLICT:
            found.append(Rescaled(role, was, now, after.get(reason) or ""))
    return tuple(found)


_TOLD_OF_ROLES = {
    Role.VERIFIER: ("desiredVerifiers", "reason", "health"),
    Role.DRAFT: ("desiredDrafts", "draftReason", "draftHealth"),
}
"""Where status has the number, why, and whether scaling could decide."""


def _asked(target: Target) -> str:
    first, output = target.first_token_seconds, target.output_token_seconds
    limits = [f"{first:g} s to the first token"] if first else []
    limits += [f"{output:g} s for each further one"] if output else []
    return f"{target.percentile:g} %: {', '.join(limits)}"


def _percent(share: float | None) -> str | None:
    """Rounded down: what falls short of a target by little must not look like the target."""
    return None if share is None else f"{floor(1000 * share + 1e-9) / 10:.1f}"


def _short(rate: float) -> str:
    return f"{rate:.2f}"
