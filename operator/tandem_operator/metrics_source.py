"""What engines say of themselves, asked at their pods' own metrics page: how many requests they still work on.

An engine that does not answer, or says nothing of its requests, is unknown, and unknown is never taken for idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

from prometheus_client.parser import text_string_to_metric_families

from tandem_contracts.metrics import ENGINE_RUNNING, ENGINE_WAITING
from tandem_contracts.ports import HTTP_PORT
from tandem_operator.pod_pages import PodPages
from tandem_operator.store import Key

SAMPLE_GAP_SECONDS = 1.5
SAMPLES = 2
_FAMILIES = (ENGINE_RUNNING, ENGINE_WAITING)


def requests_in(page: str) -> float | None:
    """Running plus waiting requests of an engine by its metrics page; None when the page does not tell both."""
    lines = [line for line in page.splitlines() if line.startswith(_FAMILIES)]
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    except ValueError:
        return None
    total = sum(found.get(name, float("nan")) for name in _FAMILIES)
    return total if total >= 0 else None


@dataclass(frozen=True)
class _Idleness:
    """How many samples in a row found no request, and when the last one was taken."""

    samples: int
    at: float


class EngineLoads:
    """Samples the engines of revisions that drain. Forgetting what it knows only makes a drain a little longer."""

    def __init__(self, *, port: int = HTTP_PORT, clock: Callable[[], float] = monotonic) -> None:
        self._pages, self._clock = PodPages(port), clock
        self._seen: dict[tuple[Key, str], _Idleness] = {}

    async def close(self) -> None:
        await self._pages.close()

    async def idle(self, key: Key, pods: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
        """Of the draining revisions of a deployment, with the addresses of their Ready pods, those that are done.

        Done: every engine has said in two samples, some time apart, that it neither runs a request nor lets one wait.
        """
        for gone in [at for at in self._seen if at[0] == key and at[1] not in pods]:
            del self._seen[gone]
        return frozenset([revision for revision, found in pods.items() if await self._is_idle((key, revision), found)])

    async def _is_idle(self, at: tuple[Key, str], addresses: tuple[str, ...]) -> bool:
        seen = self._seen.get(at, _Idleness(0, float("-inf")))
        if self._clock() - seen.at >= SAMPLE_GAP_SECONDS:
            counts = await asyncio.gather(*(self._requests(address) for address in addresses))
            is_idle = bool(counts) and all(count == 0 for count in counts)
            seen = self._seen[at] = _Idleness(seen.samples + 1 if is_idle else 0, self._clock())
        return seen.samples >= SAMPLES

    async def _requests(self, address: str) -> float | None:
        page = await self._pages.read(address)
        return None if page is None else requests_in(page)
