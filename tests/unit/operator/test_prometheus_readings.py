"""Readings from Prometheus: what it knows of an engine is what its page says; what it does not know is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tandem_operator.config import InvalidConfigError, OperatorConfig, PrometheusConfig
from tandem_operator.prometheus_readings import (
    ANSWER_LIMIT_BYTES,
    READ_EVERY_SECONDS,
    PrometheusError,
    PrometheusReadings,
    vector_in,
)
from tandem_operator.scaling.reading import reading_in
from tests.builders import KEY
from tests.unit.operator.test_scaling_reading import PAGE

ANSWERS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "prometheus/answers.json").read_text())
"""What a real Prometheus has answered: tests/prometheus/test_answers.py."""
POD = "pair-verifier-0a1b2c3d-5d9c8-x2x4q"
Answer = Callable[[str], Any]


def series_of(page: str, **labels: str) -> list[dict[str, Any]]:
    """A page as Prometheus has it: each line a series, with what the scrape adds."""
    found = []
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        name, _, rest = line.partition("{")
        inside, _, value = rest.rpartition("} ")
        own = dict(part.split("=", 1) for part in inside.split(","))
        metric = {"__name__": name, **{k: v.strip('"') for k, v in own.items()}, "pod": POD, **labels}
        found.append({"metric": metric, "value": [1700.0, value]})
    return found


def vector(result: list[dict[str, Any]]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def scraped(page: str = PAGE, at: float = 1699.5, pod: str = POD, **labels: str) -> list[dict[str, Any]]:
    """All that the operator's query finds of a pod: its series, and when they were scraped."""
    time = {"metric": {"pod": pod, "tandem_scraped": "1", **labels}, "value": [1700.0, str(at)]}
    return [*series_of(page, pod=pod, **labels), time]


def healthy(_: str) -> Any:
    return vector(scraped())


class Prometheus:
    """An HTTP server that answers queries as a test wants it to."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.queries, self.headers = answer, list[str](), list[str]()
        self.now = 1700.0
        """The operator's clock."""
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = str((await request.post())["query"])
        self.queries.append(query)
        self.headers.append(request.headers.get("Authorization", ""))
        self.is_asked.set()
        await self.may_answer.wait()
        said = self.answer(query)
        if isinstance(said, web.Response):
            return said
        return web.Response(text=said if isinstance(said, str) else json.dumps(said))


def play(answer: Answer, script: Callable[[PrometheusReadings, Prometheus], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        server = Prometheus(answer)
        application = web.Application()
        application.router.add_post("/api/v1/query", server.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        readings = PrometheusReadings(PrometheusConfig(address=address, **config), clock=lambda: server.now)
        try:
            await script(readings, server)
        finally:
            await readings.close()
            await runner.cleanup()

    asyncio.run(main())


async def read(readings: PrometheusReadings) -> Any:
    readings.latest(KEY, {POD: "10.0.0.7"})
    await readings.settle(KEY)
    return readings.latest(KEY, {POD: "10.0.0.7"}).get(POD)


def test_what_it_tells_of_a_pod_is_what_the_pod_tells_at_the_time_of_the_scrape() -> None:
    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        assert await read(readings) == reading_in(PAGE, at=1699.5)
        assert readings.trouble(KEY) == ""
        (query,) = server.queries
        assert query.count(f'namespace="chat",pod=~"{POD}"') == 2
        assert "timestamp(vllm:num_requests_running{" in query

    play(healthy, script)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda _: web.Response(status=503), "answered 503"),
        (lambda _: web.Response(status=302, headers={"Location": "http://elsewhere.example"}), "answered 302"),
        (lambda _: "<html>", "no instant vector"),
        (lambda _: {"status": "error", "error": "query timed out"}, "query timed out"),
        (lambda _: {"status": "success", "data": {"resultType": "matrix", "result": []}}, "no vector"),
        (lambda _: vector([]), "does it scrape them?"),
        (lambda _: vector([{"metric": {"pod": POD}, "value": [1700.0, "many"]}]), "no instant vector"),
        (lambda _: vector([{"metric": None, "value": [1700.0, "1"]}]), "no instant vector"),
        (lambda _: [1, 2], "no instant vector"),
    ],
)
def test_no_good_answer_is_no_reading_and_is_told(answer: Answer, told: str) -> None:
    async def script(readings: PrometheusReadings, _: Prometheus) -> None:
        assert await read(readings) is None
        assert told in readings.trouble(KEY)

    play(answer, script)


TOLD_OF_ANSWERS = {
    "no query": "answered 400: invalid parameter",
    "no PromQL": "answered 400: invalid parameter",
    "nothing of that name": "does it scrape them?",
    "a series that has ended": "does it scrape them?",
    "a number": "answered no vector",
    "a range": "answered no vector",
    "two series of the same labels": "answered 422: vector cannot contain metrics with the same labelset",
    "a query that takes too long": "answered 503: query timed out",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_real_prometheus_answers_is_understood(name: str) -> None:
    recorded = ANSWERS[name]

    async def script(readings: PrometheusReadings, _: Prometheus) -> None:
        assert await read(readings) is None
        told = readings.trouble(KEY)
        assert TOLD_OF_ANSWERS[name] in told if name in TOLD_OF_ANSWERS else told == ""

    play(lambda _: web.json_response(recorded["body"], status=recorded["status"]), script)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", 3.0),
        ("nan", math.nan),
        ("infinite", math.inf),
        ("negative infinite", -math.inf),
        ("large", 1e308),
        ("exact", 0.1),
    ],
)
def test_values_are_read_as_a_real_prometheus_writes_them(kind: str, value: float) -> None:
    ((labels, found),) = vector_in(json.dumps(ANSWERS[f"a value, {kind}"]["body"]).encode())
    assert labels["kind"] == kind
    assert found == pytest.approx(value, abs=0, nan_ok=True)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e308"])
def test_a_series_that_is_no_count_spoils_its_pod_and_no_other(value: str) -> None:
    def answer(_: str) -> Any:
        spoilt = PAGE.replace('model_name="code"} 3.0', f'model_name="code"}} {value}')
        return vector(scraped(spoilt) + scraped(pod="other"))

    async def script(readings: PrometheusReadings, _: Prometheus) -> None:
        pods = {POD: "10.0.0.7", "other": "10.0.0.8"}
        readings.latest(KEY, pods)
        await readings.settle(KEY)
        assert set(readings.latest(KEY, pods)) == {"other"}

    play(answer, script)


def test_of_two_scrapes_of_a_pod_the_newest_counts() -> None:
    older = PAGE.replace("} 3.0", "} 2.0")

    def answer(_: str) -> Any:
        return vector(scraped(replica="a") + scraped(older, at=1690.0, replica="b"))

    async def script(readings: PrometheusReadings, _: Prometheus) -> None:
        assert await read(readings) == reading_in(PAGE, at=1699.5)

    play(answer, script)


def test_an_answer_that_fails_leaves_the_reading_of_before_with_its_time() -> None:
    is_up = [True]

    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        before = await read(readings)
        is_up[0] = False
        server.now += READ_EVERY_SECONDS
        assert await read(readings) == before
        assert before.at == 1699.5
        assert "answered 500" in readings.trouble(KEY)
        is_up[0] = True
        server.now += READ_EVERY_SECONDS
        assert await read(readings) == before
        assert readings.trouble(KEY) == "", "it is over"

    play(lambda query: healthy(query) if is_up[0] else web.Response(status=500), script)


def test_nobody_who_listens_and_one_who_is_too_slow_are_told() -> None:
    async def main() -> None:
        readings = PrometheusReadings(PrometheusConfig(address="http://127.0.0.1:9"), clock=lambda: 1700.0)
        assert await read(readings) is None
        assert "127.0.0.1:9" in readings.trouble(KEY)
        await readings.close()

        async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until the other side gives up
            writer.close()

        server = await asyncio.start_server(silence, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        slow = PrometheusReadings(PrometheusConfig(address=address, timeout_seconds=0.05), clock=lambda: 1700.0)
        assert await read(slow) is None
        assert "TimeoutError" in slow.trouble(KEY)
        await slow.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_server_without_a_certificate_that_is_trusted_is_an_error() -> None:
    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate at all

        async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(never, "127.0.0.1", 0, ssl=context)
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        readings = PrometheusReadings(PrometheusConfig(address=address), clock=lambda: 1700.0)
        assert await read(readings) is None
        assert "Prometheus at https://127.0.0.1" in readings.trouble(KEY)
        await readings.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_the_token_is_read_anew_for_each_query_and_a_missing_file_is_told(tmp_path: Path) -> None:
    token = tmp_path / "token"

    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        assert await read(readings) is None
        assert "No such file" in readings.trouble(KEY)
        for text in ("one\n", "two\n"):
            token.write_text(text)
            server.now += READ_EVERY_SECONDS
            await read(readings)
        assert server.headers == ["Bearer one", "Bearer two"]

    play(healthy, script, bearer_token_file=token)


def test_ten_thousand_series_are_read_of_some_pods_at_once() -> None:
    pods = {f"pod-{i}": "10.0.0.7" for i in range(500)}

    def answer(query: str) -> Any:
        asked = query.partition('pod=~"')[2].partition('"')[0].split("|")
        return vector([each for pod in asked for each in scraped(pod=pod)])

    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        readings.latest(KEY, pods)
        await readings.settle(KEY)
        assert len(server.queries) == 3
        assert len(readings.latest(KEY, pods)) == 500
        left = readings.latest(KEY, {"pod-7": ""})
        assert {name: each.finished for name, each in left.items()} == {"pod-7": 15.0}

    assert len(series_of(PAGE)) * 500 >= 9_000
    play(answer, script)


def test_an_answer_that_is_far_too_long_is_not_read_to_its_end() -> None:
    """One that would be good, was it read: blanks may stand before it."""
    blanks, whole = b" " * (4 << 20), json.dumps(healthy("")).encode()
    times = 3 * ANSWER_LIMIT_BYTES // len(blanks)
    sent = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (times * len(blanks) + len(whole)))
        with contextlib.suppress(ConnectionError):
            for part in (*[blanks] * times, whole):
                writer.write(part)
                await writer.drain()
                sent.append(part)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        readings = PrometheusReadings(PrometheusConfig(address=address, timeout_seconds=30.0), clock=lambda: 1700.0)
        assert await read(readings) is None
        assert f"answered more than {ANSWER_LIMIT_BYTES} bytes" in readings.trouble(KEY)
        await readings.close()
        server.close()
        await server.wait_closed()
        assert whole not in sent

    asyncio.run(main())


def test_a_dot_in_the_name_of_a_pod_means_no_other_pod() -> None:
    pods = {"pair-v1.5-0": "10.0.0.7", "pair-v1x5-0": "10.0.0.8"}

    def answer(query: str) -> Any:
        asked = query.partition('pod=~"')[2].partition('"')[0]
        return vector([each for pod in pods if re.fullmatch(asked, pod) for each in scraped(pod=pod)])

    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        only = {"pair-v1.5-0": "10.0.0.7"}
        readings.latest(KEY, only)
        await readings.settle(KEY)
        assert set(readings._watched[KEY].readings) == set(only)
        assert server.queries[0].count('pod=~"pair-v1[.]5-0"') == 2

    play(answer, script)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"status":"success"}', b'{"status":"success","data":3}'])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(PrometheusError):
        vector_in(body)


@pytest.mark.parametrize(
    "written",
    [
        "{address: 'ftp://x'}",
        "{address: 'http://user:pass@x'}",
        "{address: 'http://x/'}",
        "{address: 'http://x', certificateFile: /a}",
        "{address: 'http://x', timeoutSeconds: 0}",
    ],
)
def test_an_administrator_who_errs_is_told(tmp_path: Path, written: str) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(f"prometheus: {written}\n")
    with pytest.raises(InvalidConfigError, match="prometheus"):
        OperatorConfig.load(file)


@pytest.mark.parametrize("token", [b"one\ntwo", b"\xff\xfe", "schlüssel".encode(), b"a b"])
def test_a_file_that_holds_no_token_is_told(token: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(token)

    async def script(readings: PrometheusReadings, _: Prometheus) -> None:
        readings.latest(KEY, {POD: ""})
        await readings.settle(KEY)
        assert "holds no token" in readings.trouble(KEY)

    play(healthy, script, bearer_token_file=file)
