"""Pages of pods: a whole one, in time, or none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from tandem_operator.pod_pages import PAGE_LIMIT_BYTES, PodPages
from tests.unit.operator.virtual_time import TEST_LIMIT_SECONDS, now, run

PASS_SECONDS = 5.0
"""A pod that does not answer must not keep the next reading waiting."""


async def read(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], address: str = "127.0.0.1"
) -> str | None:
    """What is read of a server that answers so."""
    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    pages = None
    try:
        await web.TCPSite(runner, address, 0).start()
        pages = PodPages(runner.addresses[0][1])
        return await pages.read(address)
    finally:
        if pages:
            await pages.close()
        await runner.cleanup()


def answering(text: str, status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


@pytest.mark.parametrize("status", [404, 503])
def test_another_answer_is_no_page(status: int) -> None:
    assert run(read(answering("a 1\n", status))) is None


def test_a_page_that_is_too_long_is_none_and_not_the_beginning_of_one() -> None:
    longest = "a" * PAGE_LIMIT_BYTES
    assert run(read(answering(longest))) == longest
    assert run(read(answering(f"{longest}1"))) is None


def test_a_page_without_an_end_is_not_read_on() -> None:
    part, sent = b"a" * (1 << 20), []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                await response.write(part)
                sent.append(part)
        return response

    assert asyncio.run(read(answer)) is None
    assert len(sent) < 64


def test_a_pod_that_says_nothing_is_given_up_before_it_is_asked_again() -> None:
    async def silence(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(TEST_LIMIT_SECONDS)
        raise AssertionError("still asked")

    async def seconds() -> float:
        before = now()
        assert await read(silence) is None
        return now() - before

    assert run(seconds()) < PASS_SECONDS


def test_an_ipv6_address_is_read_too() -> None:
    try:
        page = run(read(answering("a 1\n"), "::1"))
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert page == "a 1\n"
