"""One active operator: a Lease that is taken, renewed, released, and never trusted past its time.

The client's own `leaderelection` is not used: it cannot create a fresh Lease, does not report a lost one, and writes
local time as UTC. Rules: time is monotonic; a request takes less time than the renew deadline; who has not renewed
before the deadline is no longer the leader and ends its process, since a Lease does not fence what is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import Counter

from tandem_operator import names
from tandem_operator.cluster import Cluster, ClusterError, NotFoundError
from tandem_operator.facts import Manifest, Ref

_log = logging.getLogger(__name__)

RENEWALS = Counter("tandem_operator_lease_renewals_total", "Attempts of the leader to renew its lease.", ["outcome"])


class LeaseLostError(Exception):
    """Another operator leads, or the lease could not be renewed in time."""


@dataclass(frozen=True)
class Terms:
    """Durations of a lease, in seconds: renewed each `retry`, given up at `deadline`, free for others at `duration`."""

    duration: int

    @property
    def deadline(self) -> float:
        return self.duration * 2 / 3

    @property
    def retry(self) -> float:
        return self.duration * 2 / 15


@dataclass
class _Seen:
    """The last change of the lease that this process saw, by its own clock: clocks of others are not trusted."""

    stamp: tuple[str, str] = ("", "")
    at: float = 0.0


class Lease:
    """The Lease of one operator installation."""

    def __init__(self, cluster: Cluster, namespace: str, *, identity: str, terms: Terms) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._identity, self._terms = identity, terms
        self._seen = _Seen()
        self._renewed = 0.0
        self.answered = float("-inf")
        """When, by the loop's clock, the API server last let this process see or write the lease."""
        self._ref = Ref("Lease", names.LEASE)

    async def acquire(self) -> None:
        """Return once this process leads. Waits for as long as another one does."""
        waiting_for = ""
        while True:
            begun = _now()
            try:
                holder = await self._try()
            except ClusterError as error:
                holder = f"an answer of the API server ({error})"
            else:
                self.answered = _now()
            if holder == self._identity:
                self._renewed = begun
                _log.info("lease %s/%s: this operator leads", self._namespace, names.LEASE)
                return
            if holder != waiting_for:
                _log.info("lease %s/%s: waiting for %s", self._namespace, names.LEASE, holder)
                waiting_for = holder
            await asyncio.sleep(self._terms.retry)

    async def keep(self) -> None:
        """Renew until cancelled. Raises LeaseLostError.

        The deadline counts from the moment before the request that renewed: the API server may have committed it
        then, and for others the time runs from there.
        """
        while True:
            renewed = self._renewed
            await asyncio.sleep(self._terms.retry)
            begun = _now()
            try:
                async with asyncio.timeout(max(0.0, renewed + self._terms.deadline - _now())):
                    holder = await self._try()
            except TimeoutError:
                RENEWALS.labels("failed").inc()
                raise LeaseLostError(f"not renewed for {self._terms.deadline:.0f} s") from None
            except ClusterError as error:
                RENEWALS.labels("failed").inc()
                if _now() >= renewed + self._terms.deadline:
                    raise LeaseLostError(f"not renewed for {self._terms.deadline:.0f} s: {error}") from error
                continue
            if holder != self._identity:
                raise LeaseLostError(f"held by {holder}")
            RENEWALS.labels("renewed").inc()
            self._renewed = begun

    async def release(self) -> None:
        """Let another operator take over at once. Failing is harmless: the lease runs out."""
        try:
            lease = await self._cluster.get(self._ref, self._namespace)
            if lease["spec"].get("holderIdentity") == self._identity:
                await self._cluster.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        except ClusterError as error:
            _log.info("lease %s/%s was not released, it runs out: %s", self._namespace, names.LEASE, error)

    async def others(self) -> str:
        """Who holds the lease, if that is not this process, and the lease has not run out; empty otherwise.

        Raises ClusterError.
        """
        try:
            lease = await self._cluster.get(self._ref, self._namespace)
        except NotFoundError:
            return ""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        return "" if holder == self._identity or self._has_run_out(spec) else holder

    async def _try(self) -> str:
        """Take or renew the lease if that is possible; the identity of its holder then.

        Raises ConflictError when somebody changed it in between, which says nothing of who holds it.
        """
        try:
            lease = await self._cluster.get(self._ref, self._namespace)
        except NotFoundError:
            return await self._create()
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in {"", self._identity} and not self._has_run_out(spec):
            return holder
        transitions = spec.get("leaseTransitions") or 0
        mine = self._spec(transitions + (holder != self._identity))
        if holder == self._identity:
            mine["acquireTime"] = spec.get("acquireTime") or mine["acquireTime"]
        await self._cluster.replace({**lease, "spec": mine})
        return self._identity

    async def _create(self) -> str:
        metadata = {"name": names.LEASE, "namespace": self._namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec(0)}
        await self._cluster.create(lease)
        return self._identity

    def _has_run_out(self, spec: Manifest) -> bool:
        """Whether the lease has not changed for as long as its holder, or we ourselves, think that it lasts."""
        stamp = (spec.get("holderIdentity") or "", spec.get("renewTime") or "")
        if self._seen.stamp != stamp:
            self._seen = _Seen(stamp, _now())
        duration = max(self._terms.duration, spec.get("leaseDurationSeconds") or 0)
        return _now() >= self._seen.at + duration

    def _spec(self, transitions: int) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._terms.duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }


def _now() -> float:
    """Seconds of the loop's monotonic clock."""
    return asyncio.get_running_loop().time()


async def lead(lease: Lease, work: Callable[[], asyncio.Task[None]]) -> None:
    """Acquire, start the work, and renew for as long as it runs. Raises LeaseLostError, or what the work raised."""
    await lease.acquire()
    task = work()
    keeper = asyncio.create_task(lease.keep(), name="lease")
    try:
        await asyncio.wait({task, keeper}, return_when=asyncio.FIRST_COMPLETED)
        for done in (keeper, task):
            if done.done():
                done.result()
    finally:
        for running in (task, keeper):
            running.cancel()
        await asyncio.gather(task, keeper, return_exceptions=True)
