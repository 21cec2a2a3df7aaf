"""Requests of engines that drain: counted from their pages, and unknown is never idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tandem_operator.metrics_source import EngineLoads, requests_in
from tests.builders import KEY

LABELS = '{engine="0",model_name="m"}'


def page(running: float | str, waiting: float | str) -> str:
    return (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f"vllm:num_requests_running{LABELS} {running}\n"
        f"vllm:num_requests_waiting{LABELS} {waiting}\n"
        "vllm:num_requests_waiting_by_reason 7.0\n"
    )


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        (page(0.0, 0.0), 0),
        (page(2.0, 3.0), 5),
        (page(1.0, 0.0) + 'vllm:num_requests_running{engine="1",model_name="m"} 4.0\n', 5),
        (page("NaN", 0.0), None),
        (page("-1", 0.0), None),
        ("vllm:num_requests_running 0.0\n", None),
        ("", None),
        ("<html>", None),
        (page("nonsense", 0.0), None),
    ],
)
def test_requests_are_running_plus_waiting_or_unknown(text: str, requests: float | None) -> None:
    assert requests_in(text) == requests


class Engine:
    """An HTTP server that says what a test wants it to say."""

    def __init__(self) -> None:
        self.text, self.status = page(0.0, 0.0), 200

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=self.text, status=self.status)

        app = web.Application()
        app.router.add_get("/metrics", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


def played(*says: tuple[str, int], seconds: float = 2.0, pods: tuple[str, ...] = ("127.0.0.1",)) -> list[bool]:
    """Whether the revision counts as idle after each sample of what its engine says."""

    async def play() -> list[bool]:
        engine, now = Engine(), [0.0]
        async with engine.serving() as port:
            loads = EngineLoads(port=port, clock=lambda: now[0])
            seen = []
            for engine.text, engine.status in says:
                now[0] += seconds
                seen.append(await loads.idle(KEY, {"rev": pods}) == {"rev"})
            await loads.close()
            return seen

    return asyncio.run(play())


IDLE, BUSY, BROKEN = (page(0.0, 0.0), 200), (page(1.0, 0.0), 200), ("", 500)


@pytest.mark.parametrize(
    ("says", "idle"),
    [
        ([IDLE, IDLE], [False, True]),
        ([IDLE, BUSY, IDLE, IDLE], [False, False, False, True]),
        ([IDLE, BROKEN, IDLE], [False, False, False]),
        ([BROKEN] * 3, [False] * 3),
    ],
)
def test_a_revision_is_idle_after_two_samples_in_a_row(says: list[tuple[str, int]], idle: list[bool]) -> None:
    assert played(*says) == idle


def test_two_passes_at_once_are_one_sample() -> None:
    assert played(IDLE, IDLE, seconds=0.5) == [False, False]


def test_a_revision_without_known_pods_is_not_idle() -> None:
    assert played(IDLE, IDLE, IDLE, pods=()) == [False] * 3


def test_one_engine_that_does_not_answer_is_enough_not_to_be_idle() -> None:
    assert played(IDLE, IDLE, IDLE, pods=("127.0.0.1", "127.0.0.2")) == [False] * 3
