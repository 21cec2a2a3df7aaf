"""kopf, and nothing but kopf: start-up, and watch events that become keys in the queue.

No effect happens in a handler. kopf keeps the watches alive; what it may lose, the resync finds. There are no
`on.create` handlers, timers or daemons, so kopf writes no annotation and no finalizer on anybody's object.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any

import kopf
from prometheus_client import Gauge

from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.artifact_facts import names_in
from tandem_operator.artifact_needs import Settings
from tandem_operator.benchmark_facts import is_benchmark
from tandem_operator.cluster import KINDS, OPTIONAL_WATCHED, WATCHED, Cluster, ClusterError, watched_of
from tandem_operator.config import OperatorConfig, Scope
from tandem_operator.facts import PROTECTION_KINDS, Manifest, Ref
from tandem_operator.facts_parsing import pod_of
from tandem_operator.health import Health, Vitals
from tandem_operator.kept import kept_of
from tandem_operator.lease import Lease, LeaseLostError, Terms, lead
from tandem_operator.neighbours import Neighbours
from tandem_operator.outcome import Outcome
from tandem_operator.queue import Queue
from tandem_operator.reconcile import Reconciler
from tandem_operator.store import Key, Store, key_of

_log = logging.getLogger(__name__)

RESYNC_AGE_LIMIT_SECONDS = 300.0
"""Or three resyncs, where the configuration makes them rarer."""
RETRY_LIMIT_SECONDS = 15.0
WATCH_PAGE_SIZE = 20
"""kopf lists all kinds at once when it starts to watch: this many objects of each are in memory."""
IDLE_SECONDS = 0.05
"""How long kopf keeps a task for an object after an event."""
ENDING_LIMIT_SECONDS = 15.0
"""A watcher that fails for good (a token refused with 401) ends kopf, whose own ending may hang: then nothing leads."""

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

    def __init__(self, *, namespace: str, identity: str, config: OperatorConfig, health_port: int = 0) -> None:
        self.namespace, self.identity, self.config = namespace, identity, config
        self.served = "" if config.scope is Scope.CLUSTER else namespace
        """The namespace whose deployments it serves; empty: every one."""
        self._health_port = health_port
        self.watched = watched_of(table_of(config))
        self.store = Store(partial(names_in, settings=Settings.of(config)))
        self.queue: Queue | None = None
        self.is_leading = False
        self._cluster: Cluster | None = None
        self._lease: Lease | None = None
        self._leading: asyncio.Task[None] | None = None
        self._resynced = 0.0
        self._health = Health(self.vitals)

    async def start(self) -> None:
        """Answer probes, connect, and compete for the lease in the background: kopf watches only after start-up."""
        await self._health.start(self._health_port)
        self._cluster = await Cluster.connect(timeout_seconds=self.config.request_timeout_seconds)
        self._lease = self._lease_of(self._cluster, self.namespace)
        self._leading = asyncio.create_task(self._lead(self._cluster, self._lease), name="leading")

    def _lease_of(self, cluster: Cluster, namespace: str) -> Lease:
        return Lease(cluster, namespace, identity=self.identity, terms=Terms(self.config.lease_seconds))

    async def stop(self) -> None:
        """Stop working, then let the next operator take over at once."""
        if self._leading:
            self._leading.cancel()
            await asyncio.gather(self._leading, return_exceptions=True)
        if self._lease:
            await self._lease.release()
        if self._cluster:
            await self._cluster.close()
        await self._health.stop()

    async def _lead(self, cluster: Cluster, lease: Lease) -> None:
        reconciler = Reconciler(cluster, self.store, config=self.config)
        neighbours = Neighbours(partial(self._lease_of, cluster))

        async def run(key: Key) -> Outcome:
            if not self.served and key.namespace != self.namespace and await neighbours.leads(key.namespace):
                return Outcome(again_after_seconds=self.config.resync_seconds)
            return await reconciler.run(key)

        queue = Queue(run)

        def work() -> asyncio.Task[None]:
            LEADER.set(1)
            self.is_leading = True
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
        finally:
            await reconciler.close()

    async def _work(self, reconciler: Reconciler, queue: Queue) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync(reconciler, queue), name="resync")
            tasks.create_task(queue.run(), name="queue")

    async def _resync(self, reconciler: Reconciler, queue: Queue) -> None:
        read = reconciler.fill
        while True:
            try:
                keys = await read(self.served)
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
        """A watch event: update the store, and put the deployment that it belongs to into the queue.

        Not before this process leads: it will read everything then, and what a standby keeps would only grow.
        """
        if not self.is_leading:
            return
        manifest = {**event["object"], "apiVersion": KINDS[kind].api_version, "kind": kind}
        key, namespace = key_of(manifest), manifest["metadata"]["namespace"]
        before = self.store.child(Ref.of(manifest), namespace)
        if event["type"] == "DELETED":
            self.store.forget(manifest)
        elif not self.store.observe(manifest) or (before and not _is_news(before, manifest)):
            return
        if key and self.queue:
            self.queue.add(key, is_asked_for=kind == names.KIND)
            for manifest in self.store.naming(key) if kind == names.ARTIFACT_KIND else ():
                referrer = key_of(manifest)
                if referrer:
                    self.queue.add(referrer)

    def vitals(self) -> Vitals:
        """For the probes."""
        limit = max(RESYNC_AGE_LIMIT_SECONDS, 3 * self.config.resync_seconds)
        heard = self._lease.answered if self._lease else float("-inf")
        is_standing_by = asyncio.get_running_loop().time() - heard < self.config.lease_seconds
        return Vitals(
            watchers={kind: f"watcher for {KINDS[kind].plural}." for kind in self.watched},
            store_sizes=self.store.sizes(),
            resync_age_seconds=monotonic() - self._resynced if self.is_leading else 0.0,
            resync_age_limit_seconds=limit,
            is_ready=self.queue is not None if self.is_leading else is_standing_by,
        )


def _is_news(before: Manifest, after: Manifest) -> bool:
    """Whether a pass could come to another end: of a deployment anything but our own status; of a pod what is read."""
    if after["kind"] == "Pod" and names.LABEL_ARTIFACT not in (after["metadata"].get("labels") or {}):
        return pod_of(before) != pod_of(after) or is_benchmark(after)
    if after["kind"] in PROTECTION_KINDS:  # a budget counts every change of every pod
        return _written(before) != _written(after)
    if after["kind"] != names.KIND:
        return True

    def told(manifest: Manifest) -> tuple[Any, ...]:
        metadata = manifest["metadata"]
        asked = (metadata.get("annotations") or {}).get(names.ANNOTATION_REFRESH)
        read = ("uid", "generation", "labels", "deletionTimestamp")
        return (asked, *(metadata.get(key) for key in read))

    return told(before) != told(after)


def _written(manifest: Manifest) -> Manifest:
    """What others than its controller write of an object."""
    kept = kept_of(manifest)
    return {**kept, "metadata": {**kept["metadata"], "resourceVersion": ""}}


def registry_of(shell: Shell) -> kopf.OperatorRegistry:
    """The handlers of one operator."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    # A start that fails ends the process: kopf's own retry, a minute later, would find half of it done.
    @kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
    async def start(**_: Any) -> None:
        await shell.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await shell.stop()

    for kind in shell.watched:
        _watch(registry, shell, kind)
    return registry


def _watch(registry: kopf.OperatorRegistry, shell: Shell, kind: str) -> None:
    group, _, version = KINDS[kind].api_version.rpartition("/")

    @kopf.on.event(group, version, KINDS[kind].plural, registry=registry, id=f"watch-{KINDS[kind].plural}")
    async def take_in(event: Any, **_: Any) -> None:
        shell.take_in(kind, event)


class _NoDiffs(kopf.DiffBaseStorage):
    """Nothing to compare: kopf would copy every object twice at each event, for handlers that we do not have."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """No handler of ours is ever retried."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def settings_of() -> kopf.OperatorSettings:
    """kopf's settings, each pinned for a reason that CONTRIBUTING.md gives."""
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = Backoffs()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.chunk_size = WATCH_PAGE_SIZE
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = ENDING_LIMIT_SECONDS
    settings.persistence.diffbase_storage, settings.persistence.progress_storage = _NoDiffs(), _NoProgress()
    settings.queueing.idle_timeout = IDLE_SECONDS
    for kind, selector in {**WATCHED, **OPTIONAL_WATCHED}.items():
        if selector:
            settings.watching.label_selectors[KINDS[kind].plural] = selector
    return settings
