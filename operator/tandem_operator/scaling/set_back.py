"""What is remembered where the clock was set back: as if all of it had been as much earlier. Pure.

Otherwise what was seen lies ahead of everything that is seen from then on: nothing is news, and no request has arrived,
until the clock is where it was. A clock that was set forward only makes what is remembered older.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from tandem_operator.scaling.behavior import Change
from tandem_operator.scaling.drafting import Said
from tandem_operator.scaling.flow import Arrivals, Flow
from tandem_operator.scaling.learning import Cell
from tandem_operator.scaling.memory import Memory, Wanted
from tandem_operator.scaling.reading import Reading

LEAST_SECONDS = 1.0
"""What is written down is rounded: less is no sign of anything."""

K = TypeVar("K")
T = TypeVar("T", Reading, Said, Wanted, Change, Cell)


def of_the_clock(memory: Memory, *, now: float, interval_seconds: float) -> Memory:
    """The memory, with the last decision one interval before `now` where it was after it."""
    by = set_back_seconds(memory.seen_at, now=now, interval_seconds=interval_seconds)
    return _earlier(memory, by) if by else memory


def set_back_seconds(seen_at: float, *, now: float, interval_seconds: float) -> float:
    """By how much, where a decision at `seen_at` is the one before that of `now`; 0 where it was not."""
    return seen_at + interval_seconds - now if seen_at - now > LEAST_SECONDS else 0.0


def _earlier(memory: Memory, by: float) -> Memory:
    flow = memory.flow
    return replace(
        memory,
        since=less(memory.since, by),
        seen_at=memory.seen_at - by,
        readings=all_earlier(memory.readings, by),
        flow=Flow(
            less(flow.since, by),
            tuple(Arrivals(each.begin - by, each.end - by, each.count) for each in flow.arrivals),
            tuple((at - by, rate) for at, rate in flow.history),
        ),
        watches={name: replace(each, begin=_at_earlier(each.begin, by)) for name, each in memory.watches.items()},
        learned={kind: replace(each, cells=all_earlier(each.cells, by)) for kind, each in memory.learned.items()},
        derated_at=memory.derated_at - by,
        wanted=each_earlier(memory.wanted, by),
        changes=each_earlier(memory.changes, by),
        changed_at=memory.changed_at - by,
        idle_since=less(memory.idle_since, by),
        taken_back_at=memory.taken_back_at - by,
    )


def less(at: float | None, by: float) -> float | None:
    """So much earlier, where there is a time."""
    return None if at is None else at - by


def each_earlier(found: tuple[T, ...], by: float) -> tuple[T, ...]:
    """The same of what happened at times."""
    return tuple(_at_earlier(each, by) for each in found)


def all_earlier(found: Mapping[K, T], by: float) -> dict[K, T]:
    """The same by key."""
    return {key: _at_earlier(each, by) for key, each in found.items()}


def _at_earlier(each: T, by: float) -> T:
    return replace(each, at=each.at - by)
