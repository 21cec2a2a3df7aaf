"""Probes and gauges: an operator that looks alive and does nothing is found out, a standby is fine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from tandem_operator import names
from tandem_operator.config import OperatorConfig
from tandem_operator.handlers import Shell
from tandem_operator.health import WATCHER_MISSING_LIMIT_SECONDS, Health, Vitals
from tandem_operator.lease import Lease, Terms
from tests.builders import NAMESPACE, make_body, make_child, make_config
from tests.unit.operator.fake_api_server import HANG, Answer, FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import now, run

WELL = Vitals({"Pod": "watcher for pods."}, {"Pod": 3}, 5.0, 300.0, is_ready=True)


@contextlib.asynccontextmanager
async def watcher(name: str) -> AsyncIterator[None]:
    """A task of this name that runs for as long as the block lasts."""
    task = asyncio.create_task(asyncio.sleep(10**6), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"tandem_operator_{name}", labels)


def judged(script: Callable[[Health], Awaitable[None]], vitals: Vitals = WELL) -> None:
    async def main() -> None:
        await script(Health(lambda: vitals, clock=now))

    run(main())


def test_an_operator_whose_watchers_run_and_whose_resync_goes_round_is_healthy() -> None:
    async def script(health: Health) -> None:
        async with watcher("watcher for pods.v1@chat"):
            await asyncio.sleep(1000)
            assert health.faults() == ()
        assert gauge("watch_up", kind="Pod") == 1
        assert gauge("store_objects", kind="Pod") == 3
        assert gauge("resync_age_seconds") == 5
        assert gauge("resync_age_limit_seconds") == 300

    judged(script)


def test_a_watcher_that_is_gone_is_a_fault_after_a_while() -> None:
    async def script(health: Health) -> None:
        assert health.faults() == (), "it may only be starting"
        assert gauge("watch_up", kind="Pod") == 0
        await asyncio.sleep(WATCHER_MISSING_LIMIT_SECONDS + 1)
        assert health.faults() == ("no watcher for Pod",)
        async with watcher("watcher for pods.v1@chat"):
            assert health.faults() == ()

    judged(script)


def test_a_resync_that_does_not_come_is_a_fault() -> None:
    async def script(health: Health) -> None:
        assert health.faults() == ("no resync for 400 s",)

    judged(script, Vitals({}, {}, 400.0, 300.0, is_ready=True))


async def asked(health: Health, path: str) -> tuple[int, Any]:
    assert health._runner is not None
    port = health._runner.addresses[0][1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.json()


@contextlib.asynccontextmanager
async def serving(vitals: Vitals) -> AsyncIterator[Health]:
    health = Health(lambda: vitals, clock=now)
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    await health.start(port)
    try:
        yield health
    finally:
        await health.stop()


def test_probes_are_answered_with_what_is_wrong() -> None:
    async def main() -> None:
        async with serving(Vitals({}, {}, 5.0, 300.0, is_ready=True)) as health:
            assert await asked(health, "/healthz") == (200, {"watched": [], "resyncAgeSeconds": 5, "faults": []})
            assert await asked(health, "/readyz") == (200, {"ready": True})
        async with serving(Vitals({}, {}, 400.0, 300.0, is_ready=False)) as health:
            status, told = await asked(health, "/healthz")
            assert (status, told["faults"]) == (500, ["no resync for 400 s"])
            assert await asked(health, "/readyz") == (503, {"ready": False})

    run(main())


def test_without_a_port_only_the_gauges_are_looked_after() -> None:
    async def main() -> None:
        health = Health(lambda: WELL, clock=now)
        await health.start(0)
        await asyncio.sleep(1)
        assert health._runner is not None
        assert health._runner.addresses == []
        await health.stop()

    run(main())


# -- the vitals of the real operator -----------------------------------------------------------------------------------


def shell() -> Shell:
    return Shell(namespace=NAMESPACE, identity="me", config=OperatorConfig())


def test_a_leader_is_ready_once_its_store_is_whole() -> None:
    async def main() -> None:
        operator = shell()
        operator.is_leading = True
        assert not operator.vitals().is_ready
        operator.queue = object()  # type: ignore[assignment]
        assert operator.vitals().is_ready

    run(main())


@pytest.mark.parametrize(("resync_seconds", "limit_seconds"), [(60.0, 300.0), (1000.0, 3000.0)])
def test_a_resync_is_missed_after_five_minutes_or_after_three_rarer_ones(
    resync_seconds: float, limit_seconds: float
) -> None:
    async def main() -> None:
        config = make_config(resyncSeconds=resync_seconds)
        operator = Shell(namespace=NAMESPACE, identity="me", config=config)
        assert operator.vitals().resync_age_limit_seconds == limit_seconds

    run(main())


def test_only_a_leader_has_a_resync_to_miss() -> None:
    async def main() -> None:
        operator = shell()
        operator._resynced = monotonic() - 400
        assert operator.vitals().resync_age_seconds == 0
        operator.is_leading = True
        assert 400 <= operator.vitals().resync_age_seconds < 500
        assert any("no resync for 4" in fault for fault in Health(operator.vitals).faults())

    run(main())


def with_lease(script: Callable[[FakeApiServer, Shell], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve() as server, connect(server, timeout_seconds=2.0) as cluster:
            operator = shell()
            lease = {"holderIdentity": "another", "leaseDurationSeconds": 10**6, "renewTime": "x"}
            metadata = {"name": names.LEASE, "namespace": NAMESPACE}
            path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{names.LEASE}"
            server.put(path, {"metadata": metadata, "spec": lease})
            operator._lease = Lease(cluster, NAMESPACE, identity="me", terms=Terms(15))
            acquiring = asyncio.create_task(operator._lease.acquire())
            try:
                await script(server, operator)
            finally:
                acquiring.cancel()
                await asyncio.gather(acquiring, return_exceptions=True)

    run(main())


def test_a_standby_is_ready_for_as_long_as_the_api_server_answers_it() -> None:
    async def script(server: FakeApiServer, operator: Shell) -> None:
        assert not operator.vitals().is_ready, "nothing was heard yet"
        await asyncio.sleep(5)
        assert operator.vitals().is_ready
        server.answer_always("GET", Answer(HANG))
        await asyncio.sleep(30)
        assert not operator.vitals().is_ready
        server.recover()
        await asyncio.sleep(10)
        assert operator.vitals().is_ready

    with_lease(script)


def test_the_store_is_counted_by_kind_and_every_watched_kind_has_a_watcher() -> None:
    async def main() -> None:
        operator = shell()
        operator.is_leading = True
        operator.take_in(names.KIND, {"type": "ADDED", "object": make_body(resourceVersion="1")})
        operator.take_in("Deployment", {"type": "ADDED", "object": make_child("Deployment", "a", version=2)})
        operator.take_in("Deployment", {"type": "ADDED", "object": make_child("Deployment", "b", version=3)})
        operator.take_in("Deployment", {"type": "DELETED", "object": make_child("Deployment", "b", version=4)})
        vitals = operator.vitals()
        assert vitals.store_sizes == {names.KIND: 1, "Deployment": 1}
        assert vitals.watchers["Pod"] == "watcher for pods."
        assert vitals.watchers.keys() == operator.watched.keys()

    run(main())
