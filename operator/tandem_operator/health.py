"""The operator's own health: `/healthz`, `/readyz`, and the gauges that somebody has to look after.

Healthy: every watcher that should run does, and the resync goes round; a process that is not should be started again.
Ready: the leader's store is whole, or a standby hears from the API server. Knows the operator only by its `Vitals`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiohttp import web
from prometheus_client import Gauge

from tandem_operator import __version__

WATCHER_MISSING_LIMIT_SECONDS = 30.0
LOOK_SECONDS = 5.0

WATCH_UP = Gauge("tandem_operator_watch_up", "1 while the watcher of a kind runs.", ["kind"])
STORE_OBJECTS = Gauge("tandem_operator_store_objects", "Objects in the store by kind.", ["kind"])
RESYNC_AGE_SECONDS = Gauge("tandem_operator_resync_age_seconds", "Time since the last resync; 0 for a standby.")
RESYNC_AGE_LIMIT_SECONDS = Gauge(
    "tandem_operator_resync_age_limit_seconds", "Age of the last resync at which `/healthz` fails."
)
BUILD_INFO = Gauge("tandem_operator_build_info", "Always 1.", ["version"])


@dataclass(frozen=True)
class Vitals:
    """What health is judged by, at one moment."""

    watchers: Mapping[str, str]
    """How the names of the tasks that watch begin, by kind."""
    store_sizes: Mapping[str, int]
    """Objects in the store by kind."""
    resync_age_seconds: float
    """Since the last resync, or since a first one is due; 0 for a standby."""
    resync_age_limit_seconds: float
    is_ready: bool


class Health:
    """Looks at the vitals every few seconds and whenever a probe asks."""

    def __init__(self, vitals: Callable[[], Vitals], *, clock: Callable[[], float] = monotonic) -> None:
        self._vitals, self._clock = vitals, clock
        self._all_watched = clock()
        self._runner: web.AppRunner | None = None
        self._looking: asyncio.Task[None] | None = None
        BUILD_INFO.labels(__version__).set(1)

    def faults(self) -> tuple[str, ...]:
        """What is wrong; sets the gauges too. To be called in the event loop, whose tasks it looks at."""
        vitals = self._vitals()
        running = {task.get_name() for task in asyncio.all_tasks()}
        missing = []
        for kind, beginning in vitals.watchers.items():
            is_up = any(name.startswith(beginning) for name in running)
            WATCH_UP.labels(kind).set(is_up)
            missing += [] if is_up else [kind]
        if not missing:
            self._all_watched = self._clock()
        RESYNC_AGE_SECONDS.set(vitals.resync_age_seconds)
        RESYNC_AGE_LIMIT_SECONDS.set(vitals.resync_age_limit_seconds)
        for kind in vitals.watchers:
            STORE_OBJECTS.labels(kind).set(vitals.store_sizes.get(kind, 0))
        faults = []
        if self._clock() - self._all_watched > WATCHER_MISSING_LIMIT_SECONDS:
            faults.append(f"no watcher for {', '.join(missing)}")
        if vitals.resync_age_seconds > vitals.resync_age_limit_seconds:
            faults.append(f"no resync for {vitals.resync_age_seconds:.0f} s")
        return tuple(faults)

    async def start(self, port: int) -> None:
        """Answer probes from now on (port 0: only look after the gauges). Raises OSError when the port is taken."""
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        if port:
            await web.TCPSite(self._runner, "0.0.0.0", port).start()  # noqa: S104 -- the kubelet asks at the pod's address
        self._looking = asyncio.create_task(self._look(), name="health")

    async def stop(self) -> None:
        """Answer no more."""
        if self._looking:
            self._looking.cancel()
        if self._runner:
            await self._runner.cleanup()

    async def _look(self) -> None:
        while True:
            self.faults()
            await asyncio.sleep(LOOK_SECONDS)

    async def _healthz(self, _: web.Request) -> web.Response:
        faults, vitals = self.faults(), self._vitals()
        told = {"watched": sorted(vitals.watchers), "resyncAgeSeconds": round(vitals.resync_age_seconds)}
        return _answer(500 if faults else 200, {**told, "faults": list(faults)})

    async def _readyz(self, _: web.Request) -> web.Response:
        is_ready = self._vitals().is_ready
        return _answer(200 if is_ready else 503, {"ready": is_ready})


def _answer(status: int, told: Mapping[str, Any]) -> web.Response:
    return web.Response(status=status, text=json.dumps(told), content_type="application/json")
