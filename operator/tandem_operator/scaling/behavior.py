"""The limits of autoscaling/v2's `behavior`: how fast replicas may change. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tandem_operator.scaling.policy import Behavior, Direction, Limit, Select, Unit

_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Change:
    """Replicas changed by so many (down: less than 0)."""

    at: float
    by: int


def kept_seconds(behavior: Behavior) -> float:
    """How long changes have to be remembered."""
    periods = [limit.period_seconds for way in (behavior.up, behavior.down) for limit in way.limits]
    return max(periods, default=0.0)


def limited(behavior: Behavior, *, wanted: int, now: float, target: int, changes: Iterable[Change]) -> int:
    """`target`, or what comes nearest to it among what may be had now."""
    found = tuple(changes)
    if target > wanted:
        return max(wanted, min(target, _most(behavior.up, wanted, now, found)))
    if target < wanted:
        return min(wanted, max(target, _least(behavior.down, wanted, now, found)))
    return wanted


def _most(way: Direction, wanted: int, now: float, changes: tuple[Change, ...]) -> int:
    if way.select is Select.DISABLED:
        return wanted
    ends = []
    for limit in way.limits:
        begin = wanted - _changed(changes, limit, now, sign=1)
        by = limit.value if limit.unit is Unit.PODS else math.ceil(begin * limit.value / 100)
        ends.append(begin + by)
    return (max if way.select is Select.MAX else min)(ends, default=_NO_LIMIT)


def _least(way: Direction, wanted: int, now: float, changes: tuple[Change, ...]) -> int:
    if way.select is Select.DISABLED:
        return wanted
    ends = []
    for limit in way.limits:
        begin = wanted - _changed(changes, limit, now, sign=-1)
        by = limit.value if limit.unit is Unit.PODS else math.ceil(begin * limit.value / 100)
        ends.append(begin - by)
    return (min if way.select is Select.MAX else max)(ends, default=0)


def _changed(changes: tuple[Change, ...], limit: Limit, now: float, *, sign: int) -> int:
    """The sum of what changed in this direction within the limit's period."""
    since = now - limit.period_seconds
    return sum(change.by for change in changes if change.at > since and change.by * sign > 0)
