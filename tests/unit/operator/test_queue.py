"""The work queue in virtual time: no event is lost, no key runs twice at once, no failure stops the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from prometheus_client import REGISTRY

from tandem_operator.cluster import ClusterError
from tandem_operator.queue import BACKOFF_LIMIT_SECONDS, PATIENCE_SECONDS, Queue, backoff_seconds
from tandem_operator.reconcile import Outcome
from tandem_operator.store import Key
from tests.unit.operator.virtual_time import now, run

A, B = Key("chat", "a"), Key("chat", "b")


class Passes:
    """What was run and when; each pass takes `seconds` and then does what `then` says."""

    def __init__(self, *, seconds: float = 0.0, then: Callable[[Key, int], Outcome] | None = None) -> None:
        self.seconds = seconds
        self.then = then or (lambda _key, _number: Outcome())
        self.begun: list[tuple[Key, float]] = []
        self.running: list[Key] = []
        self.most_at_once: dict[Key, int] = {}
        self.most_together = 0

    async def __call__(self, key: Key) -> Outcome:
        self.begun.append((key, now()))
        self.running.append(key)
        self.most_at_once[key] = max(self.most_at_once.get(key, 0), self.running.count(key))
        self.most_together = max(self.most_together, len(self.running))
        try:
            await asyncio.sleep(self.seconds)
            return self.then(key, self.count(key))
        finally:
            self.running.remove(key)

    def count(self, key: Key) -> int:
        return sum(begun == key for begun, _ in self.begun)

    def times(self, key: Key) -> list[float]:
        return [at - 1000 for begun, at in self.begun if begun == key]


def play(passes: Passes, script: Callable[[Queue], Awaitable[None]], *, workers: int = 8) -> Passes:
    """Run a queue while `script` does things to it, then stop it."""

    async def main() -> None:
        queue = Queue(passes, workers=workers)
        working = asyncio.create_task(queue.run())
        await script(queue)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    run(main())
    return passes


def fail(_key: Key, _number: int) -> Outcome:
    raise RuntimeError("no")


def test_a_key_that_is_added_runs_once() -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(100)

    assert play(Passes(), script).times(A) == [0]


def test_ten_events_before_its_turn_are_one_pass() -> None:
    async def script(queue: Queue) -> None:
        for _ in range(10):
            queue.add(A)
        await asyncio.sleep(100)

    assert play(Passes(), script).count(A) == 1


def test_ten_events_during_a_pass_are_one_more_pass() -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        for _ in range(10):
            await asyncio.sleep(0.1)
            queue.add(A)
        await asyncio.sleep(100)

    assert play(Passes(seconds=5), script).times(A) == [0, 5]


def test_a_key_never_runs_twice_at_the_same_time_while_others_run_beside_it() -> None:
    async def script(queue: Queue) -> None:
        for _ in range(20):
            queue.add(A)
            queue.add(B)
            await asyncio.sleep(1)
        await asyncio.sleep(100)

    passes = play(Passes(seconds=3), script)
    assert passes.most_at_once == {A: 1, B: 1}
    assert passes.most_together == 2


def test_there_are_never_more_passes_at_once_than_workers() -> None:
    async def script(queue: Queue) -> None:
        for number in range(20):
            queue.add(Key("chat", str(number)))
        await asyncio.sleep(1000)

    passes = play(Passes(seconds=3), script, workers=4)
    assert passes.most_together == 4
    assert len(passes.begun) == 20


def test_a_pass_that_asks_for_another_one_gets_it_then() -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(100)

    passes = play(Passes(then=lambda _key, number: Outcome(30.0 if number < 3 else 0.0)), script)
    assert passes.times(A) == [0, 30, 60]


def test_an_event_before_a_planned_pass_takes_its_place() -> None:
    async def script(queue: Queue) -> None:
        queue.add_later(A, seconds=30)
        await asyncio.sleep(10)
        queue.add(A)
        await asyncio.sleep(100)

    assert play(Passes(), script).times(A) == [10]


@pytest.mark.parametrize("order", [(5, 50), (50, 5)])
def test_of_two_planned_passes_the_sooner_one_is_run(order: tuple[float, float]) -> None:
    async def script(queue: Queue) -> None:
        for seconds in order:
            queue.add_later(A, seconds=seconds)
        await asyncio.sleep(100)

    assert play(Passes(), script).times(A) == [5]


def test_a_failing_pass_is_repeated_ever_more_slowly_up_to_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(1000)

    times = play(Passes(then=fail), script).times(A)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 0.375 <= gaps[0] <= 0.5
    for gap, full in zip(gaps, [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60], strict=False):
        assert 0.75 * full <= gap <= full
    assert len(gaps) > 10
    assert "chat/a: pass failed" in caplog.text


def test_success_forgets_earlier_failures() -> None:
    def sometimes(_key: Key, number: int) -> Outcome:
        if number in {1, 2, 3, 5}:
            raise RuntimeError("no")
        return Outcome()

    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(100)
        queue.add(A)
        await asyncio.sleep(100)

    times = play(Passes(then=sometimes), script).times(A)
    assert len(times) == 6
    assert 0.375 <= times[5] - times[4] <= 0.5


def test_an_event_does_not_wait_for_the_backoff() -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(100)
        queue.add(A)
        await asyncio.sleep(0.01)

    assert play(Passes(then=fail), script).times(A)[-1] == 100


def test_an_event_during_a_failing_pass_is_not_lost_and_runs_once() -> None:
    def first_fails(_key: Key, number: int) -> Outcome:
        if number == 1:
            raise RuntimeError("no")
        return Outcome()

    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(1)
        queue.add(A)
        await asyncio.sleep(100)

    assert play(Passes(seconds=2, then=first_fails), script).times(A) == [0, 2]


def test_a_key_that_always_fails_does_not_keep_others_waiting() -> None:
    def a_fails(key: Key, _number: int) -> Outcome:
        return fail(key, 0) if key == A else Outcome()

    async def script(queue: Queue) -> None:
        queue.add(A)
        for _ in range(5):
            queue.add(B)
            await asyncio.sleep(10)

    passes = play(Passes(then=a_fails), script, workers=1)
    assert passes.times(B) == [0, 10, 20, 30, 40]


def test_the_api_servers_own_wish_to_be_left_alone_is_respected(caplog: pytest.LogCaptureFixture) -> None:
    def throttled(_key: Key, number: int) -> Outcome:
        if number == 1:
            raise ClusterError(429, "too many requests", retry_after_seconds=25.0)
        return Outcome()

    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(100)

    with caplog.at_level(logging.WARNING):
        assert play(Passes(then=throttled), script).times(A) == [0, 25]
    assert "429: too many requests" in caplog.text
    assert "Traceback" not in caplog.text


def test_no_event_cuts_short_the_time_for_which_the_api_server_wants_to_be_left_alone() -> None:
    def throttled(_key: Key, number: int) -> Outcome:
        if number == 1:
            raise ClusterError(429, "too many requests", retry_after_seconds=25.0)
        return Outcome()

    async def script(queue: Queue) -> None:
        queue.add(A)
        for _ in range(50):
            await asyncio.sleep(1)
            queue.add(A)

    times = play(Passes(then=throttled), script).times(A)
    assert times[:2] == [0, 25]
    assert len(times) > 20


def test_what_somebody_asks_for_goes_before_what_follows_by_itself() -> None:
    async def script(queue: Queue) -> None:
        for number in range(20):
            queue.add(Key("chat", f"event-{number}"))
        queue.add(A, is_asked_for=True)
        queue.add(B, is_asked_for=True)
        await asyncio.sleep(100)

    passes = play(Passes(seconds=1), script, workers=1)
    assert [key for key, _ in passes.begun[:3]] == [A, B, Key("chat", "event-0")]
    assert len(passes.begun) == 22


@pytest.mark.parametrize("is_asked_for_first", [True, False])
def test_a_key_that_waits_moves_to_the_front_once_somebody_asks_for_it(*, is_asked_for_first: bool) -> None:
    async def script(queue: Queue) -> None:
        for number in range(20):
            queue.add(Key("chat", f"event-{number}"))
        queue.add(A, is_asked_for=is_asked_for_first)
        queue.add(A, is_asked_for=not is_asked_for_first)
        await asyncio.sleep(100)

    assert play(Passes(seconds=1), script, workers=1).times(A) == [0]


def test_the_wait_of_a_key_that_somebody_asks_for_is_measured_from_its_first_event() -> None:
    async def script(queue: Queue) -> None:
        queue.add(B)
        await asyncio.sleep(1)
        queue.add(A)
        await asyncio.sleep(5)
        queue.add(A, is_asked_for=True)
        await asyncio.sleep(100)

    def waited() -> float:
        return REGISTRY.get_sample_value("tandem_operator_queue_wait_seconds_sum") or 0.0

    before = waited()
    assert play(Passes(seconds=10), script, workers=1).times(A) == [10]
    assert waited() - before == pytest.approx(9)


def test_an_event_during_a_pass_keeps_the_place_of_one_that_asks() -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(0.5)
        for number in range(20):
            queue.add(Key("chat", f"event-{number}"))
        queue.add(A, is_asked_for=True)
        queue.add(A)
        await asyncio.sleep(100)

    assert play(Passes(seconds=1), script, workers=1).times(A) == [0, 1]


def test_a_storm_of_requests_keeps_nothing_waiting_for_ever() -> None:
    async def script(queue: Queue) -> None:
        await asyncio.sleep(10)
        queue.add(B)
        for number in range(200):
            queue.add(Key("chat", f"asked-{number}"), is_asked_for=True)
            await asyncio.sleep(1)

    (begun,) = play(Passes(seconds=2), script, workers=1).times(B)
    assert PATIENCE_SECONDS <= begun - 10 <= 2 * PATIENCE_SECONDS + 2


def test_stopping_the_queue_stops_the_passes_that_run() -> None:
    async def script(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(1)

    passes = play(Passes(seconds=1000), script)
    assert passes.running == []


@pytest.mark.parametrize("failures", [1, 2, 5, 8, 100, 10_000])
def test_backoff_grows_to_its_limit_and_never_above(failures: int) -> None:
    drawn = [backoff_seconds(failures) for _ in range(200)]
    full = min(0.5 * 2 ** min(failures - 1, 100), BACKOFF_LIMIT_SECONDS)
    assert all(0.75 * full <= seconds <= full for seconds in drawn)
    assert len(set(drawn)) > 100, "keys that failed together do not come back together"
