"""The crash campaign: learn which writes a change takes, then kill the operator before and after each of them.

A plan is one write, named in words that are the same in every run, and the side of it on which the operator dies. Each
plan has a namespace of its own, so that several run at once.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.cluster import Cluster
from deploy.place import Place
from tests.faults import actions
from tests.faults.case import QUIET_RESYNCS, Case, open_case
from tests.faults.oracles import Reference, Snapshot, Summary, reference_of
from tests.faults.proxy import Exchange
from tests.faults.requests import ApiRequest, writes
from tests.faults.workloads import WORKLOADS, Workload

CLEAN_RUNS = 3
WORKERS = 3
ATTEMPTS = 3
"""How often a plan is carried out whose write does not occur: some come only in some orders of the pods' events."""


@dataclass(frozen=True, order=True)
class Write:
    """The n-th write of its kind in a change."""

    verb: str
    resource: str
    name: str
    subresource: str
    ordinal: int

    def is_like(self, request: ApiRequest) -> bool:
        """Whether a request is such a write, whichever in number."""
        return _kind_of(request) == (self.verb, self.resource, self.name, self.subresource)


@dataclass(frozen=True)
class Plan:
    """Kill the operator `before` or `after` this write. Without a write: it is down while the user makes the change."""

    workload: str
    write: Write | None = None
    side: str = ""

    def __str__(self) -> str:
        write = self.write
        if write is None:
            return f"{self.workload}: down meanwhile"
        what = "/".join(part for part in (write.resource, write.name, write.subresource) if part)
        return f"{self.workload}: killed {self.side} {write.verb} {what} no. {write.ordinal}"


@dataclass(frozen=True)
class Verdict:
    """How a plan ended. Not struck: the write did not occur in any attempt (the pods came in another order).

    A plan without a write has none to meet, and says nothing of how well the others were met.
    """

    plan: str
    is_struck: bool
    failure: str
    seconds: float


@dataclass(frozen=True)
class Learned:
    """What a workload does without faults."""

    writes: tuple[Write, ...]
    always: frozenset[Write]
    """Those of every clean run; the others come in some orders of the pods' events only."""
    reference: Reference

    def plans(self, workload: str) -> list[Plan]:
        """One without a write, and two for each."""
        return [Plan(workload), *(Plan(workload, write, side) for write in self.writes for side in ("before", "after"))]

    def certain_plans(self, workload: str) -> list[Plan]:
        """Those whose write comes however the pods' events fall together: the first of each kind of every clean run.

        How often an object is written again depends on how many events one pass sees at once.
        """
        return [p for p in self.plans(workload) if p.write is None or (p.write in self.always and p.write.ordinal == 1)]


def learn(cluster: Cluster, place: Place, workload: str) -> Learned:
    """Run a workload without faults; its writes in order, and what it ends in."""

    def run(_: int) -> tuple[list[Write], tuple[Snapshot, Summary]]:
        with _alone(cluster, place) as case:
            begun = _brought_about(case, WORKLOADS[workload])
            WORKLOADS[workload].act(case)
            case.settle(lambda: WORKLOADS[workload].is_done(case) and case.has_inspected())
            return _writes_of(case.proxy.record[begun:]), (case.snapshot(), case.summary())

    with ThreadPoolExecutor(WORKERS) as pool:
        runs = list(pool.map(run, range(CLEAN_RUNS)))
    ordered = dict.fromkeys(write for written, _ in runs for write in written)
    always = frozenset(ordered).intersection(*(written for written, _ in runs))
    return Learned(tuple(ordered), always, reference_of([seen for _, seen in runs]))


def strike(cluster: Cluster, place: Place, plan: Plan, *, reference: Reference) -> Verdict:
    """Carry out a plan until its write occurs, and judge it; an attempt without the write must end well too."""
    begun, is_struck, failure = time.monotonic(), False, ""
    try:
        for _ in range(ATTEMPTS):
            with _alone(cluster, place) as case:
                is_struck = _strike(case, plan, reference)
            if is_struck:
                break
    except Exception:  # noqa: BLE001 -- a verdict on each plan, whatever went wrong in it
        failure = traceback.format_exc(limit=-3)
    return Verdict(str(plan), is_struck, failure, round(time.monotonic() - begun, 1))


def _strike(case: Case, plan: Plan, reference: Reference) -> bool:
    workload = WORKLOADS[plan.workload]
    _brought_about(case, workload)
    is_struck = _killed(case, workload, plan)
    if is_struck:
        case.restart()
    case.matches(reference)
    case.wrote_as(reference)
    case.served(most_pods=workload.most_pods, keeps_serving=workload.keeps_serving)
    return is_struck


def _killed(case: Case, workload: Workload, plan: Plan) -> bool:
    """Make the change and kill the operator as planned; False when the write did not occur."""
    if plan.write is None:
        case.operator.end(signal.SIGKILL)
        workload.act(case)
        return True
    kill = actions.before if plan.side == "before" else actions.after
    strike = case.proxy.add(writes(where=plan.write.is_like), kill(case.kill), first=plan.write.ordinal)
    begun = len(case.proxy.record)
    workload.act(case)
    case.wait(
        lambda: (
            not case.operator.is_running() or (case.quiet_resyncs(begun) >= QUIET_RESYNCS and workload.is_done(case))
        ),
        f"the write or the end of {plan}",
    )
    case.proxy.remove(strike)  # a write that comes only now is not met any more
    return not case.operator.is_running()


def strike_all(
    cluster: Cluster, place: Place, plans: Sequence[Plan], *, reference: Reference, workers: int = WORKERS
) -> list[Verdict]:
    """Carry out several plans, a few at once."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda plan: strike(cluster, place, plan, reference=reference), plans))


def drawn(plans: Sequence[Plan], count: int, *, seed: int) -> list[Plan]:
    """A fixed draw from the plans; all of them when there are no more."""
    chosen = random.Random(seed).sample(range(len(plans)), min(count, len(plans)))
    return [plans[number] for number in sorted(chosen)]


def _brought_about(case: Case, workload: Workload) -> int:
    """Start the operator and bring about the state before the change; where the record stands then."""
    case.start()
    if workload.prepare is not None:
        workload.prepare(case)
        case.settle(lambda: case.says("Ready") and case.has_inspected())
    return len(case.proxy.record)


def _writes_of(record: Sequence[Exchange]) -> list[Write]:
    seen: Counter[tuple[str, str, str, str]] = Counter()
    found = []
    for exchange in record:
        if exchange.request.is_write:
            kind = _kind_of(exchange.request)
            seen[kind] += 1
            found.append(Write(*kind, seen[kind]))
    return found


def _kind_of(request: ApiRequest) -> tuple[str, str, str, str]:
    name = "" if request.resource == "events" else request.kind_of_name  # an event's name is drawn
    return request.verb, request.resource, name, request.subresource


@contextmanager
def _alone(cluster: Cluster, place: Place) -> Iterator[Case]:
    with (
        tempfile.TemporaryDirectory(prefix="tandem-fault-") as folder,
        open_case(cluster, place, folder=Path(folder)) as case,
    ):
        yield case
