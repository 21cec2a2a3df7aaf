"""From the pages of verifiers to the figures of remote drafts, and when those are told anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from tandem_contracts import metrics
from tandem_contracts.launch import Role, Speculation
from tandem_operator.api.status import SpeculationStatus
from tandem_operator.assessment import Assessment
from tandem_operator.measured_speculation import (
    LEAST_READINGS,
    LEAST_ROWS,
    Measured,
    Reading,
    is_effective,
    measured_of,
    reading_in,
    told_of,
)
from tandem_operator.observation import Observation
from tandem_operator.pod_pages import ANSWER_LIMIT_SECONDS
from tandem_operator.speculation_source import (
    LONGEST_PAUSE_SECONDS,
    READ_EVERY_SECONDS,
    READS_AT_ONCE,
    SpeculationFigures,
)
from tandem_operator.status import status_of
from tandem_operator.store import Key
from tests.unit.operator.test_status import DRAFTLESS, NOW, READY, WANTS, observe
from tests.unit.operator.virtual_time import TEST_LIMIT_SECONDS, run

KEY = Key("LLMDeployment", "chat", "llama")


def page_of(reading: Reading) -> str:
    lines = [
        f'{metrics.DRAFT_TOKENS}{{outcome="drafted"}} {reading.drafted}',
        f'{metrics.DRAFT_TOKENS}{{outcome="accepted"}} {reading.accepted}',
        f'{metrics.DRAFT_ROWS}{{outcome="drafted"}} {reading.rows - 10}',
        f'{metrics.DRAFT_ROWS}{{outcome="empty"}} 10.0',
        f"{metrics.DRAFT_DEPTH} {reading.depth}",
    ]
    if reading.speedup:
        lines.append(f"{metrics.DRAFT_SPEEDUP} {reading.speedup}")
    return "# HELP x y\nother_metric 7\n" + "\n".join(lines) + "\n"


def readings_of(count: int, **changes: float) -> list[Reading]:
    """Every step has a draft of four tokens, of which three are accepted."""
    start = Reading(rows=1000, drafted=4000, accepted=3000, depth=4, speedup=1.8)
    steps = [
        replace(start, rows=start.rows + 500 * n, drafted=start.drafted + 2000 * n, accepted=start.accepted + 1500 * n)
        for n in range(count)
    ]
    return [replace(step, **changes) for step in steps]


@pytest.mark.parametrize("speedup", [0.0, 1.75])
def test_a_page_is_read_as_it_was_written(speedup: float) -> None:
    reading = Reading(rows=1234, drafted=400, accepted=300, depth=4, speedup=speedup)
    assert reading_in(page_of(reading)) == reading


@pytest.mark.parametrize(
    "page",
    ["", "no metrics at all {", page_of(Reading(20, float("nan"), 1, 1, 1)), page_of(Reading(20, 1, 1, -1, 1))],
)
def test_a_page_that_does_not_tell_all_tells_nothing(page: str) -> None:
    assert reading_in(page) is None


def test_figures_are_those_of_all_verifiers_between_their_readings() -> None:
    slow = readings_of(4, speedup=1.6)
    measured = measured_of([readings_of(4), slow])
    assert measured == Measured(depth=4, acceptance=0.75, tokens_per_step=4.0, speedup=1.8, lowest=1.6, highest=1.8)


def test_a_speedup_is_told_only_after_some_readings() -> None:
    few = measured_of([readings_of(LEAST_READINGS)])
    assert few is not None
    assert few.speedup == 0.0
    enough = measured_of([readings_of(LEAST_READINGS + 1)])
    assert enough is not None
    assert enough.speedup == 1.8


def test_an_idle_verifier_and_one_that_was_started_again_say_nothing() -> None:
    first = readings_of(1)[0]
    idle = replace(first, rows=first.rows + LEAST_ROWS - 1)
    anew = Reading(rows=first.rows + 5000, drafted=10, accepted=10, depth=4, speedup=1.0)
    assert measured_of([[first, idle], [first, anew], [first], []]) is None


def test_what_a_verifier_says_without_drafts_is_what_it_measured_before() -> None:
    first = readings_of(1)[0]
    alone = [replace(first, rows=first.rows + 500 * n, speedup=3.28, depth=0) for n in range(10)]
    assert measured_of([alone]) is None
    measured = measured_of([alone, readings_of(4)])
    assert measured is not None
    assert (measured.depth, measured.speedup, measured.tokens_per_step) == (4, 1.8, 4.0)


def test_a_depth_that_has_become_0_is_told() -> None:
    told = told_of(MEASURED, None)
    assert told is not None
    off = told_of(replace(MEASURED, depth=0), told.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert off is not None
    assert off.depth == 0


MEASURED = Measured(depth=4, acceptance=0.75, tokens_per_step=4.0, speedup=1.8, lowest=1.6, highest=1.9)


def test_what_moves_little_is_not_told_again() -> None:
    told = told_of(MEASURED, None)
    assert told is not None
    before = told.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert before == {
        "depth": 4,
        "acceptanceRate": "0.75",
        "tokensPerStep": "4.0",
        "speedup": "1.80",
        "speedupInterval": "1.60–1.90",
    }
    assert told_of(None, before) == told
    assert told_of(replace(MEASURED, acceptance=0.77, speedup=1.85, depth=5), before) == told
    moved = told_of(replace(MEASURED, speedup=1.2), before)
    assert moved is not None
    assert moved.speedup == "1.20"


def test_what_turns_is_told_however_little_it_moves() -> None:
    told = told_of(replace(MEASURED, speedup=1.02), None)
    assert told is not None
    before = told.model_dump(mode="json", by_alias=True, exclude_none=True)
    turned = told_of(replace(MEASURED, speedup=1.01), before)
    assert turned is not None
    assert (is_effective(told), is_effective(turned)) == (True, False)


def test_what_somebody_else_wrote_into_the_status_is_dropped() -> None:
    assert told_of(None, {"depth": "many"}) is None
    assert is_effective(SpeculationStatus(speedup="fast")) is False


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (None, ("Unknown", "NotMeasured")),
        (replace(MEASURED, speedup=0.0), ("Unknown", "NotMeasured")),
        (MEASURED, ("True", "Measured")),
        (replace(MEASURED, speedup=0.8, depth=0), ("False", "NotWorthIt")),
    ],
)
def test_the_condition_says_what_was_measured(measured: Measured | None, expected: tuple[str, str]) -> None:
    observation = observe(READY, assessment=Assessment(method=Speculation.REMOTE), measured=measured)
    status = status_of(observation, previous={}, now=NOW)
    told = {c["type"]: c for c in status["conditions"]}["SpeculationEffective"]
    assert (told["status"], told["reason"]) == expected
    assert ("speculation.method Off" in told["message"]) is (expected[1] == "NotWorthIt")
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    assert status_of(observation, previous=status, now=NOW) == status
    quiet = replace(observation, measured=None)
    assert status_of(quiet, previous=status, now=NOW) == status


def test_figures_of_drafts_go_with_the_drafts() -> None:
    remote = Assessment(method=Speculation.REMOTE)
    status = status_of(observe(READY, assessment=remote, measured=MEASURED), previous={}, now=NOW)

    def told(observation: Observation) -> tuple[str, str, bool]:
        said = status_of(observation, previous=status, now=NOW)
        effective = {c["type"]: c for c in said["conditions"]}["SpeculationEffective"]
        return effective["status"], effective["reason"], "speculation" in said

    assert told(observe(READY, assessment=remote)) == ("True", "Measured", True)
    assert told(observe(DRAFTLESS, assessment=remote)) == ("Unknown", "NoDrafts", True)
    none = {**WANTS, Role.DRAFT: replace(WANTS[Role.DRAFT], replicas=0)}
    assert told(observe(READY, none, assessment=remote)) == ("Unknown", "NoDrafts", False)
    status["verifier"]["revision"] = "another"
    assert told(observe(READY, assessment=remote)) == ("Unknown", "NotMeasured", False)


def test_other_methods_have_no_figures_of_drafts() -> None:
    observation = observe(READY, assessment=Assessment(method=Speculation.NGRAM), measured=MEASURED)
    assert "speculation" not in status_of(observation, previous={"speculation": {"depth": 4}}, now=NOW)


def test_pages_are_read_beside_the_passes_and_not_too_often() -> None:
    readings, now, asked = iter(readings_of(9)), 100.0, 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text=page_of(next(readings)))

    async def script(figures: SpeculationFigures, told: Any) -> None:
        nonlocal now
        pods = {"uid": "127.0.0.1"}
        assert figures.latest(KEY, pods) is None
        await told(KEY)
        assert figures.latest(KEY, pods) is None
        assert asked == 1
        assert 0 < figures.due_seconds(KEY) <= READ_EVERY_SECONDS
        for _ in range(LEAST_READINGS):
            now += READ_EVERY_SECONDS
            figures.latest(KEY, pods)
            await told(KEY)
        found = figures.latest(KEY, pods)
        assert found is not None
        assert found.speedup == 1.8
        assert figures.latest(KEY, {}) is None
        assert figures.due_seconds(KEY) == 0.0

    play(answer, script, clock=lambda: now)


def test_what_was_measured_more_than_five_minutes_ago_is_not_told() -> None:
    count, slow_from = 30, 12
    readings = [replace(each, speedup=1.8 if n < slow_from else 1.2) for n, each in enumerate(readings_of(count))]
    coming, now = iter(readings), 0.0

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=page_of(next(coming)))

    async def script(figures: SpeculationFigures, told: Any) -> None:
        nonlocal now
        lowest_and_highest = []
        for _ in range(count):
            figures.latest(KEY, {"uid": "127.0.0.1"})
            await told(KEY)
            found = figures.latest(KEY, {"uid": "127.0.0.1"})
            lowest_and_highest.append((found.lowest, found.highest) if found else None)
            now += READ_EVERY_SECONDS
        five_minutes = round(300 / READ_EVERY_SECONDS)
        assert lowest_and_highest[slow_from - 1] == (1.8, 1.8)
        assert lowest_and_highest[slow_from + five_minutes - 2] == (1.2, 1.8)
        assert lowest_and_highest[slow_from + five_minutes - 1] == (1.2, 1.2)

    play(answer, script, clock=lambda: now)


def test_readings_far_apart_are_not_told_for_longer() -> None:
    coming, now = iter(readings_of(6)), 0.0

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=page_of(next(coming)))

    async def script(figures: SpeculationFigures, told: Any) -> None:
        nonlocal now
        for _ in range(6):
            figures.latest(KEY, {"uid": "127.0.0.1"})
            await told(KEY)
            now += LONGEST_PAUSE_SECONDS
        assert figures._pods[KEY]["uid"].readings
        assert figures.latest(KEY, {"uid": "127.0.0.1"}) is None

    play(answer, script, clock=lambda: now)


class Waiting:
    """Verifiers that do not answer, and how many of them are being read."""

    def __init__(self) -> None:
        self.reads = 0

    async def answer(self, _request: web.Request) -> web.Response:
        self.reads += 1
        try:
            await asyncio.sleep(TEST_LIMIT_SECONDS)
        finally:
            self.reads -= 1
        return web.Response()

    async def settled(self) -> int:
        """Reads that there are once everything else has happened that can."""
        await asyncio.sleep(ANSWER_LIMIT_SECONDS / 4)
        return self.reads


def test_so_many_verifiers_are_read_at_once_and_no_more_and_those_that_are_gone_no_longer() -> None:
    waiting = Waiting()

    async def script(figures: SpeculationFigures, _told: Any) -> None:
        pods = {f"uid{number}": "127.0.0.1" for number in range(2 * READS_AT_ONCE)}
        assert figures.latest(KEY, pods) is None
        assert await waiting.settled() == READS_AT_ONCE
        figures.latest(KEY, {"uid0": "127.0.0.1"})
        assert await waiting.settled() == 1
        figures.forget(KEY)
        assert await waiting.settled() == 0

    play(waiting.answer, script, clock=lambda: 0.0)


def test_a_verifier_that_does_not_answer_is_asked_ever_more_rarely() -> None:
    now, asked, is_back = 0.0, 0, False

    async def answer(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text=page_of(readings_of(1)[0])) if is_back else web.Response(status=503)

    async def script(figures: SpeculationFigures, told: Any) -> None:
        nonlocal now, is_back
        pauses = []
        for _ in range(8):
            assert figures.latest(KEY, {"uid": "127.0.0.1"}) is None
            await told(KEY)
            pauses.append(figures.due_seconds(KEY))
            now += pauses[-1]
        assert asked == 8
        assert pauses == sorted(pauses)
        assert pauses[0] == 2 * READ_EVERY_SECONDS
        assert pauses[-1] == LONGEST_PAUSE_SECONDS
        is_back = True
        figures.latest(KEY, {"uid": "127.0.0.1"})
        await told(KEY)
        assert figures.due_seconds(KEY) == READ_EVERY_SECONDS

    play(answer, script, clock=lambda: now)


def play(answer: Any, script: Any, *, clock: Any) -> None:
    async def main() -> None:
        application = web.Application()
        application.router.add_get("/metrics", answer)
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        figures = SpeculationFigures(port=runner.addresses[0][1], clock=clock)

        async def told(key: Key) -> None:
            await asyncio.gather(*(pod.read for pod in figures._pods[key].values() if pod.read))

        try:
            await script(figures, told)
        finally:
            await figures.close()
            await runner.cleanup()

    run(main())
