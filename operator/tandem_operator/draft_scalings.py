"""Scaling of drafts, pass by pass: the part of `Scalings` that is about them. Holds memory, and does nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import scaling_figures
from tandem_operator.deletion_costs import Load
from tandem_operator.engine_readings import DraftingReadings
from tandem_operator.facts import Facts, Manifest
from tandem_operator.objects.scaling_memory import remembered_in
from tandem_operator.scaled_role import ScaledRole, memory_in
from tandem_operator.scaling.draft_memory import DraftMemory
from tandem_operator.scaling.drafting import DraftsSeen, work_between
from tandem_operator.scaling.drafts import DraftDecision, DraftPolicy, decide_drafts
from tandem_operator.scaling.observed import Observed, newest_kind
from tandem_operator.scaling_status import ScaledDrafts
from tandem_operator.scaling_terms import addresses_of, pods_seen
from tandem_operator.store import Key, Store
from tandem_operator.targets import Intent


@dataclass
class _Scaled:
    role: ScaledRole
    memory: DraftMemory
    pair: str = ""
    """The revisions of the newest verifiers that serve, who measure, and of the drafts that are asked for, which a spec
    that is refused does not say."""
    loads: Mapping[str, Load] = field(default_factory=dict)
    """By pod, of those alone that have said something new."""


@dataclass(frozen=True)
class Verifiers:
    """What has been decided for them in this pass, from what was seen."""

    seen: Observed
    wanted: int
    cold_start_seconds: float


class DraftScalings:
    """Of all deployments whose drafts are autoscaled."""

    def __init__(self, store: Store, readings: DraftingReadings) -> None:
        self._store, self._readings = store, readings
        self._scaled: dict[Key, _Scaled] = {}

    def forget(self, key: Key) -> None:
        """The deployment is gone, or its spec says how many drafts there are."""
        self._readings.forget(key)
        if self._scaled.pop(key, None) is not None:
            scaling_figures.forget_drafts(key)

    async def close(self) -> None:
        """End the connections to pods."""
        await self._readings.close()

    def scale(
        self, key: Key, intent: Intent, facts: Facts, *, verifiers: Verifiers, owner_uid: str, now: datetime
    ) -> tuple[Intent, ScaledDrafts | None]:
        """The intent with as many drafts as the verifiers ask for, where drafts are to be scaled. Without verifiers
        there is none in any case.
        """
        policy = intent.draft_scaling
        if policy is None:
            self.forget(key)
            return (intent if verifiers.wanted else intent.scaled(0, Role.DRAFT)), None
        scaled = self._scaled.get(key)
        if scaled is None:
            there = memory_in(self._store, key, owner_uid)
            scaled = self._scaled[key] = _restored(there, facts, first=intent.first_drafts)
        measuring, drafts = newest_kind(verifiers.seen.ready), intent.wants.get(Role.DRAFT)
        if measuring and drafts is not None:
            scaled.pair = f"{measuring}/{drafts.target.revision}"
        conflict = scaled.role.yielded(facts, policy.bounds, now=now, is_paused=policy.is_paused)
        if conflict:
            policy = replace(policy, is_paused=True)
        decision = self._decided(key, scaled, policy, facts=facts, verifiers=verifiers, now=now)
        told = ScaledDrafts(policy, decision, conflict=conflict, decisions=tuple(scaled.role.decisions))
        return intent.scaled(decision.replicas, Role.DRAFT), told

    def _decided(
        self, key: Key, scaled: _Scaled, policy: DraftPolicy, *, facts: Facts, verifiers: Verifiers, now: datetime
    ) -> DraftDecision:
        seen = DraftsSeen(
            now.timestamp(),
            scaled.role.replicas,
            verifiers.seen,
            verifiers.wanted,
            pods=pods_seen(facts, Role.DRAFT),
            said=self._readings.latest(key, addresses_of(facts, *Role)),
            interval_seconds=max(self._readings.interval_seconds(key), verifiers.seen.interval_seconds),
            cold_start_seconds=verifiers.cold_start_seconds,
            pair=scaled.pair,
        )
        was_off, before = scaled.memory.is_off, scaled.memory.said
        decision, scaled.memory = decide_drafts(policy, seen, scaled.memory)
        scaled.loads = {
            pod.name: load
            for pod in seen.ready
            if seen.is_fresh(pod.name)
            and (load := work_between(before.get(pod.name), seen.said[pod.name]) or scaled.loads.get(pod.name))
        }
        if decision.replicas != scaled.role.replicas:
            inputs = _inputs_of(decision, seen)
            scaled.role.change(key, decision.replicas, reason=decision.reason, inputs=inputs, now=now)
        scaled.role.is_news |= decision.is_off is not was_off
        scaling_figures.show_drafts(key, decision, policy.bounds)
        return decision

    def loads(self, key: Key) -> Mapping[str, Load]:
        """What the last decision has seen of what drafts do, by pod."""
        scaled = self._scaled.get(key)
        return scaled.loads if scaled else {}

    def is_news(self, key: Key, saved: Manifest) -> bool:
        """Whether what is remembered has to be written down now, after what was written last."""
        scaled = self._scaled.get(key)
        was_scaled = Role.DRAFT.value in (saved.get("data") or {})
        if scaled is None:
            return was_scaled
        return scaled.role.is_news or not was_scaled

    def remembered(self, key: Key) -> Mapping[str, Any] | None:
        """What is to be written down; None where drafts are not scaled."""
        scaled = self._scaled.get(key)
        if scaled is None:
            return None
        scaled.role.is_news = False
        return {**scaled.role.to_data(), "memory": scaled.memory.to_data()}


def _inputs_of(decision: DraftDecision, seen: DraftsSeen) -> Mapping[str, str]:
    """The figures that a decision was made by, for a person."""
    told = {"verifiers": f"{len(seen.verifiers.ready)}"}
    if decision.tokens_rate is not None:
        told["tokens"] = f"{decision.tokens_rate:.0f}"
    if decision.capacity_rate is not None:
        told["tokenCapacity"] = f"{decision.capacity_rate:.0f}"
    return {**told, "late": f"{100 * decision.late_share:.1f}"}


def _restored(there: Manifest | None, facts: Facts, *, first: int) -> _Scaled:
    data = remembered_in(there, Role.DRAFT)
    try:
        memory = DraftMemory.from_data(data.get("memory"))
    except ValueError:  # there is none, or it is of another version, or written by somebody: it is learned anew
        memory = DraftMemory()
    return _Scaled(ScaledRole.restored(Role.DRAFT, data, facts, first=first), memory)
