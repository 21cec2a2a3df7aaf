"""Times the starts of pods that this operator has seen become Ready, and counts them in a histogram. Reads only.

A pod is asked at its launcher's metrics port, in the background: no pass waits for a pod. One that does not answer is
asked a few times more, since one that has just begun to serve is busy; one that never does leaves the phases of its
engine unknown. What was Ready before this operator looked is not counted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from types import MappingProxyType

from prometheus_client import Histogram

from tandem_contracts.launch import Role
from tandem_contracts.ports import METRICS_PORT
from tandem_operator.cold_start import ColdStart, StartPhase, cold_start_of, engine_phases_in
from tandem_operator.facts import Manifest
from tandem_operator.facts_parsing import pod_of
from tandem_operator.pod_pages import PodPages
from tandem_operator.store import Key

READS_AT_ONCE = 16
READ_AGAIN_AFTER_SECONDS = (1.0, 5.0, 20.0)
READS_WAITING_LIMIT = 1000
"""Further pods are not asked: their phases inside the engine stay unknown."""

COLD_START_SECONDS = Histogram(
    "tandem_cold_start_seconds",
    "Duration of a pod's start by phase.",
    ["role", "phase"],
    buckets=(0.1, 0.3, 1, 3, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600),
)
for _role, _phase in product(Role, StartPhase):
    COLD_START_SECONDS.labels(_role.value, _phase.value)


class ColdStarts:
    """Pods on their way, and the last start of a verifier of each deployment."""

    def __init__(self, *, port: int = METRICS_PORT, pauses_seconds: Sequence[float] = READ_AGAIN_AFTER_SECONDS) -> None:
        self._pages, self._pauses_seconds = PodPages(port), pauses_seconds
        self._starting: dict[Key, frozenset[str]] = {}
        self._last: dict[Key, ColdStart] = {}
        self._reads: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(READS_AT_ONCE)

    def last(self, key: Key, children: Iterable[Manifest]) -> ColdStart | None:
        """Take in how the pods are now; the last start of a verifier, None while none was seen."""
        before, starting = self._starting.get(key, frozenset()), set()
        for child in children:
            pod = pod_of(child) if child["kind"] == "Pod" else None
            if pod is None or pod.is_over or pod.is_going:
                continue
            if not pod.is_ready:
                starting.add(pod.uid)
            elif pod.uid in before:
                self._count(key, cold_start_of(child, pod.role), address=pod.address)
        self._starting[key] = frozenset(starting)
        return self._last.get(key)

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        self._starting.pop(key, None)
        self._last.pop(key, None)

    async def close(self) -> None:
        for read in self._reads:
            read.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        await self._pages.close()

    def _count(self, key: Key, start: ColdStart | None, *, address: str) -> None:
        if start is None:
            return
        _observe(start.role, start.seconds)
        if start.role is Role.VERIFIER:
            self._last[key] = start
        if address and len(self._reads) < READS_WAITING_LIMIT:
            read = asyncio.create_task(self._ask(key, start, address))
            self._reads.add(read)
            read.add_done_callback(self._reads.discard)

    async def _ask(self, key: Key, start: ColdStart, address: str) -> None:
        phases = await self._phases(address)
        for pause_seconds in self._pauses_seconds:
            if phases:
                break
            await asyncio.sleep(pause_seconds)
            phases = await self._phases(address)
        _observe(start.role, phases)
        if phases and self._last.get(key) is start:
            self._last[key] = start.with_engine(phases)

    async def _phases(self, address: str) -> Mapping[StartPhase, float]:
        async with self._slots:
            page = await self._pages.read(address)
        return _UNKNOWN if page is None else engine_phases_in(page)


_UNKNOWN: Mapping[StartPhase, float] = MappingProxyType({})


def _observe(role: Role, seconds: Mapping[StartPhase, float]) -> None:
    for phase, value in seconds.items():
        COLD_START_SECONDS.labels(role.value, phase.value).observe(value)
