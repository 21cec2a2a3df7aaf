"""Reads metrics pages of pods again and again, for scaling. Reads only, never waits, and never takes silence for idle.

A page is read beside the passes: a pass sees what those before have asked for, with the time at which it was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Generic, Protocol, TypeVar

from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator.pace import is_due
from tandem_operator.pod_pages import PodPages
from tandem_operator.scaling.drafting import Said, said_in
from tandem_operator.scaling.reading import Reading, reading_in
from tandem_operator.store import Key

READ_EVERY_SECONDS = 5.0
READS_AT_ONCE = 64
T = TypeVar("T")
Told = TypeVar("Told", covariant=True)


class Parse(Protocol[Told]):
    """From a page, and when it was read, to what it tells; None: nothing."""

    def __call__(self, page: str, /, *, at: float) -> Told | None: ...


@dataclass
class _Pod(Generic[T]):
    address: str
    reading: T | None = None
    due: float = 0.0
    read: asyncio.Task[None] | None = None


class PageReadings(Generic[T]):
    """The last reading of each pod of each deployment that is asked for."""

    def __init__(self, parse: Parse[T], *, port: int, clock: Callable[[], float]) -> None:
        self._parse, self._pages, self._clock = parse, PodPages(port), clock
        self._pods: dict[Key, dict[str, _Pod[T]]] = {}
        self._slots = asyncio.Semaphore(READS_AT_ONCE)

    def interval_seconds(self, _: Key) -> float:
        """In which each pod is read anew."""
        return READ_EVERY_SECONDS

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, T]:
        """Of the pods at these addresses, by name; what is due is read meanwhile."""
        before = self._pods.get(key, {})
        for name, pod in before.items():
            if addresses.get(name) != pod.address:
                _end(pod)
        pods = {
            name: before[name] if name in before and before[name].address == address else _Pod[T](address)
            for name, address in addresses.items()
        }
        self._pods[key] = pods
        now = self._clock()
        for pod in pods.values():
            if is_due(pod.due, now=now, every_seconds=READ_EVERY_SECONDS) and (pod.read is None or pod.read.done()):
                pod.due = now + READ_EVERY_SECONDS
                pod.read = asyncio.create_task(self._read(pod))
        return {name: pod.reading for name, pod in pods.items() if pod.reading is not None}

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

    async def _read(self, pod: _Pod[T]) -> None:
        async with self._slots:
            page = await self._pages.read(pod.address)
        reading = None if page is None else self._parse(page, at=self._clock())
        pod.reading = reading or pod.reading


class EngineReadings(PageReadings[Reading]):
    """Of verifiers' engines, for the load."""

    def __init__(self, *, port: int = HTTP_PORT, clock: Callable[[], float] = time) -> None:
        super().__init__(reading_in, port=port, clock=clock)

    def trouble(self, _: Key) -> str:
        """Nothing: of a pod that does not answer its own condition tells more."""
        return ""


class DraftingReadings(PageReadings[Said]):
    """Of the proposers in verifiers and of draft servers, which both have a page of their own beside the engine's."""

    def __init__(self, *, port: int = METRICS_PORT, clock: Callable[[], float] = time) -> None:
        super().__init__(said_in, port=port, clock=clock)


def _end(pod: _Pod[T]) -> None:
    if pod.read:
        pod.read.cancel()
