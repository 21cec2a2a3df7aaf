"""How a gate ends: it hands over what it holds, unless nobody is left to hand over to, and leaves no gap."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tandem_contracts import metrics
from tandem_runtime.gateway import leaving, server
from tests.unit.runtime.gates import PATH, gate, run, until

HOURS = 3600


def test_what_a_gate_holds_whose_deployment_is_gone_is_told_to_come_again_and_what_streams_goes_on() -> None:
    async def script() -> None:
        is_gone, go_on = asyncio.Event(), asyncio.Event()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"first")
            await go_on.wait()
            await response.write(b" and last")
            return response

        async def deleted(service: str) -> None:
            assert service == "chat"
            await is_gone.wait()

        async with gate(is_gone=deleted, service="chat", hold_seconds=HOURS) as behind:
            behind.engine.behaviour = stream
            await behind.engine.start()
            streaming = asyncio.create_task(behind.ask())
            await until(lambda: behind.sample(metrics.GATE_ANSWERING) == 1, "the answer has begun")
            behind.engine.is_healthy = False
            await until(lambda: not behind.is_fresh(), "no pod takes requests")
            held = await behind.hold()
            await behind.gate.leave(0)
            stopping = asyncio.create_task(behind.gate.stop(HOURS))
            await asyncio.sleep(0.05)
            assert not held.done(), "while there is a deployment somebody may wake it"
            is_gone.set()
            status, body = await held
            assert (status, "stopped before a pod" in body) == (503, True)
            assert not stopping.done()
            go_on.set()
            assert await streaming == (200, "first and last")
            await stopping
            assert behind.outcomes() == {"answered": 1, "refused": 1}

    run(script)


def test_who_is_sent_away_is_told_when_to_come_again() -> None:
    async def script() -> None:
        async def deleted(_: str) -> None:
            return

        async with gate(is_gone=deleted, service="chat", hold_seconds=HOURS) as behind:
            asking = asyncio.create_task(behind.client.post(f"{behind.url}{PATH}", data="hello"))
            await until(lambda: behind.sample(metrics.GATE_HELD) == 1, "the request is held")
            await behind.gate.leave(HOURS)
            await behind.gate.stop(HOURS)
            async with await asking as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "10")

    run(script)


def test_a_gate_that_is_to_go_takes_requests_while_no_pod_does() -> None:
    async def script() -> None:
        async with gate(service="") as behind:
            leaving_gate = asyncio.create_task(behind.gate.leave(HOURS))
            await asyncio.sleep(0.05)
            held = await behind.hold("evicted")
            await behind.engine.start()
            assert await held == (200, "answer to evicted")
            assert not leaving_gate.done(), "the Service may not select the pod yet"
            assert await behind.ask("more") == (200, "answer to more")
            leaving_gate.cancel()

    run(script)


def test_a_gate_that_is_to_go_stops_once_a_pod_has_answered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SERVED_SECONDS", 0.05)

    async def script() -> None:
        async with gate() as behind:
            await behind.engine.start()
            await behind.gate.leave(HOURS)
            await behind.gate.stop(HOURS)
            with pytest.raises(aiohttp.ClientConnectionError):
                await behind.ask()

    run(script)


def test_a_gate_takes_requests_no_longer_than_it_may() -> None:
    async def script() -> None:
        async with gate() as behind:
            await behind.gate.leave(0.05)

    run(script)


@pytest.mark.parametrize(
    ("errors", "lookups"),
    [
        ([socket.EAI_NONAME] * 2, 2),
        ([0, socket.EAI_NONAME, 0, socket.EAI_NONAME, socket.EAI_NONAME], 5),
        ([socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_NONAME], 4),
        ([socket.EAI_NODATA, socket.EAI_FAIL, socket.EAI_NONAME, socket.EAI_NONAME], 4),
    ],
    ids=["no such name", "a name that was not there once", "DNS that does not answer", "a name without an address"],
)
def test_a_deployment_is_gone_once_dns_has_said_twice_that_there_is_no_such_service(
    errors: list[int], lookups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if error := errors[len(asked) - 1]:
            raise socket.gaierror(error, "told")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setattr(leaving, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(leaving, "RESOLV_CONF", Path("/nowhere"))
    run(lambda: leaving.gone("chat"))
    assert asked == ["chat"] * lookups


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("search team.svc.cluster.local svc.cluster.local\nnameserver 10.0.0.10\n", "chat.team.svc.cluster.local."),
        ("search old\nsearch team.svc.here. svc.here.\n", "chat.team.svc.here."),
        ("nameserver 10.0.0.10\n", "chat"),
        ("search\n", "chat"),
        ("", "chat"),
    ],
)
def test_the_name_of_a_service_is_whole_so_that_the_cluster_alone_is_asked(text: str, name: str) -> None:
    assert leaving.absolute("chat", text) == name
