"""A lease that is released, and work that goes on only while one is held; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tandem_operator.lease import LeaseLostError, lead
from tests.unit.operator.fake_api_server import HANG, Answer
from tests.unit.operator.lease_world import PATH, TERMS, World, play, seconds_until
from tests.unit.operator.virtual_time import now


def test_a_released_lease_lets_the_next_one_in_at_once() -> None:
    async def script(world: World) -> None:
        first, second = await world.operator("a"), await world.operator("b")
        await first.acquire()
        taking = asyncio.create_task(second.acquire())
        await asyncio.sleep(1)
        await first.release()
        assert await seconds_until(taking) <= TERMS.retry + 0.5  # type: ignore[arg-type]
        assert world.spec["holderIdentity"] == "b"

    play(script)


def test_releasing_touches_no_lease_of_somebody_else() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        world.held_by("b")
        await lease.release()
        assert world.spec["holderIdentity"] == "b"

    play(script)


@pytest.mark.parametrize("status", [404, 409, 500, HANG])
def test_a_release_that_fails_is_harmless_and_ends(status: int) -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        world.server.answer_always("PUT", Answer(status, "{}"))
        assert await seconds_until(lease.release()) <= 8.5
        del world.server.objects[PATH]
        await lease.release()

    play(script)


def test_losing_the_lease_stops_the_work() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        works: list[asyncio.Task[None]] = []

        def work() -> asyncio.Task[None]:
            works.append(asyncio.create_task(asyncio.sleep(10**6)))
            return works[0]

        leading = asyncio.create_task(lead(lease, work))
        await asyncio.sleep(30)
        assert not works[0].done()
        world.held_by("b")
        with pytest.raises(LeaseLostError):
            await leading
        assert works[0].cancelled()

    play(script)


def test_work_that_fails_is_not_taken_for_a_lost_lease() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")

        async def broken() -> None:
            await asyncio.sleep(5)
            raise RuntimeError("a defect")

        with pytest.raises(RuntimeError, match="a defect"):
            await lead(lease, lambda: asyncio.create_task(broken()))

    play(script)


def test_work_begins_only_once_the_lease_is_held() -> None:
    async def script(world: World) -> None:
        world.held_by("dead", renewTime="x")
        begun: list[float] = []

        async def work() -> None:
            begun.append(now())
            await asyncio.sleep(10**6)

        started = now()
        leading = asyncio.create_task(lead(await world.operator("a"), lambda: asyncio.create_task(work())))
        await asyncio.sleep(14)
        assert begun == []
        await asyncio.sleep(10)
        assert begun[0] - started >= 15
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)

    play(script)
