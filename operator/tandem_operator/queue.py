"""The work queue: keys in, one pass at a time for each key, backoff after errors, a resync for what was never heard of.

Knows nothing of deployments. A key that is added while its pass runs is run again afterwards, so no event is lost
between the read and the end of a pass; a key that is added ten times before its turn is run once.

The earliest deadline goes first. What somebody has asked for is due at once; what follows from it, and what a resync
repeats, has some time: so a storm of events keeps no new resource waiting, and nothing waits for ever.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable

from prometheus_client import Counter, Gauge, Histogram

from tandem_operator.cluster import Cause, ClusterError
from tandem_operator.outcome import Outcome
from tandem_operator.store import Key

_log = logging.getLogger(__name__)

BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_LIMIT_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
"""How much later a pass may begin that nobody has asked for, when there are others."""

PASSES = Counter("tandem_operator_passes_total", "Passes by outcome.", ["outcome"])
PASS_ERRORS = Counter("tandem_operator_pass_errors_total", "Passes that failed, by cause.", ["cause"])
DONE, ERROR, DEFECT = "done", "error", "defect"
for _outcome in (DONE, ERROR):
    PASSES.labels(_outcome)
for _cause in (*Cause, DEFECT):
    PASS_ERRORS.labels(_cause)
PASS_SECONDS = Histogram("tandem_operator_pass_seconds", "Duration of a pass.")
QUEUE_DEPTH = Gauge("tandem_operator_queue_depth", "Keys that wait for a pass.")
QUEUE_WAIT_SECONDS = Histogram(
    "tandem_operator_queue_wait_seconds",
    "Time from the moment when a pass was due until it began.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)


class Queue:
    """Runs `process(key)` for every key that is added."""

    def __init__(self, process: Callable[[Key], Awaitable[Outcome]], *, workers: int = 8) -> None:
        self._process = process
        self._workers = workers
        self._ready: asyncio.PriorityQueue[tuple[float, int, Key]] = asyncio.PriorityQueue()
        self._count = itertools.count()
        self._waiting: dict[Key, tuple[float, float]] = {}
        """Since when and with which deadline, by the loop's clock."""
        self._running: set[Key] = set()
        self._again: dict[Key, bool] = {}
        """Keys that were added while their pass ran, and whether somebody has asked for it."""
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._not_before: dict[Key, float] = {}
        """Until when the API server has asked to be left alone, by the loop's clock."""

    def add(self, key: Key, *, is_asked_for: bool = False) -> None:
        """A pass is due now, or as soon as the API server wants to hear of the key again."""
        now = asyncio.get_running_loop().time()
        left_alone_seconds = self._not_before.get(key, 0.0) - now
        if left_alone_seconds > 0:
            self.add_later(key, seconds=left_alone_seconds)
            return
        self._not_before.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._running:
            self._again[key] = is_asked_for or self._again.get(key, False)
            return
        deadline = now if is_asked_for else now + PATIENCE_SECONDS
        since, known = self._waiting.get(key, (now, float("inf")))
        if deadline < known:  # an entry that is in the heap with a later deadline is passed over in its turn
            self._waiting[key] = since, deadline
            self._ready.put_nowait((deadline, next(self._count), key))
            QUEUE_DEPTH.set(len(self._waiting))

    def add_later(self, key: Key, *, seconds: float) -> None:
        """A pass is due after `seconds`, unless something asks for one before."""
        loop = asyncio.get_running_loop()
        planned = self._timers.get(key)
        if planned:
            if planned.when() <= loop.time() + seconds:
                return
            planned.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    async def run(self) -> None:
        """Work until cancelled. A failing pass never ends it."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._workers):
                tasks.create_task(self._work(), name=f"queue-worker-{number}")

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self) -> None:
        while True:
            deadline, _, key = await self._ready.get()
            since, newest = self._waiting.get(key, (0.0, None))
            if deadline != newest:
                continue
            del self._waiting[key]
            QUEUE_WAIT_SECONDS.observe(asyncio.get_running_loop().time() - since)
            QUEUE_DEPTH.set(len(self._waiting))
            self._running.add(key)
            try:
                await self._run_once(key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self.add(key, is_asked_for=self._again.pop(key))

    async def _run_once(self, key: Key) -> None:
        try:
            with PASS_SECONDS.time():
                outcome = await self._process(key)
        except ClusterError as error:
            self._back_off(key, error.cause, at_least_seconds=error.retry_after_seconds)
            _log.warning("%s/%s: pass ended early: %s", key.namespace, key.name, error)
            return
        except Exception:  # noqa: BLE001 -- the one place: any failing pass is logged, counted and run again
            self._back_off(key, DEFECT)
            _log.exception("%s/%s: pass failed", key.namespace, key.name)
            return
        PASSES.labels(DONE).inc()
        self._failures.pop(key, None)
        for woken in outcome.wake:
            self.add(woken)
        if outcome.again_after_seconds:
            self.add_later(key, seconds=outcome.again_after_seconds)

    def _back_off(self, key: Key, cause: str, *, at_least_seconds: float = 0.0) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        PASSES.labels(ERROR).inc()
        PASS_ERRORS.labels(cause).inc()
        if at_least_seconds:
            self._not_before[key] = asyncio.get_running_loop().time() + at_least_seconds
        self.add_later(key, seconds=max(backoff_seconds(failures), at_least_seconds))


def backoff_seconds(failures: int) -> float:
    """Doubling from half a second to a minute, with up to a quarter of jitter so that keys do not march in step."""
    full: float = min(BACKOFF_FIRST_SECONDS * 2 ** min(failures - 1, 16), BACKOFF_LIMIT_SECONDS)
    return full * random.uniform(0.75, 1.0)  # noqa: S311 -- spreads load, keeps no secret
