"""What wake gates say of themselves: how many requests they hold, and answer. Reads only, and beside the passes.

A gate that does not answer is unknown: neither idle, nor without requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time

from tandem_contracts.metrics import GATE_ANSWERING, GATE_HELD
from tandem_contracts.ports import METRICS_PORT
from tandem_operator.pace import is_due
from tandem_operator.pod_pages import PodPages
from tandem_operator.scaling.observed import Gate
from tandem_operator.scaling.reading import samples_in
from tandem_operator.store import Key

READ_EVERY_SECONDS = 1.5
SAMPLES = 2


def gate_in(page: str, *, at: float) -> Gate | None:
    """What a page says; None when it does not tell both."""
    found = {sample.name: sample.value for sample in samples_in(page, (GATE_HELD, GATE_ANSWERING)) or ()}
    try:
        return Gate(at, held=int(found[GATE_HELD]), answering=int(found[GATE_ANSWERING]))
    except (ValueError, KeyError, OverflowError):
        return None


@dataclass
class _Seen:
    gate: Gate | None = None
    idle_samples: int = 0
    due: float = 0.0
    read: asyncio.Task[None] | None = None


class GateReadings:
    """The last reading of the gate of each deployment that has one."""

    def __init__(self, *, port: int = METRICS_PORT, clock: Callable[[], float] = time) -> None:
        self._pages, self._clock = PodPages(port), clock
        self._seen: dict[Key, _Seen] = {}

    def latest(self, key: Key, addresses: Mapping[str, str]) -> Gate | None:
        """Of all pods of the gate together; what is due is read meanwhile."""
        if not addresses and key not in self._seen:
            return None
        seen, now = self._seen.setdefault(key, _Seen()), self._clock()
        due = is_due(seen.due, now=now, every_seconds=READ_EVERY_SECONDS)
        if not addresses:
            seen.idle_samples = 0
        elif due and (seen.read is None or seen.read.done()):
            seen.due = now + READ_EVERY_SECONDS
            seen.read = asyncio.create_task(self._read(seen, tuple(addresses.values())))
        return seen.gate

    def is_idle(self, key: Key) -> bool:
        """Whether it has said in its last samples that it has no request."""
        seen = self._seen.get(key)
        return seen is not None and seen.idle_samples >= SAMPLES

    async def settle(self, key: Key) -> None:
        """Wait for the read that has begun."""
        seen = self._seen.get(key)
        if seen is not None and seen.read is not None:
            await seen.read

    def forget(self, key: Key) -> None:
        """The deployment has no gate any more."""
        seen = self._seen.pop(key, None)
        if seen is not None and seen.read is not None:
            seen.read.cancel()

    async def close(self) -> None:
        reads = [seen.read for seen in self._seen.values() if seen.read]
        for key in list(self._seen):
            self.forget(key)
        await asyncio.gather(*reads, return_exceptions=True)
        await self._pages.close()

    async def _read(self, seen: _Seen, addresses: tuple[str, ...]) -> None:
        pages = await asyncio.gather(*(self._pages.read(address) for address in addresses))
        at = self._clock()
        gates = [gate_in(page, at=at) for page in pages if page is not None]
        known = [gate for gate in gates if gate is not None]
        if len(known) < len(addresses):
            seen.idle_samples = 0
            return
        held, answering = sum(gate.held for gate in known), sum(gate.answering for gate in known)
        seen.gate = Gate(at, held=held, answering=answering)
        seen.idle_samples = 0 if held or answering else seen.idle_samples + 1
