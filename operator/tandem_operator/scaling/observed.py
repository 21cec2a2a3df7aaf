"""What deciding sees at one time: the pods of a role, what their engines say, and how many were asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tandem_operator.scaling.reading import Reading

STALE_INTERVALS = 3.0


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


def newest_kind(pods: Iterable[Pod]) -> str:
    """Of the newest pod; empty without any."""
    newest = max(pods, key=lambda pod: (pod.created_at, pod.name), default=None)
    return newest.kind if newest else ""


@dataclass(frozen=True)
class Gate:
    """What the wake gate says, which holds requests at zero."""

    at: float
    """Seconds since the epoch."""
    held: int = 0
    answering: int = 0
    """Passed on, and not over."""


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
    gate: Gate | None = None
    """The last that was heard of it; None where there is none, or it has never answered."""
    trouble: str = ""
    """Why there are no new readings, where that is known."""

    def without_standstill(self, before: Mapping[str, Reading]) -> Observed:
        """The same, with readings as old as what they say: where requests run, and nothing at all has moved since the
        reading `before`, an engine hangs, or somebody hands out an old page.
        """
        readings = {
            name: replace(reading, at=before[name].at) if name in before and _stands(before[name], reading) else reading
            for name, reading in self.readings.items()
        }
        return replace(self, readings=readings)

    @property
    def kind(self) -> str:
        """Of the newest pods that stay: what more replicas would be."""
        return newest_kind(pod for pod in self.pods if not pod.is_going)

    @property
    def ready(self) -> list[Pod]:
        """Pods that take requests."""
        return [pod for pod in self.pods if pod.ready_at is not None and not pod.is_going]

    @property
    def is_warming(self) -> bool:
        """Whether pods are still to become Ready."""
        return any(pod.ready_at is None and not pod.is_going for pod in self.pods)

    @property
    def fresh(self) -> list[Reading]:
        """Readings that still say something: of pods that take requests, or finish what they have."""
        serving = (pod.name for pod in self.pods if pod.ready_at is not None)
        return [self.readings[name] for name in serving if self.is_fresh(name)]

    @property
    def held(self) -> int:
        """Requests that wait outside, at zero."""
        return self.gate.held if self.gate else 0

    @property
    def waiting(self) -> float:
        """Requests in queues, and outside."""
        return sum(reading.waiting for reading in self.fresh) + self.held

    @property
    def seen_share(self) -> float:
        """Of the Ready pods, how many say something; 1 without any."""
        seen = [pod for pod in self.ready if self.is_fresh(pod.name)]
        return len(seen) / len(self.ready) if seen else 1.0

    def is_fresh(self, name: str) -> bool:
        """Whether a pod's reading is new enough to go by. One of a time to come is of a clock that was set back since,
        and as old as nobody knows.
        """
        reading = self.readings.get(name)
        return reading is not None and abs(self.now - reading.at) <= STALE_INTERVALS * self.interval_seconds

    @property
    def possible(self) -> dict[str, Reading]:
        """Readings but for those of a time to come."""
        latest = self.now + STALE_INTERVALS * self.interval_seconds
        return {name: reading for name, reading in self.readings.items() if reading.at <= latest}


def _stands(before: Reading, now: Reading) -> bool:
    """Whether an engine that has made steps has requests, and has done nothing with them."""
    return now.running > 0 and now.steps.count > 0 and before.at <= now.at and replace(before, at=now.at) == now
