"""Reads what verifiers have measured of their drafts, at their launchers' metrics ports. Reads only, and never waits.

A page is read beside the passes, so a pass sees what the one before asked for. A pod that does not answer is asked
ever more rarely; what is forgotten is only read anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from tandem_contracts.ports import METRICS_PORT
from tandem_operator.measured_speculation import Measured, Reading, measured_of, reading_in
from tandem_operator.pod_pages import PodPages
from tandem_operator.store import Key

READ_EVERY_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 600.0
READINGS_KEPT = 11
"""Of a pod: five minutes, while all of them succeed."""
OLDEST_SECONDS = 330.0
READS_AT_ONCE = 16


@dataclass
class _Pod:
    address: str
    readings: deque[tuple[float, Reading]] = field(default_factory=lambda: deque(maxlen=READINGS_KEPT))
    """And when each was made."""
    due: float = 0.0
    pause_seconds: float = READ_EVERY_SECONDS
    read: asyncio.Task[None] | None = None


class SpeculationFigures:
    """The last readings of each verifier of each deployment."""

    def __init__(self, *, port: int = METRICS_PORT, clock: Callable[[], float] = monotonic) -> None:
        self._pages, self._clock = PodPages(port), clock
        self._pods: dict[Key, dict[str, _Pod]] = {}
        self._slots = asyncio.Semaphore(READS_AT_ONCE)

    def latest(self, key: Key, addresses: Mapping[str, str]) -> Measured | None:
        """What is known of the verifiers with these addresses, by uid; what is due is read meanwhile."""
        before = self._pods.get(key, {})
        for uid in before.keys() - addresses.keys():
            self._end(before[uid])
        pods = {uid: before.get(uid) or _Pod(address) for uid, address in addresses.items()}
        if not pods:
            self._pods.pop(key, None)
            return None
        self._pods[key] = pods
        for pod in pods.values():
            if self._clock() >= pod.due and (pod.read is None or pod.read.done()):
                pod.read = asyncio.create_task(self._read(pod))
        since = self._clock() - OLDEST_SECONDS
        return measured_of([[reading for at, reading in pod.readings if at >= since] for pod in pods.values()])

    def due_seconds(self, key: Key) -> float:
        """Seconds until a pass is due to read again; 0: none is."""
        now = self._clock()
        return min((max(1.0, pod.due - now) for pod in self._pods.get(key, {}).values()), default=0.0)

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        for pod in self._pods.pop(key, {}).values():
            self._end(pod)

    async def close(self) -> None:
        reads = [pod.read for pods in self._pods.values() for pod in pods.values() if pod.read]
        for key in list(self._pods):
            self.forget(key)
        await asyncio.gather(*reads, return_exceptions=True)
        await self._pages.close()

    def _end(self, pod: _Pod) -> None:
        if pod.read:
            pod.read.cancel()

    async def _read(self, pod: _Pod) -> None:
        async with self._slots:
            page = await self._pages.read(pod.address)
        reading = None if page is None else reading_in(page)
        if reading is None:
            pod.pause_seconds = min(2 * pod.pause_seconds, LONGEST_PAUSE_SECONDS)
        else:
            pod.readings.append((self._clock(), reading))
            pod.pause_seconds = READ_EVERY_SECONDS
        pod.due = self._clock() + pod.pause_seconds
