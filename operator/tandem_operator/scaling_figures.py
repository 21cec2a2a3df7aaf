"""Prometheus metrics of scaling: what was decided for each autoscaled deployment last, and by what. Decides nothing."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from tandem_contracts.launch import Role
from tandem_operator.scaling.decision import Decision, Health
from tandem_operator.scaling.drafts import DraftDecision
from tandem_operator.scaling.policy import Bounds, Policy
from tandem_operator.serving_cost import Cost
from tandem_operator.store import Key

_LABELS = ["namespace", "deployment"]
_OF_ROLE = [*_LABELS, "role"]
DESIRED = Gauge("tandem_scaling_desired_replicas", "Replicas of a role that are wanted.", _OF_ROLE)
DEMAND = Gauge("tandem_scaling_requests_per_second", "Requests that arrive.", _LABELS)
SURGE = Gauge("tandem_scaling_surge_per_second", "More of them that one cold start may bring.", _LABELS)
CAPACITY = Gauge(
    "tandem_scaling_replica_requests_per_second",
    "That a replica does within the target; absent until learned.",
    _LABELS,
)
COLD_START = Gauge("tandem_scaling_cold_start_seconds", "Of most replicas, from being made to Ready.", _LABELS)
ATTAINMENT = Gauge(
    "tandem_scaling_attainment_ratio", "Share of the last minutes' requests within a target.", [*_LABELS, "target"]
)
TARGET = Gauge("tandem_scaling_target_seconds", "What a share of the requests has to keep.", [*_LABELS, "target"])
TARGET_SHARE = Gauge("tandem_scaling_target_ratio", "That share.", _LABELS)
BOUND = Gauge("tandem_scaling_replicas_bound", "Fewest and most replicas.", [*_OF_ROLE, "bound"])
COST = Gauge(
    "tandem_scaling_cost_per_hour", "Of all pods, in the currency of the accelerator table: US dollars.", _LABELS
)
TOKEN_COST = Gauge(
    "tandem_scaling_cost_per_million_tokens", "The same over the tokens served: all, or output.", [*_LABELS, "tokens"]
)
BLIND = Gauge("tandem_scaling_blind", "1 while too few pods say anything for replicas to change.", _OF_ROLE)
CHANGES = Counter("tandem_scaling_changes_total", "Times that replicas were changed.", [*_OF_ROLE, "direction"])
DRAFT_DEMAND = Gauge("tandem_scaling_draft_tokens_per_second", "Draft tokens that verifiers ask for.", _LABELS)
DRAFT_CAPACITY = Gauge("tandem_scaling_draft_replica_tokens_per_second", "That a busy draft gives.", _LABELS)
DRAFTS_OFF = Gauge("tandem_scaling_drafts_off", "1 while drafts do not pay, as verifiers have measured.", _LABELS)
_OF_BOTH, _PLAIN = (DESIRED, BLIND), (DEMAND, SURGE, CAPACITY, COLD_START)
_OF_DRAFTS = (DRAFT_DEMAND, DRAFT_CAPACITY, DRAFTS_OFF)
_TARGETS = ("timeToFirstToken", "timePerOutputToken")
_TOKENS = ("all", "output")
_BOUNDS = ("min", "max")
_UP, _DOWN = "up", "down"


def show(key: Key, decision: Decision, cost: Cost | None, *, policy: Policy) -> None:
    """Export a decision on verifiers, by which policy, and what the pods cost where that is known."""
    figures, latencies, labels = decision.figures, policy.target, _of(key)
    _show_role(key, policy.bounds, Role.VERIFIER)
    TARGET_SHARE.labels(*labels).set(latencies.share)
    for kind, seconds in zip(_TARGETS, (latencies.first_token_seconds, latencies.output_token_seconds), strict=True):
        _set_or_drop(TARGET, seconds, *labels, kind)
    DESIRED.labels(*labels, Role.VERIFIER.value).set(decision.replicas)
    DEMAND.labels(*labels).set(figures.requests_rate)
    SURGE.labels(*labels).set(figures.surge_rate)
    _set_or_drop(CAPACITY, figures.capacity_rate or None, *labels)
    COLD_START.labels(*labels).set(figures.cold_start_seconds)
    BLIND.labels(*labels, Role.VERIFIER.value).set(decision.health is Health.BLIND)
    shares = (figures.first_token_attainment, figures.output_token_attainment)
    for target, share in zip(_TARGETS, shares, strict=True):
        _set_or_drop(ATTAINMENT, share, *labels, target)
    _set_or_drop(COST, cost.per_hour if cost else None, *labels)
    of_tokens = (cost.per_million_tokens, cost.per_million_output_tokens) if cost else (None, None)
    for tokens, per_million in zip(_TOKENS, of_tokens, strict=True):
        _set_or_drop(TOKEN_COST, per_million, *labels, tokens)


def show_drafts(key: Key, decision: DraftDecision, bounds: Bounds) -> None:
    """Export a decision on drafts."""
    labels = _of(key)
    _show_role(key, bounds, Role.DRAFT)
    DESIRED.labels(*labels, Role.DRAFT.value).set(decision.replicas)
    BLIND.labels(*labels, Role.DRAFT.value).set(decision.health is Health.BLIND)
    DRAFTS_OFF.labels(*labels).set(decision.is_off)
    for gauge, rate in ((DRAFT_DEMAND, decision.tokens_rate), (DRAFT_CAPACITY, decision.capacity_rate)):
        _set_or_drop(gauge, rate, *labels)


def count_change(key: Key, *, before: int, after: int, role: Role) -> None:
    """Count that replicas have changed."""
    CHANGES.labels(*_of(key), role.value, _UP if after > before else _DOWN).inc()


def forget(key: Key) -> None:
    """Export nothing of a deployment that is scaled no more."""
    for gauge in (*_PLAIN, COST, TARGET_SHARE):
        _drop(gauge, *_of(key))
    _forget_role(key, Role.VERIFIER)
    for target in _TARGETS:
        _drop(ATTAINMENT, *_of(key), target)
        _drop(TARGET, *_of(key), target)
    for tokens in _TOKENS:
        _drop(TOKEN_COST, *_of(key), tokens)


def _set_or_drop(gauge: Gauge, value: float | None, *labels: str) -> None:
    if value is None:
        _drop(gauge, *labels)
    else:
        gauge.labels(*labels).set(value)


def forget_drafts(key: Key) -> None:
    """Export nothing of a deployment whose drafts are scaled no more."""
    for gauge in _OF_DRAFTS:
        _drop(gauge, *_of(key))
    _forget_role(key, Role.DRAFT)


def _show_role(key: Key, bounds: Bounds, role: Role) -> None:
    """What is known of any role that is scaled. Changes are 0 before the first one: from nothing nothing increases."""
    for direction in (_UP, _DOWN):
        CHANGES.labels(*_of(key), role.value, direction)
    for bound, replicas in zip(_BOUNDS, (bounds.least, bounds.most), strict=True):
        BOUND.labels(*_of(key), role.value, bound).set(replicas)


def _forget_role(key: Key, role: Role) -> None:
    for gauge in _OF_BOTH:
        _drop(gauge, *_of(key), role.value)
    for bound in _BOUNDS:
        _drop(BOUND, *_of(key), role.value, bound)
    for direction in (_UP, _DOWN):
        _drop(CHANGES, *_of(key), role.value, direction)


def _of(key: Key) -> tuple[str, str]:
    return key.namespace, key.name


def _drop(metric: Gauge | Counter, *labels: str) -> None:
    try:
        metric.remove(*labels)
    except KeyError:
        return
