"""Scaling of each autoscaled deployment, pass by pass: what was decided, what is remembered, when it is written down.

Holds memory, and does nothing itself: the pass acts on the decisions. What a restart of the operator must not lose is
in a ConfigMap, which is written when replicas change, and else every SAVE_SECONDS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import scaling_figures
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.deployment import Owner
from tandem_operator.deletion_costs import Load, load_of
from tandem_operator.draft_scalings import DraftScalings, Verifiers
from tandem_operator.engine_readings import DraftingReadings
from tandem_operator.facts import Facts, Manifest, Ref
from tandem_operator.gate_plan import Gatekeeping
from tandem_operator.gate_readings import GateReadings
from tandem_operator.objects.scaling_memory import as_applied, remembered_in, scaling_memory_of
from tandem_operator.plan import Apply, Deletion, Plan
from tandem_operator.readings_source import Readings
from tandem_operator.scaled_role import ScaledRole, memory_in
from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy
from tandem_operator.scaling_status import Scaled
from tandem_operator.scaling_terms import addresses_of, observed_of
from tandem_operator.serving_cost import cost_of
from tandem_operator.store import Key, Store
from tandem_operator.targets import Intent

SAVE_SECONDS = 300.0


@dataclass
class _Scaled:
    role: ScaledRole
    memory: Memory
    saved_at: float = float("-inf")
    saved: Manifest | None = None
    policy: Policy | None = None
    asked_at: datetime | None = None
    """When the spec has asked for another policy."""
    loads: Mapping[str, Load] = field(default_factory=dict)
    """By pod, of those alone whose readings were new enough to decide by."""


class Scalings:
    """Of all deployments."""

    def __init__(
        self,
        store: Store,
        readings: Readings,
        drafting: DraftingReadings,
        gates: GateReadings,
        *,
        table: Mapping[str, AcceleratorClass],
    ) -> None:
        self._store, self._readings, self._gates, self._table = store, readings, gates, table
        self._drafts = DraftScalings(store, drafting)
        self._scaled: dict[Key, _Scaled] = {}

    def interval_seconds(self, key: Key) -> float:
        """In which a pass is due."""
        return self._readings.interval_seconds(key)

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        self._gates.forget(key)
        self._forget_scaling(key)

    def _forget_scaling(self, key: Key) -> None:
        """Something else scales it; a gate that there still is has requests to answer."""
        self._readings.forget(key)
        self._drafts.forget(key)
        if self._scaled.pop(key, None) is not None:
            scaling_figures.forget(key)

    async def close(self) -> None:
        """End the connections to whoever is read."""
        await self._readings.close()
        await self._drafts.close()
        await self._gates.close()

    def keeping(self, key: Key, intent: Intent, facts: Facts) -> Gatekeeping:
        """What is known of the wake gate."""
        self._gates.latest(key, facts.gate.addresses)
        if not facts.gate.objects:
            self._gates.forget(key)
        return Gatekeeping(
            intent.gate, is_idle=self._gates.is_idle(key), reading_seconds=self._readings.interval_seconds(key)
        )

    def scale(
        self, key: Key, intent: Intent, facts: Facts, *, owner_uid: str, now: datetime
    ) -> tuple[Intent, Scaled | None]:
        """The intent with as many verifiers as the load asks for, and as many drafts as they do, where something is to
        be scaled.
        """
        policy = intent.scaling
        if policy is None:
            # A spec that is refused says nothing of scaling: what is known is kept until it does.
            if intent.problem is None:
                self._forget_scaling(key)
            return intent, None
        scaled = self._scaled.get(key)
        if scaled is None:
            there = memory_in(self._store, key, owner_uid)
            scaled = self._scaled[key] = _restored(there, facts, first=intent.first_replicas)
            if there is not None:  # written anew when that is due, and not for a restart
                scaled.saved, scaled.saved_at = as_applied(there), now.timestamp()
        if scaled.policy is not None and scaled.policy != policy:
            scaled.asked_at = now
            if scaled.policy.target != policy.target:  # what missed another target says nothing of this one
                scaled.memory = replace(scaled.memory, derate=1.0)
        scaled.policy = policy
        conflict = scaled.role.yielded(facts, policy.bounds, now=now, is_paused=policy.is_paused)
        if conflict:
            policy = replace(policy, is_paused=True)
        seen, decision = self._decided(key, scaled, policy, facts=facts, now=now)
        cost = cost_of(facts, decision.figures, table=self._table)
        scaling_figures.show(key, decision, cost, policy=policy)
        verifiers = Verifiers(seen, decision.replicas, decision.figures.cold_start_seconds)
        intent = intent.scaled(decision.replicas)
        intent, drafts = self._drafts.scale(key, intent, facts, verifiers=verifiers, owner_uid=owner_uid, now=now)
        told = Scaled(
            policy,
            decision,
            changed=scaled.role.changed_at,
            asked=scaled.asked_at,
            decisions=tuple(scaled.role.decisions),
            cost=cost,
            conflict=conflict,
            drafts=drafts,
            unheeded=intent.unheeded,
        )
        return intent, told

    def _decided(
        self, key: Key, scaled: _Scaled, policy: Policy, *, facts: Facts, now: datetime
    ) -> tuple[Observed, Decision]:
        readings = self._readings.latest(key, addresses_of(facts, Role.VERIFIER))
        seen = observed_of(
            facts,
            readings,
            wanted=scaled.role.replicas,
            now=now,
            interval_seconds=self._readings.interval_seconds(key),
            gate=self._gates.latest(key, facts.gate.addresses),
            trouble=self._readings.trouble(key),
        )
        decision, scaled.memory = decide(policy, seen, scaled.memory)
        scaled.loads = {name: load_of(each) for name, each in seen.readings.items() if seen.is_fresh(name)}
        if decision.replicas != scaled.role.replicas:
            inputs = _inputs_of(decision, waiting=seen.waiting)
            scaled.role.change(key, decision.replicas, reason=decision.reason, inputs=inputs, now=now)
        return seen, decision

    def loads(self, key: Key) -> Mapping[str, Load]:
        """What the last decisions have seen of what pods do, by pod of both roles; nothing where nothing is scaled."""
        scaled = self._scaled.get(key)
        return {**scaled.loads, **self._drafts.loads(key)} if scaled else {}

    def remembered_by(self, planned: Plan, key: Key, owner: Owner, *, intent: Intent, now: datetime) -> Plan:
        """The plan with the ConfigMap in which scaling remembers, which goes where nothing is scaled any more."""
        scaled = self._scaled.get(key)
        if scaled is not None:
            return replace(planned, apply=(*planned.apply, Apply(self._memory_of(key, scaled, owner, now=now))))
        there = memory_in(self._store, key, owner.uid)
        if there is None or intent.problem:
            return planned
        return replace(planned, delete=(*planned.delete, Deletion(Ref.of(there), there["metadata"]["uid"], "")))

    def _memory_of(self, key: Key, scaled: _Scaled, owner: Owner, *, now: datetime) -> Manifest:
        """The ConfigMap as it was written last, until it is due to be written anew."""
        is_due = not 0 <= now.timestamp() - scaled.saved_at < SAVE_SECONDS
        if scaled.saved is None or is_due or scaled.role.is_news or self._drafts.is_news(key, scaled.saved):
            scaled.role.is_news = False
            data: dict[Role, Mapping[str, Any]] = {
                Role.VERIFIER: {**scaled.role.to_data(), "memory": scaled.memory.to_data()}
            }
            drafts = self._drafts.remembered(key)
            if drafts is not None:
                data[Role.DRAFT] = drafts
            scaled.saved, scaled.saved_at = scaling_memory_of(owner, data), now.timestamp()
        return scaled.saved


def _inputs_of(decision: Decision, *, waiting: float) -> Mapping[str, str]:
    """The figures that a decision was made by, for a person."""
    figures = decision.figures
    shares = {"firstToken": figures.first_token_attainment, "outputToken": figures.output_token_attainment}
    told = {
        "requests": f"{figures.requests_rate:.2f}",
        "surge": f"{figures.surge_rate:.2f}",
        "waiting": f"{waiting:.0f}",
        "coldStart": f"{figures.cold_start_seconds:.0f}",
    }
    if decision.is_learned:
        told |= {"capacity": f"{figures.capacity_rate:.2f}", "samples": str(figures.samples)}
    if figures.output_tokens:
        told |= {"prompt": f"{figures.prompt_tokens:.0f}", "output": f"{figures.output_tokens:.0f}"}
    return told | {key: f"{100 * share:.1f}" for key, share in shares.items() if share is not None}


def _restored(there: Manifest | None, facts: Facts, *, first: int) -> _Scaled:
    data = remembered_in(there)
    try:
        memory = Memory.from_data(data.get("memory") or {})
    except ValueError:  # of another version, or written by somebody: it is learned anew
        memory = Memory()
    return _Scaled(ScaledRole.restored(Role.VERIFIER, data, facts, first=first), memory)
