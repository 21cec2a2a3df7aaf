"""One run: requests of a workload, a fleet, one autoscaler, and what came of it. The same seed gives the same run."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

from benchmarks.scaling.controllers import Controller, Sight
from benchmarks.scaling.engine import QWEN3_32B_TP2_H100, Profile
from benchmarks.scaling.fleet import Fleet, SimulatedPod
from benchmarks.scaling.requests import Objective, Request, random_of
from benchmarks.scaling.router_signals import RouterSignals
from benchmarks.scaling.scraping import Fault, Scraped

SCRAPE_JITTER_SECONDS = 0.2
POINT_SECONDS = 10.0
TAIL_SECONDS = 900.0
"""At most so long after the last request the fleet is watched until it is at its floor."""
STUCK_SECONDS = 3600.0
SPOILED_EACH = 4
"""Every so many-th pod has NaN in its pages, in the order in which they were made."""


@dataclass(frozen=True)
class Episode:
    """Scrapes go wrong between two times."""

    fault: Fault
    begin: float
    end: float


@dataclass(frozen=True)
class Setting:
    """Everything about a run but the requests and the autoscaler."""

    least: int
    most: int
    start: int
    cold_start_seconds: float = 100.0
    objective: Objective = field(default_factory=Objective)
    profile: Profile = QWEN3_32B_TP2_H100
    episodes: tuple[Episode, ...] = ()
    failures: tuple[float, ...] = ()
    """Times at which the busiest pod is lost."""


Stages = Callable[[Random], list[list[Request]]]
"""Requests by stage, times from the stage's begin. A stage begins once the one before is over and answered."""


@dataclass(frozen=True)
class Point:
    """Of a run's course."""

    at: float
    wanted: int
    ready: int
    there: int
    in_work: int
    waiting: int


@dataclass(frozen=True)
class Run:
    """What has happened."""

    requests: tuple[Request, ...]
    objective: Objective
    load_end: float
    """When the last request was answered, or could have been at the latest."""
    end: float
    """When the fleet was at its floor again."""
    replica_seconds: float
    replica_seconds_of_load: float
    changes: tuple[tuple[float, int], ...]
    """Times, and by how much."""
    points: tuple[Point, ...]
    preemptions: int
    lost: int
    rejected: int
    shrunk_in_fault: int
    """Replicas that were taken away while scrapes went wrong."""


class _Kind(IntEnum):
    """Events at the same time come in this order."""

    READY = 0
    FAILURE = 1
    SCRAPE = 2
    TICK = 3
    POINT = 4


class Simulation:
    """Events in the order of time; between them only engines work."""

    def __init__(self, setting: Setting, controller: Controller, stages: list[list[Request]], *, seed: object) -> None:
        self._setting = setting
        self._controller = controller
        self._stages = stages
        self._random = random_of("scrapes", seed)
        self._fleet = Fleet(setting.profile, setting.cold_start_seconds, random_of("pods", seed))
        self._scraped = Scraped()
        self._signals = RouterSignals()
        self._events: list[tuple[float, int, int, SimulatedPod | None]] = []
        self._count = 0
        self._wanted = setting.start
        self._changes: list[tuple[float, int]] = []
        self._points: list[Point] = []
        self._shrunk_in_fault = 0

    def run(self) -> Run:
        """All stages, and the time until the fleet is at its floor."""
        self._fleet.begin(self._setting.start, at=0.0)
        for pod in self._fleet.pods:
            self._watch(pod, at=0.0)
        self._push(self._controller.tick_seconds, _Kind.TICK)
        self._push(0.0, _Kind.POINT)
        for at in self._setting.failures:
            self._push(at, _Kind.FAILURE)
        begin = 0.0
        for stage in self._stages:
            for request in stage:
                request.arrival += begin
                self._until(request.arrival)
                self._arrive(request)
            begin = self._answered(after=stage[-1].arrival if stage else begin)
        load_end = begin
        end = self._at_floor(load_end)
        fleet = self._fleet
        engines = [pod.engine for pod in (*fleet.pods, *fleet.gone) if pod.engine is not None]
        return Run(
            requests=tuple(request for stage in self._stages for request in stage),
            objective=self._setting.objective,
            load_end=load_end,
            end=end,
            replica_seconds=fleet.replica_seconds(begin=0.0, end=end),
            replica_seconds_of_load=fleet.replica_seconds(begin=0.0, end=load_end),
            changes=tuple(self._changes),
            points=tuple(self._points),
            preemptions=sum(engine.counters.preemptions for engine in engines),
            lost=fleet.lost,
            rejected=fleet.rejected,
            shrunk_in_fault=self._shrunk_in_fault,
        )

    def _answered(self, *, after: float) -> float:
        """When everything in work is done; given up after a time in which every request is late anyway."""
        now = after
        while now < after + STUCK_SECONDS:
            self._until(now)
            self._fleet.advance(now)
            if not self._fleet.in_work:
                break
            now += 1.0
        return now

    def _at_floor(self, begin: float) -> float:
        now = begin
        while now < begin + TAIL_SECONDS:
            if self._wanted <= self._setting.least and len(self._fleet.pods) <= self._setting.least:
                break
            now += POINT_SECONDS
            self._until(now)
        return now

    def _arrive(self, request: Request) -> None:
        self._fleet.advance(request.arrival)
        engine = self._fleet.choice()
        if engine is not None:
            self._signals.chosen(request, engine, at=request.arrival)
        self._fleet.send(request)

    def _until(self, time: float) -> None:
        """Every event before this time."""
        while self._events and self._events[0][0] <= time:
            at, kind, _, pod = heapq.heappop(self._events)
            self._fleet.advance(at)
            if kind == _Kind.READY and pod is not None:
                self._fleet.become_ready(pod, at=at)
                self._watch(pod, at=at)
            elif kind == _Kind.SCRAPE and pod is not None:
                self._scrape(pod, at=at)
            elif kind == _Kind.TICK:
                self._tick(at)
            elif kind == _Kind.FAILURE:
                new = self._fleet.fail(at=at)
                if new is not None:
                    self._push(new.ready_at, _Kind.READY, new)
            elif kind == _Kind.POINT:
                self._point(at)

    def _push(self, at: float, kind: _Kind, pod: SimulatedPod | None = None) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, int(kind), self._count, pod))

    def _watch(self, pod: SimulatedPod, *, at: float) -> None:
        """From some time within the first interval on: each target has an offset of its own."""
        if pod.engine is not None:
            self._push(at + self._random.random() * self._controller.scrape_seconds, _Kind.SCRAPE, pod)

    def _scrape(self, pod: SimulatedPod, *, at: float) -> None:
        if pod.gone_at is not None or pod.engine is None:
            return
        fault = self._fault(at)
        if fault is Fault.NAN and pod.number % SPOILED_EACH:
            fault = Fault.NO
        self._scraped.scrape(pod.name, pod.engine.page, at=at, fault=fault)
        jitter = self._random.uniform(-SCRAPE_JITTER_SECONDS, SCRAPE_JITTER_SECONDS)
        self._push(at + self._controller.scrape_seconds + jitter, _Kind.SCRAPE, pod)

    def _tick(self, at: float) -> None:
        fleet = self._fleet
        fleet.sweep(at=at)
        self._signals.collect(fleet)
        for pod in fleet.gone:
            self._scraped.forget(pod.name)
        sight = Sight(
            now=at,
            wanted=self._wanted,
            pods=tuple(pod.facts() for pod in fleet.pods),
            scraped=self._scraped,
            held=len(fleet.held),
            in_work=fleet.in_work,
            signals=self._signals,
            is_seen=self._fault(at) is not Fault.OUTAGE,
        )
        setting = self._setting
        wanted = min(max(self._controller.replicas(sight), setting.least), setting.most)
        if wanted != self._wanted:
            self._changes.append((at, wanted - self._wanted))
            if wanted < self._wanted and self._fault(at) is not Fault.NO:
                self._shrunk_in_fault += self._wanted - wanted
            self._wanted = wanted
        for pod in fleet.scale(wanted, at=at):
            self._push(pod.ready_at, _Kind.READY, pod)
        self._push(at + self._controller.tick_seconds, _Kind.TICK)

    def _fault(self, at: float) -> Fault:
        return next((each.fault for each in self._setting.episodes if each.begin <= at < each.end), Fault.NO)

    def _point(self, at: float) -> None:
        fleet = self._fleet
        fleet.sweep(at=at)
        waiting = len(fleet.held) + sum(pod.engine.waiting for pod in fleet.pods if pod.engine is not None)
        self._points.append(Point(at, self._wanted, len(fleet.ready), len(fleet.pods), fleet.in_work, waiting))
        self._push(at + POINT_SECONDS, _Kind.POINT)
