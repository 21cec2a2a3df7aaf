"""What scaling keeps of a role's replicas: how many are wanted, the last changes and why, who else wrote them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from tandem_contracts.launch import Role
from tandem_operator import names, scaling_figures
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid
from tandem_operator.scaling.policy import Bounds
from tandem_operator.scaling_terms import TakenOver, taken_over, taken_over_in
from tandem_operator.store import Key, Store
from tandem_operator.timestamps import timestamp_of

DECISIONS_KEPT = 20


def memory_in(store: Store, key: Key, owner_uid: str) -> Manifest | None:
    """The ConfigMap in which scaling remembers, unless it is an earlier resource's of the name, or somebody else's."""
    there = store.child(Ref("ConfigMap", names.scaling_name(key.name)), key.namespace)
    return there if there is not None and controller_uid(there) == owner_uid else None


@dataclass
class ScaledRole:
    """Of one deployment's role."""

    role: Role
    replicas: int
    decisions: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=DECISIONS_KEPT))
    """Of which each changed something, the oldest first."""
    taken_over: TakenOver | None = None
    is_news: bool = False
    """Whether something is to be written down that a restart must not lose."""

    @classmethod
    def restored(cls, role: Role, data: Mapping[str, Any], facts: Facts, *, first: int) -> Self:
        """From what was written down, by us or by anybody; `first` where that says nothing. Never fewer than there
        are: what came after it may not have been written.
        """
        replicas, decisions = data.get("replicas"), data.get("decisions")
        there = max((each.wanted for each in facts.workloads_of(role) if not each.is_going), default=0)
        found = cls(role, max(replicas, there) if isinstance(replicas, int) and replicas >= 0 else first)
        known = decisions if isinstance(decisions, list) else []
        found.decisions.extend(each for each in known if isinstance(each, dict))
        other = taken_over_in(data.get("takenOver"))
        found.taken_over = other if other and other.is_seen_in(facts, role) else None
        return found

    def to_data(self) -> dict[str, Any]:
        """To be written down."""
        told: dict[str, Any] = {"replicas": self.replicas, "decisions": list(self.decisions)}
        return told if self.taken_over is None else {**told, "takenOver": self.taken_over.to_data()}

    def yielded(self, facts: Facts, bounds: Bounds, *, now: datetime, is_paused: bool) -> str:
        """Who else has written the replicas, which then are theirs for a while; empty while they are ours. They may be
        beyond the bounds: whoever writes them knows what for, and is told so.
        """
        other = taken_over(facts, self.taken_over, now=now, role=self.role)
        self.is_news |= other != self.taken_over
        self.taken_over = other
        if other is None or not other.lasts(now):
            return ""
        self.replicas = other.replicas
        return other.told(bounds, is_paused=is_paused)

    def change(self, key: Key, replicas: int, *, reason: str, inputs: Mapping[str, str], now: datetime) -> None:
        """Take over what was decided for the deployment `key`: another number than before."""
        told = {"at": timestamp_of(now), "from": self.replicas, "to": replicas, "reason": reason, "inputs": inputs}
        self.decisions.append(told)
        scaling_figures.count_change(key, before=self.replicas, after=replicas, role=self.role)
        self.replicas = replicas
        self.is_news = True

    @property
    def changed_at(self) -> datetime | None:
        """When replicas changed last, if that is known."""
        try:
            return datetime.fromisoformat(self.decisions[-1]["at"]) if self.decisions else None
        except (KeyError, TypeError, ValueError):
            return None
