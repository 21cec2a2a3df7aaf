"""What deciding sees at one time: the pods of a role, what their engines say, and how many were asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_operator.scaling.reading import Reading


@dataclass(frozen=True)
class Pod:
    """Of the role, of any revision."""

    name: str
    kind: str
    """Pods of one kind have one capacity: model, accelerators, revision. Kinds are learned apart."""
    created_at: float
    """Seconds since the epoch."""
    ready_at: float | None = None
    """Since when it is Ready; None while it is not."""
    is_going: bool = False
    """It is being deleted, or drains: it is no capacity any more, and what it still works on is demand."""


@dataclass(frozen=True)
class Observed:
    """Of one role, at one time."""

    now: float
    """Seconds since the epoch."""
    wanted: int
    """Replicas that were asked for last; those that are still to become Ready are among them."""
    pods: tuple[Pod, ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """The newest of each pod, by its name; none of a pod that has never answered, an old one of a silent pod."""
    interval_seconds: float = 5.0
    """In which a pod is read."""
    held: int = 0
    """Requests that wait outside, at zero."""
