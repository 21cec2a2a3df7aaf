"""The lease in virtual time, against a fake API server: at most one operator leads, and who cannot renew stops."""

from __future__ import annotations

import asyncio

import pytest

from tandem_operator.lease import Terms
from tests.unit.operator.fake_api_server import HANG, Answer
from tests.unit.operator.lease_world import PATH, TERMS, World, lost, play, seconds_until
from tests.unit.operator.virtual_time import now


def test_a_request_takes_less_time_than_the_deadline_and_the_deadline_less_than_the_lease() -> None:
    for duration in (5, 15, 300):
        terms = Terms(duration)
        assert 3 * terms.retry < terms.deadline < terms.duration


# -- acquiring ---------------------------------------------------------------------------------------------------------


def test_a_lease_that_is_not_there_is_made_and_held_at_once() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        assert await seconds_until(lease.acquire()) < 1
        assert world.spec["holderIdentity"] == "a"
        assert world.spec["leaseDurationSeconds"] == 15
        assert world.spec["leaseTransitions"] == 0
        assert world.spec["renewTime"].endswith("Z")

    play(script)


def test_a_released_lease_is_taken_at_once() -> None:
    async def script(world: World) -> None:
        for holder in ("", None):
            world.held_by(holder)  # type: ignore[arg-type]
            lease = await world.operator("a")
            assert await seconds_until(lease.acquire()) < 1
            assert world.spec["holderIdentity"] == "a"
            assert world.spec["leaseTransitions"] == 5

    play(script)


def test_a_lease_without_a_spec_is_taken() -> None:
    async def script(world: World) -> None:
        world.server.put(PATH, {"metadata": {"name": "tandem-operator", "namespace": "chat"}})
        lease = await world.operator("a")
        await lease.acquire()
        assert world.spec["holderIdentity"] == "a"

    play(script)


def test_a_lease_of_our_own_is_taken_up_again_at_once_and_is_no_transition() -> None:
    async def script(world: World) -> None:
        world.held_by("a", renewTime="2030-01-01T00:00:00.000000Z", acquireTime="2029-01-01T00:00:00.000000Z")
        lease = await world.operator("a")
        assert await seconds_until(lease.acquire()) < 1
        assert world.spec["leaseTransitions"] == 4
        assert world.spec["acquireTime"] == "2029-01-01T00:00:00.000000Z"

    play(script)


@pytest.mark.parametrize("stamp", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "not a time", None])
def test_a_holder_that_is_dead_is_waited_for_one_lease_whatever_its_clock_said(stamp: str | None) -> None:
    async def script(world: World) -> None:
        world.held_by("dead", renewTime=stamp)
        lease = await world.operator("a")
        waited = await seconds_until(lease.acquire())
        assert 15 <= waited <= 15 + TERMS.retry + 0.5
        assert world.spec["holderIdentity"] == "a"
        assert world.spec["leaseTransitions"] == 5

    play(script)


def test_a_holder_that_renews_is_waited_for_for_ever() -> None:
    async def script(world: World) -> None:
        first, second = await world.operator("a"), await world.operator("b")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.acquire(), 120)
        assert world.spec["holderIdentity"] == "a"
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    play(script)


def test_the_longer_of_two_durations_counts_when_they_were_configured_differently() -> None:
    async def script(world: World) -> None:
        world.held_by("patient", renewTime="x", leaseDurationSeconds=60)
        lease = await world.operator("a")
        assert await seconds_until(lease.acquire()) >= 60
        world.held_by("hasty", renewTime="y", leaseDurationSeconds=1)
        other = await world.operator("b")
        assert await seconds_until(other.acquire()) >= 15

    play(script)


def test_of_two_that_want_it_at_once_exactly_one_leads() -> None:
    async def script(world: World) -> None:
        leases = [await world.operator(name) for name in ("a", "b", "c")]
        waiting = [asyncio.create_task(lease.acquire()) for lease in leases]
        await asyncio.sleep(TERMS.retry * 3)
        assert sum(task.done() for task in waiting) == 1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    play(script)


@pytest.mark.parametrize("status", [403, 409, 429, 500, HANG])
def test_an_api_server_that_fails_is_asked_again_until_it_answers(status: int) -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        world.server.answer_always("GET", Answer(status, "{}"))
        acquiring = asyncio.create_task(lease.acquire())
        await asyncio.sleep(60)
        assert not acquiring.done()
        world.server.recover()
        await asyncio.wait_for(acquiring, 15)
        assert world.spec["holderIdentity"] == "a"

    play(script)


# -- keeping -----------------------------------------------------------------------------------------------------------


def test_a_kept_lease_is_renewed_many_times_within_its_deadline() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        world.server.requests.clear()
        await asyncio.sleep(100)
        renewals = [request for request in world.server.requests if request.method == "PUT"]
        assert len(renewals) == pytest.approx(100 / TERMS.retry, abs=2)
        assert not keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    play(script)


def test_a_lease_that_another_one_took_is_lost_at_the_next_renewal() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        world.held_by("b", renewTime="x")
        begun = now()
        assert "held by b" in str(await lost(lease))
        assert now() - begun <= TERMS.retry + 0.5
        assert world.spec["holderIdentity"] == "b"

    play(script)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("status", [500, HANG])
def test_who_cannot_renew_gives_up_before_another_one_may_take_over(method: str, status: int) -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        begun = now()
        await lease.acquire()
        world.server.answer_always(method, Answer(status, "{}"))
        assert "not renewed for 10 s" in str(await lost(lease))
        assert now() - begun == pytest.approx(TERMS.deadline, abs=TERMS.retry)
        assert now() - begun < TERMS.duration

    play(script)


def test_a_short_failure_of_the_api_server_loses_nothing() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        for _ in range(5):
            world.server.answer_always("PUT", Answer(500, "{}"))
            await asyncio.sleep(6)
            world.server.recover()
            await asyncio.sleep(6)
        assert not keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    play(script)


def test_the_deadline_counts_from_before_a_renewal_whose_reply_was_slow() -> None:
    """The API server committed at once; for others the lease runs from there, whenever we hear of it."""

    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        slow = Answer(200, after_seconds=7.0, carries_out=True)
        world.server.answer_next("PUT", slow)
        keeping = asyncio.create_task(lost(lease))
        await asyncio.sleep(TERMS.retry + 0.5)
        committed = now()
        world.server.answer_always("GET", Answer(HANG))
        await keeping
        assert now() - committed < TERMS.duration - 3

    play(script)


def test_the_deadline_counts_from_before_the_request_that_took_the_lease() -> None:
    async def script(world: World) -> None:
        world.held_by("")
        lease = await world.operator("a")
        world.server.answer_next("PUT", Answer(200, after_seconds=7.0, carries_out=True))
        taken = now()
        await lease.acquire()
        assert now() - taken >= 7
        world.server.answer_always("GET", Answer(HANG))
        await lost(lease)
        assert now() - taken == pytest.approx(TERMS.deadline, abs=0.5)

    play(script)


def test_somebody_who_annotates_the_lease_takes_nothing_away() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        world.server.answer_next("PUT", Answer(409, '{"message": "the object has been modified"}'))
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(60)
        assert not keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    play(script)


def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    async def script(world: World) -> None:
        lease = await world.operator("a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        del world.server.objects[PATH]
        await asyncio.sleep(30)
        assert not keeping.done()
        assert world.spec["holderIdentity"] == "a"
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    play(script)


def test_at_no_time_do_two_lead_when_the_first_is_cut_off() -> None:
    async def script(world: World) -> None:
        first, second = await world.operator("a"), await world.operator("b")
        await first.acquire()
        keeping = asyncio.create_task(lost(first))
        taking = asyncio.create_task(second.acquire())
        await asyncio.sleep(20)
        world.server.cut_off.add("a")
        cut_off = now()
        await keeping
        gave_up = now()
        assert not taking.done()
        await taking
        assert gave_up - cut_off <= TERMS.deadline + TERMS.retry
        assert now() > gave_up

    play(script)
