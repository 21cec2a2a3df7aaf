"""Scaling of each autoscaled deployment, pass by pass: what was decided, what is remembered, when it is written down.

Holds memory, and does nothing itself: the pass acts on the decisions. What a restart of the operator must not lose is
in a ConfigMap, which is written when replicas change, and else every SAVE_SECONDS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names, scaling_figures
from tandem_operator.api.deployment import Owner
from tandem_operator.draft_scalings import DraftScalings, Verifiers
from tandem_operator.engine_readings import DraftingReadings
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid
from tandem_operator.gate_plan import Gatekeeping
from tandem_operator.gate_readings import GateReadings
from tandem_operator.objects.scaling_memory import remembered_in, scaling_memory_of, scaling_memory_ref
from tandem_operator.plan import Apply, Deletion, Plan
from tandem_operator.readings_source import Readings
from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy
from tandem_operator.scaling_status import Scaled
from tandem_operator.scaling_terms import TakenOver, addresses_of, observed_of, taken_over
from tandem_operator.store import Key, Store
from tandem_operator.targets import Intent
from tandem_operator.timestamps import timestamp_of

SAVE_SECONDS = 300.0
DECISIONS_KEPT = 20


@dataclass
class _Scaled:
    memory: Memory
    replicas: int
    decisions: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=DECISIONS_KEPT))
    """Of which each changed something, the oldest first."""
    saved_at: float = float("-inf")
    saved: Manifest | None = None
    taken_over: TakenOver | None = None


class Scalings:
    """Of all deployments."""

    def __init__(self, store: Store, readings: Readings, drafting: DraftingReadings, gates: GateReadings) -> None:
        self._store, self._readings, self._gates = store, readings, gates
        self._drafts = DraftScalings(store, drafting)
        self._scaled: dict[Key, _Scaled] = {}

    @property
    def interval_seconds(self) -> float:
        """In which a pass is due for each."""
        return self._readings.interval_seconds

    def forget(self, key: Key) -> None:
        """The deployment is gone, or something else scales it."""
        self._readings.forget(key)
        self._gates.forget(key)
        self._drafts.forget(key)
        if self._scaled.pop(key, None) is not None:
            scaling_figures.forget(key.name)

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
        return Gatekeeping(intent.gate, is_idle=self._gates.is_idle(key))

    def scale(self, key: Key, intent: Intent, facts: Facts, *, now: datetime) -> tuple[Intent, Scaled | None]:
        """The intent with as many verifiers as the load asks for, and as many drafts as they do, where something is to
        be scaled.
        """
        policy = intent.scaling
        if policy is None:
            # A spec that is refused says nothing of scaling: what is known is kept until it does.
            if intent.problem is None:
                self.forget(key)
            return intent, None
        scaled = self._scaled.get(key)
        if scaled is None:
            there = self._store.child(Ref("ConfigMap", names.scaling_name(key.name)), key.namespace)
            scaled = self._scaled[key] = _restored(there, intent.first_replicas)
        other = scaled.taken_over = taken_over(facts, scaled.taken_over, now=now)
        is_theirs = other is not None and other.lasts(now)
        if other is not None and is_theirs:
            policy = replace(policy, is_paused=True)
            scaled.replicas = other.replicas
        seen, decision = self._decided(key, scaled, policy, facts=facts, now=now)
        verifiers = Verifiers(seen, decision.replicas, decision.figures.cold_start_seconds)
        intent = intent.scaled(decision.replicas)
        intent, drafts = self._drafts.scale(key, intent, facts, verifiers=verifiers, now=now)
        if other is not None and is_theirs:
            told = f"{other.ref.kind} {other.ref.name}: its replicas were written by {other.by}"
            return intent, Scaled(policy, decision, _changed(scaled), conflict=told, drafts=drafts)
        return intent, Scaled(policy, decision, _changed(scaled), drafts=drafts)

    def _decided(
        self, key: Key, scaled: _Scaled, policy: Policy, *, facts: Facts, now: datetime
    ) -> tuple[Observed, Decision]:
        seen = observed_of(
            facts,
            self._readings.latest(key, addresses_of(facts, Role.VERIFIER)),
            wanted=scaled.replicas,
            now=now,
            interval_seconds=self._readings.interval_seconds,
            gate=self._gates.latest(key, facts.gate.addresses),
            trouble=self._readings.trouble(key),
        )
        decision, scaled.memory = decide(policy, seen, scaled.memory)
        if decision.replicas != scaled.replicas:
            scaled.decisions.append(
                {
                    "at": timestamp_of(now),
                    "from": scaled.replicas,
                    "to": decision.replicas,
                    "reason": decision.reason,
                    "inputs": _inputs_of(decision, waiting=seen.waiting),
                }
            )
            scaling_figures.count_change(key.name, before=scaled.replicas, after=decision.replicas)
            scaled.replicas = decision.replicas
            scaled.saved_at = float("-inf")
        scaling_figures.show(key.name, decision)
        return seen, decision

    def remembered_by(self, planned: Plan, key: Key, owner: Owner, *, intent: Intent, now: datetime) -> Plan:
        """The plan with the ConfigMap in which scaling remembers, which goes where nothing is scaled any more."""
        scaled = self._scaled.get(key)
        if scaled is not None:
            return replace(planned, apply=(*planned.apply, Apply(self._memory_of(key, scaled, owner, now=now))))
        ref = scaling_memory_ref(owner)
        there = self._store.child(ref, owner.namespace)
        if there is None or controller_uid(there) != owner.uid or intent.problem:
            return planned
        return replace(planned, delete=(*planned.delete, Deletion(ref, there["metadata"]["uid"], "")))

    def _memory_of(self, key: Key, scaled: _Scaled, owner: Owner, *, now: datetime) -> Manifest:
        """The ConfigMap as it was written last, until it is due to be written anew."""
        is_due = now.timestamp() - scaled.saved_at >= SAVE_SECONDS
        if scaled.saved is None or is_due or self._drafts.is_news(key, scaled.saved):
            data: dict[Role, Mapping[str, Any]] = {
                Role.VERIFIER: {
                    "replicas": scaled.replicas,
                    "decisions": list(scaled.decisions),
                    "memory": scaled.memory.to_data(),
                }
            }
            drafts = self._drafts.remembered(key)
            if drafts is not None:
                data[Role.DRAFT] = drafts
            scaled.saved, scaled.saved_at = scaling_memory_of(owner, data), now.timestamp()
        return scaled.saved


def _changed(scaled: _Scaled) -> datetime | None:
    """When replicas changed last."""
    try:
        return datetime.fromisoformat(scaled.decisions[-1]["at"]) if scaled.decisions else None
    except (KeyError, TypeError, ValueError):
        return None


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
    if figures.capacity_rate:
        told["capacity"] = f"{figures.capacity_rate:.2f}"
    if figures.output_tokens:
        told |= {"prompt": f"{figures.prompt_tokens:.0f}", "output": f"{figures.output_tokens:.0f}"}
    return told | {key: f"{100 * share:.1f}" for key, share in shares.items() if share is not None}


def _restored(there: Manifest | None, first: int) -> _Scaled:
    data = remembered_in(there)
    try:
        memory = Memory.from_data(data.get("memory") or {})
    except ValueError:  # of another version, or written by somebody: it is learned anew
        memory = Memory()
    replicas, decisions = data.get("replicas"), data.get("decisions")
    scaled = _Scaled(memory, replicas if isinstance(replicas, int) and replicas >= 0 else first)
    found = decisions if isinstance(decisions, list) else []
    scaled.decisions.extend(each for each in found if isinstance(each, dict))
    return scaled
