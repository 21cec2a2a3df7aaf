"""Reads engines' metrics pages again and again, for scaling. Reads only, never waits, and never takes silence for idle.

A page is read beside the passes: a pass sees what those before have asked for, with the time at which it was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time

from tandem_contracts.ports import HTTP_PORT
from tandem_operator.pod_pages import PodPages
from tandem_operator.scaling.reading import Reading, reading_in
from tandem_operator.store import Key

READ_EVERY_SECONDS = 5.0
READS_AT_ONCE = 64


@dataclass
class _Pod:
    address: str
    reading: Reading | None = None
    due: float = 0.0
    read: asyncio.Task[None] | None = None


class EngineReadings:
    """The last reading of each verifier of each autoscaled deployment."""

    interval_seconds = READ_EVERY_SECONDS

    def __init__(self, *, port: int = HTTP_PORT, clock: Callable[[], float] = time) -> None:
        self._pages, self._clock = PodPages(port), clock
        self._pods: dict[Key, dict[str, _Pod]] = {}
        self._slots = asyncio.Semaphore(READS_AT_ONCE)

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """Of the pods at these addresses, by name; what is due is read meanwhile."""
        before = self._pods.get(key, {})
        for name, pod in before.items():
            if addresses.get(name) != pod.address:
                _end(pod)
        pods = {
            name: before[name] if name in before and before[name].address == address else _Pod(address)
            for name, address in addresses.items()
        }
        self._pods[key] = pods
        now = self._clock()
        for pod in pods.values():
            if now >= pod.due and (pod.read is None or pod.read.done()):
                pod.due = now + READ_EVERY_SECONDS
                pod.read = asyncio.create_task(self._read(pod))
        return {name: pod.reading for name, pod in pods.items() if pod.reading is not None}

    def trouble(self, _: Key) -> str:
        """Nothing: of a pod that does not answer its own condition tells more."""
        return ""

    async def settle(self, key: Key) -> None:
        """Wait for the reads that have begun."""
        await asyncio.gather(*(pod.read for pod in self._pods.get(key, {}).values() if pod.read))

    def forget(self, key: Key) -> None:
        """Nobody asks for the deployment's any more."""
        for pod in self._pods.pop(key, {}).values():
            _end(pod)

    async def close(self) -> None:
        reads = [pod.read for pods in self._pods.values() for pod in pods.values() if pod.read]
        for key in list(self._pods):
            self.forget(key)
        await asyncio.gather(*reads, return_exceptions=True)
        await self._pages.close()

    async def _read(self, pod: _Pod) -> None:
        async with self._slots:
            page = await self._pages.read(pod.address)
        reading = None if page is None else reading_in(page, at=self._clock())
        pod.reading = reading or pod.reading


def _end(pod: _Pod) -> None:
    if pod.read:
        pod.read.cancel()
