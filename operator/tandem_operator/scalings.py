"""Scaling of each autoscaled deployment, pass by pass: what was decided, what is remembered, when it is written down.

Holds memory, and does nothing itself: the pass acts on the decisions. What a restart of the operator must not lose is
in a ConfigMap, which is written when replicas change, and else every SAVE_SECONDS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tandem_operator import scaling_figures
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Facts, Manifest
from tandem_operator.objects.scaling_memory import remembered_in, scaling_memory_of
from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.policy import Policy
from tandem_operator.scaling.reading import Reading
from tandem_operator.scaling_terms import observed_of
from tandem_operator.store import Key

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


class Scalings:
    """Of all deployments."""

    def __init__(self) -> None:
        self._scaled: dict[Key, _Scaled] = {}

    def forget(self, key: Key) -> None:
        """The deployment is gone, or something else scales it."""
        if self._scaled.pop(key, None) is not None:
            scaling_figures.forget(key.name)

    def decide(
        self,
        key: Key,
        policy: Policy,
        *,
        facts: Facts,
        readings: Mapping[str, Reading],
        interval_seconds: float,
        first: int,
        there: Manifest | None,
        now: datetime,
    ) -> Decision:
        """Replicas of the verifiers now. `first`: where nothing is remembered; `there`: the ConfigMap."""
        scaled = self._scaled.get(key) or self._scaled.setdefault(key, _restored(there, first))
        seen = observed_of(facts, readings, wanted=scaled.replicas, now=now, interval_seconds=interval_seconds)
        decision, scaled.memory = decide(policy, seen, scaled.memory)
        if decision.replicas != scaled.replicas:
            scaled.decisions.append(
                {
                    "at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
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
        return decision

    def changed(self, key: Key) -> datetime | None:
        """When replicas changed last."""
        decisions = self.decisions(key)
        try:
            return datetime.fromisoformat(decisions[-1]["at"]) if decisions else None
        except (KeyError, TypeError, ValueError):
            return None

    def decisions(self, key: Key) -> tuple[Mapping[str, Any], ...]:
        """The last ones that changed something."""
        scaled = self._scaled.get(key)
        return tuple(scaled.decisions) if scaled else ()

    def object_of(self, key: Key, owner: Owner, *, now: datetime) -> Manifest | None:
        """The ConfigMap as it should be: as it was written last, until it is due to be written anew."""
        scaled = self._scaled.get(key)
        if scaled is None:
            return None
        if scaled.saved is None or now.timestamp() - scaled.saved_at >= SAVE_SECONDS:
            data = {
                "replicas": scaled.replicas,
                "decisions": list(scaled.decisions),
                "memory": scaled.memory.to_data(),
            }
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
    scaled = _Scaled(memory, replicas if isinstance(replicas, int) and replicas > 0 else first)
    scaled.decisions.extend(each for each in decisions or () if isinstance(each, dict))
    return scaled
