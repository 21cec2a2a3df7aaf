"""Pods of one role in a simulated cluster: cold starts, draining, failures, and the router in front of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from benchmarks.scaling.engine import Engine, Profile
from benchmarks.scaling.requests import Request
from tandem_operator.scaling.observed import Pod

KIND = "simulated"
COLD_START_SPREAD = 0.06
"""Standard deviation of a cold start, as a share of it; one in twenty takes a quarter longer."""


@dataclass
class SimulatedPod:
    """From its creation until it is gone."""

    number: int
    created_at: float
    ready_at: float
    """When it will be, or became, Ready."""
    engine: Engine | None = None
    is_going: bool = False
    gone_at: float | None = None

    @property
    def name(self) -> str:
        """By its number."""
        return f"pod-{self.number}"

    def facts(self) -> Pod:
        """As the operator sees it."""
        ready_at = self.ready_at if self.engine is not None else None
        return Pod(self.name, KIND, self.created_at, ready_at=ready_at, is_going=self.is_going)


@dataclass
class Fleet:
    """What Kubernetes does of what an autoscaler wants."""

    profile: Profile
    cold_start_seconds: float
    random: Random
    pods: list[SimulatedPod] = field(default_factory=list)
    """That are there, draining ones included."""
    gone: list[SimulatedPod] = field(default_factory=list)
    held: deque[Request] = field(default_factory=deque)
    """Outside, since no pod was Ready."""
    rejected: int = 0
    lost: int = 0
    _made: int = 0

    @property
    def ready(self) -> list[SimulatedPod]:
        """That take requests."""
        return [pod for pod in self.pods if pod.engine is not None and not pod.is_going]

    @property
    def in_work(self) -> int:
        """Requests in engines and outside."""
        return len(self.held) + sum(pod.engine.load for pod in self.pods if pod.engine is not None)

    def begin(self, count: int, *, at: float) -> None:
        """Pods that are Ready at once."""
        for _ in range(count):
            pod = self._make(at)
            pod.ready_at = at
            self.become_ready(pod, at=at)

    def scale(self, count: int, *, at: float) -> list[SimulatedPod]:
        """Make or take away pods; the new ones, that have to `become_ready` at their time."""
        staying = [pod for pod in self.pods if not pod.is_going]
        if count >= len(staying):
            return [self._make(at) for _ in range(count - len(staying))]
        # As a ReplicaSet does: those that are not Ready first, then by deletion cost, which is the load.
        order = sorted(staying, key=lambda pod: (pod.engine is not None, _load_of(pod), -pod.created_at))
        for pod in order[: len(staying) - count]:
            pod.is_going = True
        self.sweep(at=at)
        return []

    def become_ready(self, pod: SimulatedPod, *, at: float) -> None:
        """Unless it was taken away meanwhile; it gets what waits outside together with all others."""
        if pod.gone_at is None and not pod.is_going:
            pod.engine = Engine(self.profile, at=at)
            while self.held:
                self.send(self.held.popleft())

    def fail(self, *, at: float) -> SimulatedPod | None:
        """The busiest Ready pod is lost with all its requests; another one is made in its place."""
        if not (ready := self.ready):
            return None
        pod = max(ready, key=_load_of)
        self.lost += _load_of(pod)
        self._remove(pod, at=at)
        return self._make(at)

    def choice(self) -> Engine | None:
        """The engine with the fewest requests that takes more. Pods have to be advanced to the present."""
        best: Engine | None = None
        for pod in self.pods:
            engine = pod.engine
            if engine is not None and not pod.is_going and (best is None or engine.load < best.load):
                best = engine
        return best

    def send(self, request: Request) -> None:
        """To that engine; it waits outside while there is none."""
        engine = self.choice()
        if engine is None:
            self.held.append(request)
        elif not engine.add(request):
            self.rejected += 1

    def advance(self, until: float) -> None:
        """All engines."""
        for pod in self.pods:
            if pod.engine is not None:
                pod.engine.advance(until)

    def sweep(self, *, at: float) -> None:
        """Pods that have drained, or never had anything, go."""
        for pod in [pod for pod in self.pods if pod.is_going and (pod.engine is None or not pod.engine.load)]:
            self._remove(pod, at=at)

    def replica_seconds(self, *, begin: float, end: float) -> float:
        """Of all pods between two times, starting and draining ones included."""
        total = 0.0
        for pod in (*self.pods, *self.gone):
            until = end if pod.gone_at is None else min(end, pod.gone_at)
            total += max(0.0, until - max(begin, pod.created_at))
        return total

    def _make(self, at: float) -> SimulatedPod:
        self._made += 1
        seconds = self.cold_start_seconds * max(0.7, self.random.gauss(1.0, COLD_START_SPREAD))
        if self.random.random() < 0.05:
            seconds *= 1.25
        pod = SimulatedPod(self._made, at, at + seconds)
        self.pods.append(pod)
        return pod

    def _remove(self, pod: SimulatedPod, *, at: float) -> None:
        pod.gone_at = at
        self.pods.remove(pod)
        self.gone.append(pod)


def _load_of(pod: SimulatedPod) -> int:
    return pod.engine.load if pod.engine is not None else 0
