"""How a wake gate passes requests and answers on: as they come, both ways, and never more than there was."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from aiohttp import web
from yarl import URL

from tandem_contracts import metrics
from tandem_runtime.gateway import pods
from tests.unit.runtime.gates import HOST, PATH, Behaviour, Behind, Engine, break_off, gate, run, until

CHUNK = b"x" * 64 * 1024


async def begin(request: web.Request, **headers: str) -> web.StreamResponse:
    """A stream whose length is not known."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
    await response.prepare(request)
    return response


def test_each_chunk_reaches_the_client_before_the_pod_makes_the_next() -> None:
    async def script() -> None:
        has_come = [asyncio.Event() for _ in range(3)]

        async def stream(request: web.Request) -> web.StreamResponse:
            response = await begin(request)
            for number, event in enumerate(has_come):
                await response.write(f"data: {number}\n\n".encode())
                await event.wait()
            return response

        async with gate(Engine(stream)) as behind:
            await behind.engine.start()
            async with behind.client.post(behind.url + PATH, data="hello") as answer:
                assert answer.headers["Content-Type"] == "text/event-stream"
                for number, event in enumerate(has_come):
                    assert await answer.content.readany() == f"data: {number}\n\n".encode()
                    event.set()
                assert await answer.content.readany() == b""

    run(script)


def test_the_head_of_an_answer_reaches_the_client_before_anything_else() -> None:
    async def script() -> None:
        may_go_on = asyncio.Event()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = await begin(request)
            await may_go_on.wait()
            return response

        async with gate(Engine(stream)) as behind:
            await behind.engine.start()
            async with behind.client.post(behind.url + PATH, data="hello") as answer:
                assert answer.status == 200
                may_go_on.set()

    run(script)


def test_a_client_that_reads_slowly_slows_the_pod_down() -> None:
    chunks = 1000

    async def script() -> None:
        is_slowed = asyncio.Event()

        async def flood(request: web.Request) -> web.StreamResponse:
            response = await begin(request)
            for _ in range(chunks):
                writing = asyncio.ensure_future(response.write(CHUNK))
                if not (await asyncio.wait([writing], timeout=0.5))[0]:
                    is_slowed.set()
                await writing
            return response

        async with gate(Engine(flood)) as behind:
            await behind.engine.start()
            async with behind.client.post(behind.url + PATH, data="hello") as answer:
                await is_slowed.wait()
                assert len(await answer.read()) == chunks * len(CHUNK)

    run(script)


def test_headers_go_through_both_ways_but_for_those_between_neighbours() -> None:
    async def script() -> None:
        seen: list[list[tuple[str, str]]] = []

        async def note(request: web.Request) -> web.StreamResponse:
            seen.append([(name.lower(), value) for name, value in request.headers.items()])
            response = web.Response(text="hello")
            for name, value in (("X-Request-Id", "7"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Near", "1")):
                response.headers.add(name, value)
            response.headers.update({"Connection": "X-Near", "Keep-Alive": "timeout=5"})
            return response

        async with gate(Engine(note)) as behind:
            await behind.engine.start()
            sent = [("Host", "llama.chat"), ("Authorization", "Bearer k"), ("X-Two", "1"), ("X-Two", "2")]
            near = [("Connection", "X-Near, keep-alive"), ("X-Near", "1"), ("Keep-Alive", "timeout=5"), ("TE", "gzip")]
            async with behind.client.post(f"{behind.url}{PATH}?a=%2F", data="hello", headers=[*sent, *near]) as answer:
                assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
                assert (answer.headers["X-Request-Id"], answer.headers["Connection"]) == ("7", "close")
                assert not {"X-Near", "Keep-Alive", "Transfer-Encoding"} & answer.headers.keys()
            (headers,) = seen
            assert {(name.lower(), value) for name, value in sent} < set(headers)
            assert [value for name, value in headers if name == "content-length"] == ["5"]
            assert not {"x-near", "keep-alive", "te"} & {name for name, _ in headers}
            await behind.ask()
            assert "cookie" not in dict(seen[1]), "the one client's cookie is not the other one's"

    run(script)


def test_what_is_compressed_stays_as_it_is() -> None:
    packed = gzip.compress(b"hello")

    async def script() -> None:
        async def echo(request: web.Request) -> web.StreamResponse:
            assert request.headers["Content-Encoding"] == "gzip"
            assert request.rel_url.raw_path_qs == f"{PATH}?a=%2F&b"
            return web.Response(body=await request.read(), headers={"Content-Encoding": "gzip"})

        async with gate(Engine(echo)) as behind:
            await behind.engine.start()
            url = URL(f"{behind.url}{PATH}?a=%2F&b", encoded=True)
            headers = {"Content-Encoding": "gzip"}
            async with behind.client.post(url, data=packed, headers=headers) as answer:
                assert (answer.status, await answer.read()) == (200, packed)

    run(script)


def test_what_a_pod_says_against_a_request_is_its_answer() -> None:
    async def script() -> None:
        async def object_to(_: web.Request) -> web.StreamResponse:
            return web.json_response({"error": "too long"}, status=400)

        async with gate(Engine(object_to)) as behind:
            await behind.engine.start()
            assert await behind.ask() == (400, '{"error": "too long"}')
            assert behind.outcomes() == {"answered": 1}

    run(script)


def test_every_answer_closes_its_connection_so_that_the_next_one_can_go_to_a_pod() -> None:
    async def script() -> None:
        async with gate() as behind:
            await behind.engine.start()
            reader, writer = await asyncio.open_connection(HOST, behind.port)
            for _ in range(2):
                writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
            answers = await reader.read()
            assert answers.count(b"HTTP/1.1 200 OK") == 1
            assert b"Connection: close" in answers
            writer.close()

    run(script)


# -- clients that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_client_that_leaves_takes_its_request_from_the_pod(is_begun: bool) -> None:
    async def script() -> None:
        async def endless(request: web.Request) -> web.StreamResponse:
            if is_begun:
                await (await begin(request)).write(b"data: 1\n\n")
            await asyncio.Event().wait()
            raise AssertionError

        async with gate(Engine(endless)) as behind:
            await behind.engine.start()
            reader, writer = await asyncio.open_connection(HOST, behind.port)
            writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
            if is_begun:
                await reader.readuntil(b"data: 1")
            else:
                await until(lambda: behind.engine.bodies == ["hi"], "the pod has the request")
            assert behind.sample(metrics.GATE_ANSWERING) == 1
            writer.close()
            await until(lambda: behind.engine.cancelled == 1, "the pod has seen that its client is gone")
            await until(lambda: behind.outcomes() == {"gone": 1}, "the gate has counted it")
            assert behind.sample(metrics.GATE_ANSWERING) == 0

    run(script)


# -- pods that fail --------------------------------------------------------------------------------------------------


@pytest.fixture
def remembers_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that has answered once is not asked for its health again before it fails, however slow the machine is."""
    monkeypatch.setattr(pods, "FRESH_SECONDS", 3600.0)


async def know(behind: Behind) -> None:
    """Start the engines, and let the gate find all of them."""
    for engine in behind.engines:
        await engine.start()
    while behind.sample(metrics.GATE_PODS) < len(behind.engines):
        await behind.gate._pods.look()
    assert (await behind.ask("first"))[0] == 200


@pytest.mark.usefixtures("remembers_pods")
def test_a_request_whose_pod_breaks_off_before_it_answers_is_passed_on_to_another_one() -> None:
    async def script() -> None:
        async with gate(Engine(), Engine()) as behind:
            await know(behind)
            behind.engine.behaviour = break_off
            behind.engine.is_healthy = False
            asked = [await behind.ask(str(number)) for number in range(3)]
            assert asked == [(200, f"answer to {number}") for number in range(3)]
            assert set(behind.engine.bodies) & {"0", "1"}, "the broken one was asked too"

    run(script)


@pytest.mark.usefixtures("remembers_pods")
def test_a_request_that_two_pods_break_off_is_not_tried_a_third_time() -> None:
    async def script() -> None:
        async with gate(Engine(), Engine()) as behind:
            await know(behind)
            for engine in behind.engines:
                engine.behaviour = break_off
            status, told = await behind.ask("second")
            assert (status, "broke off before they answered" in told) == (502, True)
            assert [engine.bodies.count("second") for engine in behind.engines] == [1, 1]
            assert behind.outcomes() == {"answered": 1, "failed": 1}

    run(script)


@pytest.mark.usefixtures("remembers_pods")
def test_a_request_that_a_pod_takes_no_connection_for_is_held_again() -> None:
    async def script() -> None:
        gone, late = Engine(), Engine()
        upstream = f"{gone.address},{late.address}"
        async with gate(gone, upstream=upstream) as behind:
            await know(behind)
            await gone.stop()
            held = await behind.hold("second")
            await late.start()
            assert await held == (200, "answer to second")
            assert late.bodies == ["second"]
            assert behind.outcomes() == {"answered": 2}
            await late.stop()

    run(script)


async def part_of_a_stream(request: web.Request, **headers: str) -> web.StreamResponse:
    """Breaks off where a chunk should follow."""
    response = await begin(request, **headers)
    await response.write(b"data: 1\n\n")
    assert request.transport is not None
    request.transport.close()
    return response


async def part_of_a_length(request: web.Request) -> web.StreamResponse:
    """Breaks off before all that was announced."""
    return await part_of_a_stream(request, **{"Content-Length": "100"})


@pytest.mark.parametrize("behaviour", [part_of_a_stream, part_of_a_length])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_that_its_pod_breaks_off_has_no_end_for_the_client_either(behaviour: Behaviour, version: str) -> None:
    async def script() -> None:
        async with gate(Engine(behaviour)) as behind:
            await behind.engine.start()
            reader, writer = await asyncio.open_connection(HOST, behind.port)
            writer.write(f"POST {PATH} HTTP/{version}\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
            got = b""
            try:
                while part := await reader.read(1000):
                    got += part
                is_reset = False
            except ConnectionResetError:
                is_reset = True
            writer.close()
            assert b" 200 OK" in got
            assert b"data: 1" in got
            assert is_reset or b"Content-Length: 100" in got or version == "1.1", "closing would be a good end"
            assert b"\r\n0\r\n" not in got
            assert behind.outcomes() == {"cut_off": 1}
            assert len(behind.engine.bodies) == 1

    run(script)
