"""What one decision leaves to the next, and which part of it survives a restart of the operator. Pure.

What is kept as JSON: models of step times, cold starts, how the load has grown, what was needed lately, and changes.
What engines have counted is not: after a restart it would be compared with a time that nobody has seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tandem_operator.scaling.behavior import Change
from tandem_operator.scaling.flow import Flow
from tandem_operator.scaling.learning import Cell, Learned, Watch
from tandem_operator.scaling.policy import StepModel
from tandem_operator.scaling.reading import Reading
from tandem_operator.scaling.traffic import Traffic

VERSION = 1
LEAST_DERATE = 0.7


@dataclass(frozen=True)
class Wanted:
    """So many replicas were needed at a time."""

    at: float
    replicas: int


@dataclass(frozen=True)
class Memory:
    """Empty at first."""

    since: float | None = None
    """When this operator began to decide; nothing goes down before it has seen enough itself."""
    seen_at: float = 0.0
    """When it, or the one before, has decided last."""
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """The last of each pod."""
    flow: Flow = field(default_factory=Flow)
    traffic: Traffic = field(default_factory=Traffic)
    watches: Mapping[str, Watch] = field(default_factory=dict)
    learned: Mapping[str, Learned] = field(default_factory=dict)
    """By kind of pods."""
    warming: frozenset[str] = frozenset()
    """Names of pods that were seen before they became Ready."""
    started: frozenset[str] = frozenset()
    """Names of pods that have been Ready."""
    cold_starts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds, by kind of pods, the last ones."""
    derate: float = 1.0
    derated_at: float = 0.0
    wanted: tuple[Wanted, ...] = ()
    """Needs, of which the most counts on the way down, and the least on the way up where `behavior` says so."""
    changes: tuple[Change, ...] = ()
    changed_at: float = 0.0
    idle_since: float | None = None
    """Since when it is known that no request has come and none is in work; None while one has, or it is not known."""
    patience: float = 1.0
    """Times the usual hold: more after steps down that had to be taken back."""
    taken_back_at: float = 0.0
    """When a step down was taken back last."""

    @property
    def at_rest(self) -> Memory:
        """The same at zero: what comes after a rest does not go on from the load, nor the misses, that were before."""
        return replace(self, flow=Flow(), traffic=self.traffic.at_rest)

    def to_data(self) -> dict[str, Any]:
        """What survives, as JSON."""
        return {
            "version": VERSION,
            "learned": {
                kind: {
                    "samples": learned.samples,
                    "cells": [[*place, *_rounded(dataclasses.astuple(cell))] for place, cell in learned.cells.items()],
                    "model": _rounded(dataclasses.astuple(learned.model)) if learned.model else None,
                }
                for kind, learned in self.learned.items()
            },
            "coldStarts": {kind: list(_rounded(seconds)) for kind, seconds in self.cold_starts.items()},
            "history": [[round(at), *_rounded([rate])] for at, rate in self.flow.history],
            "wanted": [[round(each.at), each.replicas] for each in self.wanted],
            "changes": [[round(each.at, 1), each.by] for each in self.changes],
            "changedAt": round(self.changed_at, 1),
            "patience": self.patience,
            "takenBackAt": round(self.taken_back_at, 1),
            "derate": round(self.derate, 4),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The reverse. Raises ValueError for what no version of ours has written."""
        version = data.get("version") if isinstance(data, Mapping) else None
        if version != VERSION:
            raise ValueError(f"version (is {version!r}): must be {VERSION}")
        try:
            changes = tuple(Change(finite(at), int(by)) for at, by in data["changes"])
            wanted = tuple(Wanted(finite(at), int(replicas)) for at, replicas in data["wanted"])
            return cls(
                seen_at=max((0.0, *(each.at for each in changes), *(each.at for each in wanted))),
                learned={kind: _learned_of(each) for kind, each in data["learned"].items()},
                cold_starts={kind: tuple(map(finite, each)) for kind, each in data["coldStarts"].items()},
                flow=Flow(history=tuple((finite(at), finite(rate)) for at, rate in data["history"])),
                wanted=wanted,
                changes=changes,
                changed_at=finite(data["changedAt"]),
                patience=max(1.0, finite(data["patience"])),
                taken_back_at=finite(data["takenBackAt"]),
                derate=min(1.0, max(LEAST_DERATE, finite(data["derate"]))),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not what scaling remembers: {error}") from error


def _learned_of(data: Mapping[str, Any]) -> Learned:
    cells = {(int(a), int(b), int(c)): Cell(*map(finite, values)) for a, b, c, *values in data["cells"]}
    model = StepModel(*map(finite, data["model"])) if data["model"] else None
    return Learned(cells, finite(data["samples"]), model)


def finite(value: Any) -> float:
    """A number that was written down. Raises ValueError for any other, TypeError for what is none."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _rounded(values: Any) -> tuple[float, ...]:
    """To seven digits: what is remembered is an estimate."""
    return tuple(float(f"{value:.7g}") for value in values)
