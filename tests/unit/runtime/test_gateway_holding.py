"""What a wake gate holds, for how long, how much of it, and what must not wake a model."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tandem_contracts import metrics
from tandem_runtime.gateway import pods
from tests.unit.runtime.gates import HOST, PATH, Engine, gate, run, until

KIB = 1024


def test_a_request_waits_until_a_pod_answers_and_then_gets_its_answer() -> None:
    async def script() -> None:
        async with gate() as behind:
            held = await behind.hold("hello")
            assert behind.sample(metrics.GATE_HELD_BYTES) == len("hello")
            await behind.engine.start()
            assert await held == (200, "answer to hello")
            assert behind.outcomes() == {"answered": 1}
            assert behind.sample(metrics.GATE_ARRIVALS) == 1
            assert behind.sample(f"{metrics.GATE_HELD_SECONDS}_count") == 1
            assert behind.sample(f"{metrics.GATE_ADDED_SECONDS}_count") == 1
            assert behind.sample(metrics.GATE_PODS) == 1
            for gauge in (metrics.GATE_HELD, metrics.GATE_HELD_BYTES, metrics.GATE_ANSWERING):
                assert behind.sample(gauge) == 0

    run(script)


def test_pods_are_found_by_a_name_of_which_not_every_address_takes_connections() -> None:
    async def script() -> None:
        async with gate() as behind, gate(upstream=f"localhost:{behind.engine.port}") as named:
            await behind.engine.start()
            assert await named.ask() == (200, "answer to hello")

    run(script)


def test_a_name_without_addresses_is_a_deployment_without_pods() -> None:
    async def script() -> None:
        async with gate(upstream="chat-wake.invalid", hold_seconds=1) as behind:
            assert (await behind.ask())[0] == 503
            assert behind.outcomes() == {"expired": 1}

    run(script)


def test_a_pod_that_says_nothing_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "HEALTH_LIMIT_SECONDS", 3600.0)

    async def script() -> None:
        with socket.create_server((HOST, 0)) as silent:
            engine = Engine()
            upstream = f"{HOST}:{silent.getsockname()[1]},{engine.address}"
            async with gate(engine, upstream=upstream) as behind:
                held = await behind.hold()
                await engine.start()
                assert (await held)[0] == 200

    run(script)


def test_a_pod_that_listens_but_is_not_healthy_gets_nothing() -> None:
    async def script() -> None:
        async with gate(Engine(is_healthy=False)) as behind:
            await behind.engine.start()
            held = await behind.hold()
            await until(lambda: behind.engine.probes > 2, "it was asked for its health")
            assert behind.engine.bodies == []
            behind.engine.is_healthy = True
            assert (await held)[0] == 200

    run(script)


def test_held_requests_go_on_in_the_order_of_their_arrival() -> None:
    async def script() -> None:
        async with gate() as behind:
            held = [await behind.hold(f"{number:02}") for number in range(40)]
            await behind.engine.start()
            await asyncio.gather(*held)
            assert behind.engine.bodies == [f"{number:02}" for number in range(40)]

    run(script)


def test_a_request_that_comes_soon_after_a_pod_answered_is_not_held_up_by_another_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pods, "FRESH_SECONDS", 3600.0)

    async def script() -> None:
        async with gate() as behind:
            await behind.engine.start()
            for number in range(3):
                assert await behind.ask(str(number)) == (200, f"answer to {number}")
            assert behind.engine.probes == 1

    run(script)


def test_one_more_than_can_be_held_is_told_when_to_come_again() -> None:
    async def script() -> None:
        async with gate(most_held=2, retry_after_seconds=7) as behind:
            held = [await behind.hold(), await behind.hold()]
            async with behind.client.post(behind.url + PATH, data="third") as answer:
                told = json.loads(await answer.text())["error"]
                assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
                assert answer.headers["Connection"] == "close"
            assert told == {
                "message": "2 requests wait for a pod of this model already, and no more are held",
                "type": "ServiceUnavailableError",
                "param": None,
                "code": 503,
            }
            await behind.engine.start()
            assert [status for status, _ in await asyncio.gather(*held)] == [200, 200]
            assert behind.outcomes() == {"answered": 2, "refused": 1}
            assert behind.sample(metrics.GATE_ARRIVALS) == 3

    run(script)


def test_a_request_that_no_pod_became_ready_for_in_its_time_is_told_when_to_come_again() -> None:
    async def script() -> None:
        async with gate(hold_seconds=1) as behind:
            async with behind.client.post(behind.url + PATH, data="hello") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
                assert "no pod of this model became ready within 1 s" in await answer.text()
            assert behind.outcomes() == {"expired": 1}
            assert behind.sample(metrics.GATE_HELD) == 0

    run(script)


def test_an_answer_may_take_longer_than_a_request_may_be_held() -> None:
    async def script() -> None:
        may_answer = asyncio.Event()

        async def slow(_: web.Request) -> web.StreamResponse:
            await may_answer.wait()
            return web.Response(text="late")

        async with gate(Engine(slow), hold_seconds=1) as behind:
            await behind.engine.start()
            slow_one = asyncio.create_task(behind.ask("slow"))
            await until(lambda: behind.engine.bodies == ["slow"], "the pod has the request")
            behind.engine.is_healthy = False
            await until(lambda: not behind.is_fresh(), "the pod has to be asked for its health again")
            assert (await behind.ask("later"))[0] == 503, "this one's time is over, and so is the other one's"
            may_answer.set()
            assert await slow_one == (200, "late")

    run(script)


def test_who_leaves_makes_room() -> None:
    async def script() -> None:
        async with gate(most_held=1) as behind:
            leaving = await behind.hold()
            leaving.cancel()
            await until(lambda: behind.outcomes() == {"gone": 1}, "the gate has seen that the client left")
            held = await behind.hold("second")
            await behind.engine.start()
            assert await held == (200, "answer to second")
            assert behind.engine.bodies == ["second"]

    run(script)


# -- bodies ----------------------------------------------------------------------------------------------------------


async def parts(count: int, size: int) -> AsyncIterator[bytes]:
    """A body of unannounced length."""
    for _ in range(count):
        yield b"x" * size


def test_a_body_that_announces_more_than_is_held_is_refused_before_it_comes() -> None:
    async def script() -> None:
        async with gate(most_body_bytes=64 * KIB) as behind:
            reader, writer = await asyncio.open_connection(HOST, behind.port)
            writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {64 * KIB + 1}\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            writer.close()
            await until(lambda: behind.outcomes() == {"refused": 1}, "it was refused")

    run(script)


def test_a_body_of_unannounced_length_is_refused_once_it_is_too_large() -> None:
    async def script() -> None:
        async with gate(most_body_bytes=64 * KIB) as behind:
            async with behind.client.post(behind.url + PATH, data=parts(5, 16 * KIB)) as answer:
                assert answer.status == 413
                assert "larger than 65536 bytes" in await answer.text()
            assert behind.sample(metrics.GATE_HELD_BYTES) == 0

    run(script)


@pytest.mark.parametrize("announced", [True, False])
def test_bodies_are_held_up_to_a_sum(announced: bool) -> None:
    async def script() -> None:
        async with gate(most_body_bytes=64 * KIB, most_held_bytes=100 * KIB) as behind:
            held = await behind.hold("x" * 64 * KIB)
            data = b"x" * 64 * KIB if announced else parts(4, 16 * KIB)
            async with behind.client.post(behind.url + PATH, data=data) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
            assert behind.sample(metrics.GATE_HELD_BYTES) == 64 * KIB
            await behind.engine.start()
            assert (await held)[0] == 200
            assert (await behind.ask("y" * 64 * KIB))[0] == 200, "there is room again"

    run(script)


def test_a_huge_body_arrives_whole() -> None:
    body = bytes(range(256)) * 4 * KIB * 8

    async def script() -> None:
        seen: list[bytes] = []

        async def keep(request: web.Request) -> web.StreamResponse:
            seen.append(await request.read())
            return web.Response()

        async with gate(Engine(keep)) as behind:
            await behind.engine.start()

            async def chunks() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 100_000):
                    yield body[start : start + 100_000]

            async with behind.client.post(behind.url + PATH, data=chunks()) as answer:
                assert answer.status == 200
        assert seen == [body]

    run(script)


@pytest.mark.parametrize("broken", [b"5\r\nhel", b"no length\r\n"])
def test_a_body_that_does_not_come_to_its_end_is_not_waited_for_any_longer_than_a_pod(broken: bytes) -> None:
    async def script() -> None:
        async with gate(hold_seconds=1) as behind:
            await behind.engine.start()
            reader, writer = await asyncio.open_connection(HOST, behind.port)
            writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            await until(lambda: behind.sample(metrics.GATE_HELD) == 1, "the head has come")
            writer.write(broken)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            writer.close()
            assert behind.outcomes() == {"expired": 1}
            assert behind.engine.bodies == []

    run(script)


# -- what must not wake a model --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/health", 200, {"status": "asleep", "held": 0}),
        ("GET", "/v1/completions", 404, None),
        ("GET", "/metrics", 404, None),
        ("POST", "/v1/models", 404, None),
        ("POST", "/", 404, None),
        ("POST", "/v1/completions/x", 404, None),
        ("DELETE", "/v1/completions", 404, None),
    ],
)
def test_what_is_no_request_for_inference_is_answered_at_once_and_wakes_nobody(
    method: str, path: str, status: int, told: object
) -> None:
    async def script() -> None:
        async with gate() as behind:
            await behind.engine.start()
            async with behind.client.request(method, behind.url + path) as answer:
                body = json.loads(await answer.text())
                assert (answer.status, answer.headers["Connection"]) == (status, "close")
            assert body == told if told else body["error"]["code"] == status
            assert behind.sample(metrics.GATE_ARRIVALS) == 0
            assert behind.engine.probes == 0

    run(script)


def test_the_list_of_models_has_the_served_name() -> None:
    async def script() -> None:
        async with gate() as behind, behind.client.get(f"{behind.url}/v1/models") as answer:
            listed = json.loads(await answer.text())
            assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["llama"])

    run(script)


def test_health_tells_that_somebody_waits() -> None:
    async def script() -> None:
        async with gate() as behind:
            held = await behind.hold()
            async with behind.client.get(f"{behind.url}/health") as answer:
                assert json.loads(await answer.text()) == {"status": "waking", "held": 1}
            held.cancel()

    run(script)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer wrong", 401), ("Basic secret", 401), ("Bearer secret", 200), ("bearer secret", 200)],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_has_not_the_key_wakes_nobody(method: str, authorization: str, status: int) -> None:
    path = PATH if method == "POST" else "/v1/models"

    async def script() -> None:
        async with gate(key="secret") as behind:
            await behind.engine.start()
            headers = {"Authorization": authorization} if authorization else {}
            async with behind.client.request(method, behind.url + path, headers=headers) as answer:
                assert answer.status == status
            assert behind.sample(metrics.GATE_ARRIVALS) == (status == 200 and method == "POST")
            async with behind.client.get(f"{behind.url}/health") as answer:
                assert answer.status == 200, "the kubelet has no key"

    run(script)
