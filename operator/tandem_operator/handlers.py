"""kopf, and nothing but kopf: start-up, probes, and watch events that become keys in the queue.

No effect happens in a handler. kopf keeps the watches alive; what it may lose, the resync finds. There are no
`on.create` handlers, timers or daemons, so kopf writes no annotation and no finalizer on anybody's object.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterator
from time import monotonic
from typing import Any

import kopf
from prometheus_client import Gauge

from tandem_operator import names
from tandem_operator.cluster import KINDS, WATCHED, Cluster, ClusterError
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.lease import Lease, LeaseLostError, Terms, lead
from tandem_operator.queue import Queue
from tandem_operator.reconcile import Reconciler
from tandem_operator.store import Store, key_of

_log = logging.getLogger(__name__)

WATCHER_MISSING_LIMIT_SECONDS = 30.0
RESYNC_AGE_LIMIT_SECONDS = 300.0
"""Or three resyncs, where the configuration makes them rarer."""
RETRY_LIMIT_SECONDS = 15.0

LEADER = Gauge("tandem_operator_leader", "1 while this process is the active operator.")


class Backoffs:
    """Endless delays for kopf's requests: with a finite list its watchers end with the last one."""

    def __iter__(self) -> Iterator[float]:
        seconds = 1.0
        while True:
            yield seconds * random.uniform(0.75, 1.0)  # noqa: S311
            seconds = min(seconds * 1.6, RETRY_LIMIT_SECONDS)


class Shell:
    """The running operator: what the handlers share."""

    def __init__(self, *, namespace: str, identity: str, config: OperatorConfig) -> None:
        self.namespace, self.identity, self.config = namespace, identity, config
        self.store = Store()
        self.queue: Queue | None = None
        self._cluster: Cluster | None = None
        self._lease: Lease | None = None
        self._leading: asyncio.Task[None] | None = None
        self._resynced = 0.0
        self._watchers_seen = monotonic()

    async def start(self) -> None:
        """Connect, and compete for the lease in the background: kopf answers probes only after start-up."""
        self._cluster = await Cluster.connect(timeout_seconds=self.config.request_timeout_seconds)
        terms = Terms(self.config.lease_seconds)
        self._lease = Lease(self._cluster, self.namespace, identity=self.identity, terms=terms)
        self._leading = asyncio.create_task(self._lead(self._cluster, self._lease), name="leading")

    async def stop(self) -> None:
        """Stop working, then let the next operator take over at once."""
        if self._leading:
            self._leading.cancel()
            await asyncio.gather(self._leading, return_exceptions=True)
        if self._lease:
            await self._lease.release()
        if self._cluster:
            await self._cluster.close()

    async def _lead(self, cluster: Cluster, lease: Lease) -> None:
        reconciler = Reconciler(cluster, self.store, config=self.config)
        queue = Queue(reconciler.run)

        def work() -> asyncio.Task[None]:
            LEADER.set(1)
            self._resynced = monotonic()  # from now on the first one is due
            return asyncio.create_task(self._work(reconciler, queue), name="work")

        try:
            await lead(lease, work)
        except asyncio.CancelledError:
            raise
        except LeaseLostError as error:
            # Whatever is under way may no longer be written: ending the process is the only fence there is.
            _log.critical("the lease is lost (%s): this process ends", error)
            os._exit(1)
        except BaseException:  # noqa: BLE001 -- nothing else would end a process that looks alive and does nothing
            _log.critical("the operator's own work failed: this process ends", exc_info=True)
            os._exit(1)

    async def _work(self, reconciler: Reconciler, queue: Queue) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync(reconciler, queue), name="resync")
            tasks.create_task(queue.run(), name="queue")

    async def _resync(self, reconciler: Reconciler, queue: Queue) -> None:
        read = reconciler.fill
        while True:
            try:
                keys = await read(self.namespace)
            except ClusterError as error:
                _log.warning("resync failed, again in a moment: %s", error)
                await asyncio.sleep(self.config.resync_seconds / 10)
                continue
            self.queue = queue  # from here on events count: the store is whole
            self._resynced = monotonic()
            for key in keys:
                queue.add(key)
            read = reconciler.resync
            await asyncio.sleep(self.config.resync_seconds * random.uniform(0.9, 1.0))  # noqa: S311

    def take_in(self, kind: str, event: Manifest) -> None:
        """A watch event: update the store, and put the deployment that it belongs to into the queue."""
        manifest = {**event["object"], "apiVersion": KINDS[kind].api_version, "kind": kind}
        key = key_of(manifest)
        before = self.store.deployment(key) if key and kind == names.KIND else None
        if event["type"] == "DELETED":
            self.store.forget(manifest)
        elif not self.store.observe(manifest) or (before and not _is_news(before, manifest)):
            return
        if key and self.queue:
            self.queue.add(key)

    def check(self) -> dict[str, Any]:
        """For the liveness probe. Raises kopf.PermanentError, which kopf answers with HTTP 500."""
        running = {task.get_name() for task in asyncio.all_tasks()}
        missing = [
            kind for kind, prefix in _WATCHER_NAMES.items() if not any(name.startswith(prefix) for name in running)
        ]
        if not missing:
            self._watchers_seen = monotonic()
        elif monotonic() - self._watchers_seen > WATCHER_MISSING_LIMIT_SECONDS:
            raise kopf.PermanentError(f"no watcher for {', '.join(missing)}")
        age = monotonic() - self._resynced if self._resynced else 0.0
        if age > max(RESYNC_AGE_LIMIT_SECONDS, 3 * self.config.resync_seconds):
            raise kopf.PermanentError(f"no resync for {age:.0f} s")
        return {"watched": sorted(WATCHED), "resyncAgeSeconds": round(age)}


_WATCHER_NAMES = {kind: f"watcher for {KINDS[kind].plural}." for kind in WATCHED}


def _is_news(before: Manifest, after: Manifest) -> bool:
    """Whether an event of a deployment is about anything but our own status."""

    def told(manifest: Manifest) -> tuple[Any, ...]:
        metadata = manifest["metadata"]
        return metadata["uid"], metadata.get("generation"), metadata.get("labels"), metadata.get("deletionTimestamp")

    return told(before) != told(after)


def registry_of(shell: Shell) -> kopf.OperatorRegistry:
    """The handlers of one operator."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=registry)
    async def start(**_: Any) -> None:
        await shell.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await shell.stop()

    @kopf.on.probe(registry=registry, id="operator")
    async def probe(**_: Any) -> dict[str, Any]:  # async: a sync probe has no loop to look at
        return shell.check()

    for kind in WATCHED:
        _watch(registry, shell, kind)
    return registry


def _watch(registry: kopf.OperatorRegistry, shell: Shell, kind: str) -> None:
    group, _, version = KINDS[kind].api_version.rpartition("/")

    @kopf.on.event(group, version, KINDS[kind].plural, registry=registry, id=f"watch-{KINDS[kind].plural}")
    async def take_in(event: Any, **_: Any) -> None:
        shell.take_in(kind, event)


def settings_of() -> kopf.OperatorSettings:
    """kopf's settings, each pinned for a reason that CONTRIBUTING.md gives."""
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = Backoffs()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.scanning.disabled = True
    settings.posting.enabled = False
    for kind, selector in WATCHED.items():
        if selector:
            settings.watching.label_selectors[KINDS[kind].plural] = selector
    return settings
