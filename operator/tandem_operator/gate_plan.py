"""How a deployment goes to zero and comes back: `rest_of(...)`. Pure.

To zero: the wake gate becomes Ready, the Service moves to it, the verifiers answer what they have, and go. Back: the
first verifier becomes Ready, the Service moves to it, the gate answers what it has, and goes. Each step is made from
what is there: the Service says who gets the requests, so that at no time nobody does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tandem_contracts.launch import Role
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Facts, Manifest, Ref, ServiceFacts
from tandem_operator.objects.gate import GateTerms, gate_of
from tandem_operator.objects.protection import gate_network_policy_of
from tandem_operator.objects.service import verifiers_service_of
from tandem_operator.protection_plan import Terms
from tandem_operator.rollout import DRAIN_POLL_SECONDS, Clock


@dataclass(frozen=True)
class Gatekeeping:
    """What is known of the gate when a plan is made."""

    terms: GateTerms | None = None
    """None: the spec never lets it come to zero."""
    is_idle: bool = False
    """The gate has said in two samples that it neither holds a request nor answers one."""
    reading_seconds: float = 5.0
    """In which each verifier's metrics are read anew."""

    @property
    def settled_seconds(self) -> float:
        """So long the verifiers stay after the Service has left them: until scaling would have seen that requests still
        come, by way of the gate or over connections that clients have kept.
        """
        return SETTLED_READINGS * self.reading_seconds


NO_GATE = Gatekeeping()
SETTLED_READINGS = 2


@dataclass
class Rest:
    """What may be done now on the way to zero, and back."""

    replicas: int
    """Verifiers that there have to be now, on the way to those that are wanted."""
    is_at_gate: bool = False
    """The Service selects the gate."""
    draining_since: datetime | None = None
    """Since when the verifiers answer what they have, and get nothing new."""
    has_gate: bool = False
    left_since: datetime | None = None
    """The same of the gate."""
    details: list[str] = field(default_factory=list)
    due_seconds: float = 0.0

    @classmethod
    def as_it_is(cls, facts: Facts, service: ServiceFacts | None) -> Rest:
        """Where nobody says how many verifiers there have to be."""
        return cls(0, is_at_gate=service is not None and service.is_at_gate, has_gate=bool(facts.gate.objects))


def rest_of(
    facts: Facts,
    service: ServiceFacts | None,
    *,
    wanted: int,
    keeping: Gatekeeping,
    idle: frozenset[str],
    clock: Clock,
) -> Rest:
    """The step. `wanted`: verifiers, 0 for none. `idle`: draining revisions without a request."""
    if wanted == 0 and keeping.terms is not None:
        return _to_zero(facts, service, keeping=keeping, idle=idle, clock=clock)
    return _awake(facts, service, wanted=wanted, keeping=keeping, clock=clock)


def _to_zero(
    facts: Facts, service: ServiceFacts | None, *, keeping: Gatekeeping, idle: frozenset[str], clock: Clock
) -> Rest:
    gate, is_at_gate = facts.gate, service is not None and service.is_at_gate
    there = [w for w in facts.workloads_of(Role.VERIFIER) if w.wanted > 0 and not w.is_going]
    if not there:
        return Rest(0, is_at_gate=is_at_gate or gate.is_ready, has_gate=True, due_seconds=DRAIN_POLL_SECONDS)
    rest = Rest(max(w.wanted for w in there), has_gate=True, due_seconds=DRAIN_POLL_SECONDS)
    if len(there) > 1:  # a rollout ends first
        return rest
    (workload,) = there
    if not gate.is_ready:
        rest.is_at_gate = is_at_gate and workload.ready == 0
        return rest
    rest.is_at_gate = True
    since = workload.draining_since or clock.now
    left = clock.left(since, clock.limits.drain_timeout_seconds)
    is_settled = clock.left(since, keeping.settled_seconds) <= 0
    if not is_at_gate:
        rest.draining_since = clock.now
        rest.details.append("the wake gate is Ready: the Service moves to it, and the verifiers answer what they have")
    elif workload.ready == 0 or left <= 0 or (workload.revision in idle and is_settled):
        rest.replicas = 0
        rest.details.append("no verifier has a request: none stays")
    else:
        rest.draining_since = since
    return rest


def _awake(facts: Facts, service: ServiceFacts | None, *, wanted: int, keeping: Gatekeeping, clock: Clock) -> Rest:
    gate, was_at_gate = facts.gate, service is not None and service.is_at_gate
    rest = Rest(wanted)
    if was_at_gate:
        # Where none is wanted and nothing goes to zero by itself, nobody would wake one either.
        is_served = any(w.ready for w in facts.workloads_of(Role.VERIFIER) if not w.is_going)
        rest.is_at_gate = wanted > 0 and not is_served
        if not rest.is_at_gate:
            rest.details.append("the Service moves from the wake gate to the verifiers")
    if not gate.objects:
        return rest
    rest.due_seconds = DRAIN_POLL_SECONDS
    if rest.is_at_gate:
        rest.has_gate = True
        return rest
    rest.left_since = gate.left_since or clock.now
    left = clock.left(rest.left_since, clock.limits.drain_timeout_seconds)
    rest.has_gate = was_at_gate or not (keeping.is_idle or left <= 0)
    if not rest.has_gate:
        why = "has answered its last request" if keeping.is_idle else "still had requests after rollout.drainTimeout"
        rest.details.append(f"the wake gate {why}, and goes")
    return rest


def gate_objects_of(owner: Owner, rest: Rest, keeping: Gatekeeping, *, terms: Terms) -> list[Manifest]:
    """What the gate consists of; nothing where the spec does not say any more how it is made: it stays as it is."""
    if not rest.has_gate or keeping.terms is None:
        return []
    policy = gate_network_policy_of(owner, allowed_from=terms.allowed_from, watchers=terms.watchers)
    around = [policy] if terms.is_spec_known else []
    return [*around, verifiers_service_of(owner), gate_of(owner, keeping.terms, left_since=rest.left_since)]


def superfluous_gate(facts: Facts, rest: Rest) -> dict[Ref, str]:
    """What is there of a gate that is to go, with the uids."""
    return {} if rest.has_gate else dict(facts.gate.objects)
