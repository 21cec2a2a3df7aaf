"""What one decision on drafts leaves to the next: what is asked of them, what they can give, whether they pay. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from tandem_operator.scaling.behavior import Change
from tandem_operator.scaling.drafting import DraftsSeen, Proposer, Said, Server
from tandem_operator.scaling.memory import Wanted, finite
from tandem_operator.scaling.set_back import all_earlier, each_earlier, less, set_back_seconds

VERSION = 1
RATE_SECONDS, LATE_SECONDS, LOAD_SECONDS = 30.0, 60.0, 60.0
"""What is so old counts 1/e of what is new."""
LEAST_BUSY_SHARE = 0.02
"""Of the time between two readings; below it tokens over time says nothing of what a pod can give."""
FULL_SHARE = 0.5
"""Busy for less, a pod gives less than it can: its batches are small."""
QUICK, SLOW = 0.25, 0.1
"""Of what is new, in the capacity: of more than was known, and of less."""
LEAST_ROWS = 20.0
"""Between two readings, below which a verifier says nothing of whether it drafts."""
CHECKS_SHARE = 0.15
"""A verifier for which drafts do not pay still asks for some, to check: in 4 of 36 steps at first, then ever fewer."""
KINDS_KEPT = 4

S = TypeVar("S", Proposer, Server)


@dataclass(frozen=True)
class DraftMemory:
    """Empty at first."""

    since: float | None = None
    """When this operator began to decide."""
    at: float | None = None
    """Of the last decision."""
    said: Mapping[str, Said] = field(default_factory=dict)
    """The last of each pod."""
    tokens_rate: float | None = None
    """Tokens a second that verifiers ask for, of all drafts together; None while no draft tells."""
    late_share: float = 0.0
    """Of the steps that asked, those that waited in vain."""
    load: float | None = None
    """Requests in work of a verifier."""
    capacity: Mapping[str, float] = field(default_factory=dict)
    """Tokens a second that a draft gives while it is busy, by kind of pods, the one seen last at the end."""
    without_seconds: float = 0.0
    """How long all verifiers that decode, and could draft, have chosen not to."""
    with_seconds: float = 0.0
    """How long one of them has drafted."""
    is_off: bool = False
    """Drafts do not pay, by measurement."""
    switched_at: float = 0.0
    load_when_off: float = 0.0
    pair_when_off: str = ""
    """Of which revisions drafts did not pay."""
    wanted: tuple[Wanted, ...] = ()
    changes: tuple[Change, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """What survives a restart, as JSON."""
        return {
            "version": VERSION,
            "capacity": {kind: float(f"{rate:.7g}") for kind, rate in self.capacity.items()},
            "isOff": self.is_off,
            "switchedAt": round(self.switched_at, 1),
            "loadWhenOff": round(self.load_when_off, 4),
            "pairWhenOff": self.pair_when_off,
            "changes": [[round(each.at, 1), each.by] for each in self.changes],
        }

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """The reverse. Raises ValueError for what no version of ours has written."""
        version = data.get("version") if isinstance(data, Mapping) else None
        if version != VERSION:
            raise ValueError(f"version (is {version!r}): must be {VERSION}")
        try:
            return cls(
                capacity={str(kind): finite(rate) for kind, rate in data["capacity"].items()},
                is_off=bool(data["isOff"]),
                switched_at=finite(data["switchedAt"]),
                load_when_off=finite(data["loadWhenOff"]),
                pair_when_off=str(data["pairWhenOff"]),
                changes=tuple(Change(finite(at), int(by)) for at, by in data["changes"]),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not what scaling of drafts remembers: {error}") from error


def remembered(seen: DraftsSeen, memory: DraftMemory) -> DraftMemory:
    """The same with what is seen now."""
    memory = _of_the_clock(seen, memory)
    names = {pod.name for pod in (*seen.pods, *seen.verifiers.pods)}
    servers = _intervals(Server, seen, memory, {pod.name: pod.kind for pod in seen.ready})
    proposers = _intervals(Proposer, seen, memory, {pod.name: pod.kind for pod in seen.verifiers.ready})
    memory = _with_load(seen, memory)
    memory = _with_choice(_with_late(memory, proposers), proposers)
    memory = _with_capacity(_with_rate(seen, memory, servers), servers)
    said = {**memory.said, **seen.possible}
    return replace(
        memory,
        since=seen.now if memory.since is None else memory.since,
        at=seen.now,
        said={name: each for name, each in said.items() if name in names},
    )


def _of_the_clock(seen: DraftsSeen, memory: DraftMemory) -> DraftMemory:
    """Where that was set back, as if all of it had been as much earlier."""
    by = set_back_seconds(memory.at or 0.0, now=seen.now, interval_seconds=seen.interval_seconds)
    if not by:
        return memory
    return replace(
        memory,
        since=less(memory.since, by),
        at=less(memory.at, by),
        said=all_earlier(memory.said, by),
        switched_at=memory.switched_at - by,
        wanted=each_earlier(memory.wanted, by),
        changes=each_earlier(memory.changes, by),
    )


@dataclass(frozen=True)
class _Interval:
    """Between two readings of one pod; `kind` is the pod's."""

    kind: str
    before: Any
    after: Any

    @property
    def seconds(self) -> float:
        return float(self.after.at - self.before.at)

    def more(self, counter: str) -> float:
        """By which it has grown."""
        return float(getattr(self.after, counter) - getattr(self.before, counter))


def _intervals(of: type[S], seen: DraftsSeen, memory: DraftMemory, kinds: Mapping[str, str]) -> list[_Interval]:
    """Of the pods that have said something new, and have not begun to count anew."""
    found, said = [], seen.possible
    for name, kind in kinds.items():
        before, after = memory.said.get(name), said.get(name)
        if isinstance(before, of) and isinstance(after, of) and after.at > before.at:
            each = _Interval(kind, before, after)
            counters = ("tokens", "busy_seconds") if of is Server else ("drafted_rows", "empty_rows", "answered")
            if all(each.more(counter) >= 0 for counter in counters):
                found.append(each)
    return found


def _with_rate(seen: DraftsSeen, memory: DraftMemory, servers: list[_Interval]) -> DraftMemory:
    """Drafts that say nothing are taken to do as much as the others."""
    if not seen.ready:
        return replace(memory, tokens_rate=None)
    if not servers:
        return memory
    rate = sum(each.more("tokens") / each.seconds for each in servers)
    rate *= (len(servers) + len(seen.silent)) / len(servers)
    return replace(memory, tokens_rate=_faded(memory.tokens_rate, rate, _mean_seconds(servers) / RATE_SECONDS))


def _with_capacity(memory: DraftMemory, servers: list[_Interval]) -> DraftMemory:
    """More than was known is believed soon. Less only of pods that were busy, as their batches are larger then."""
    capacity = dict(memory.capacity)
    for kind in {each.kind for each in servers}:
        mine = [each for each in servers if each.kind == kind]
        busy, seconds = (sum(each.more("busy_seconds") for each in mine), sum(each.seconds for each in mine))
        tokens = sum(each.more("tokens") for each in mine)
        if busy < LEAST_BUSY_SHARE * seconds or not tokens:
            continue
        found, before = tokens / busy, capacity.pop(kind, None)
        if before is None:
            capacity[kind] = found
        elif found > before:
            capacity[kind] = before + QUICK * (found - before)
        else:
            capacity[kind] = before + SLOW * (found - before) if busy >= FULL_SHARE * seconds else before
    return replace(memory, capacity=dict(list(capacity.items())[-KINDS_KEPT:]))


def _with_late(memory: DraftMemory, proposers: list[_Interval]) -> DraftMemory:
    answered = sum(each.more("answered") for each in proposers)
    if not answered:
        return memory
    missed = sum(max(0.0, each.more("missed")) for each in proposers)
    share = min(1.0, missed / answered)
    return replace(memory, late_share=_faded(memory.late_share, share, _mean_seconds(proposers) / LATE_SECONDS))


def _with_choice(memory: DraftMemory, proposers: list[_Interval]) -> DraftMemory:
    """Whether verifiers draft. One that could not, or that decodes nothing, says nothing of it."""
    telling = [
        each for each in proposers if each.more("rows") >= LEAST_ROWS and each.before.may_draft and each.after.may_draft
    ]
    if not telling:
        return memory
    seconds = min(each.seconds for each in telling)
    if any(_drafts(each) for each in telling):
        return replace(memory, without_seconds=0.0, with_seconds=memory.with_seconds + seconds)
    return replace(memory, without_seconds=memory.without_seconds + seconds, with_seconds=0.0)


def _drafts(each: _Interval) -> bool:
    """By more than checks. Of the depth one reading alone says nothing: it may have met a check."""
    is_deep = each.before.depth > 0 and each.after.depth > 0
    return is_deep or each.more("drafted_rows") >= CHECKS_SHARE * each.more("rows")


def _with_load(seen: DraftsSeen, memory: DraftMemory) -> DraftMemory:
    load = seen.load
    if load is None:
        return memory
    age = max(0.0, seen.now - (seen.now if memory.at is None else memory.at)) / LOAD_SECONDS
    return replace(memory, load=_faded(memory.load, load, age))


def _mean_seconds(intervals: list[_Interval]) -> float:
    return sum(each.seconds for each in intervals) / len(intervals)


def _faded(before: float | None, now: float, age: float) -> float:
    """A mean in which what is one `age` old counts 1/e."""
    return now if before is None else before + (now - before) * (1 - math.exp(-age))
