"""How long a pod took to become Ready: read from its status and its launcher, once, and never waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from prometheus_client import REGISTRY

from tandem_contracts.launch import Role
from tandem_contracts.metrics import START_PHASE_SECONDS
from tandem_operator.cold_start import ColdStart, StartPhase, cold_start_of, engine_phases_in, written
from tandem_operator.cold_starts import COLD_START_SECONDS, ColdStarts
from tandem_operator.facts import Manifest
from tandem_operator.kept import kept_of
from tests.builders import KEY, make_raw_pod
from tests.unit.operator.virtual_time import run

REVISION = "7f3a90c1"
PAGE = f"""\
# HELP {START_PHASE_SECONDS} Duration of each phase of the engine's start.
# TYPE {START_PHASE_SECONDS} gauge
{START_PHASE_SECONDS}{{phase="process"}} 8.25
{START_PHASE_SECONDS}{{phase="weights"}} 19.0
{START_PHASE_SECONDS}{{phase="compile"}} 33.0
{START_PHASE_SECONDS}{{phase="warm_up"}} 4.0
{START_PHASE_SECONDS}{{phase="total"}} 64.25
tandem_engine_ready 1.0
"""
ENGINE = {StartPhase.PROCESS: 8.25, StartPhase.WEIGHTS: 19.0, StartPhase.COMPILE: 33.0, StartPhase.WARM_UP: 4.0}


def at(seconds: int) -> str:
    return f"2030-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"


def condition(kind: str, since: int, status: str = "True") -> Manifest:
    return {"type": kind, "status": status, "lastTransitionTime": at(since)}


def make_pod(*, is_ready: bool, role: Role = Role.VERIFIER, name: str = "p", restarts: int = 0) -> Manifest:
    """Made at 0 s; has a node at 3 s; its container runs at 44 s; Ready at 108 s."""
    state = {"running": {"startedAt": at(44)}}
    conditions = [condition("PodScheduled", 3), condition("Ready", 108, "True" if is_ready else "False")]
    raw = make_raw_pod(
        role, REVISION, name=name, phase="Running", podIP="127.0.0.1", conditions=conditions,
        containerStatuses=[{"name": "engine", "ready": is_ready, "state": state, "restartCount": restarts}],
    )  # fmt: skip
    return kept_of(raw)


def test_the_phases_outside_of_the_engine_are_read_from_the_status_of_the_pod() -> None:
    start = cold_start_of(make_pod(is_ready=True), Role.VERIFIER)
    assert start == ColdStart(
        "p", Role.VERIFIER, {StartPhase.SCHEDULE: 3.0, StartPhase.PULL: 41.0, StartPhase.TOTAL: 108.0}
    )


def test_a_pod_whose_container_was_started_again_had_no_start_to_measure() -> None:
    assert cold_start_of(make_pod(is_ready=True, restarts=1), Role.VERIFIER) is None


def test_a_phase_that_nobody_tells_is_absent() -> None:
    bare = make_raw_pod(Role.VERIFIER, REVISION, conditions=[{"type": "Ready", "status": "True"}])
    assert cold_start_of(bare, Role.VERIFIER) == ColdStart("p", Role.VERIFIER, {})


def test_the_phases_inside_of_the_engine_are_read_from_its_launchers_page() -> None:
    assert engine_phases_in(PAGE) == ENGINE
    partly = f'{START_PHASE_SECONDS}{{phase="weights"}} NaN\n{START_PHASE_SECONDS}{{phase="process"}} 1\n'
    assert engine_phases_in(partly) == {StartPhase.PROCESS: 1.0}
    for broken in ("", "<html>", f"{START_PHASE_SECONDS}{{phase=", f'{START_PHASE_SECONDS}{{phase="weights"}} x'):
        assert engine_phases_in(broken) == {}


def test_durations_are_shown_with_what_is_worth_knowing() -> None:
    assert [written(seconds) for seconds in (0.0, 0.04, 9.94, 41.4, 108.0)] == ["0.0s", "0.0s", "9.9s", "41s", "108s"]


PAUSES_SECONDS = (0.0, 0.01, 0.01)


@contextlib.asynccontextmanager
async def launcher(page: str, *, refusals: int) -> AsyncIterator[tuple[int, list[str]]]:
    """A launcher's metrics port, with a page after so many refusals; the port, and the paths that were asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=page, status=503 if len(asked) <= refusals else 200)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], asked
    finally:
        await runner.cleanup()


def play(script: Callable[[ColdStarts, list[str]], Awaitable[None]], *, page: str = PAGE, refusals: int = 0) -> None:
    async def main() -> None:
        async with launcher(page, refusals=refusals) as (port, asked):
            starts = ColdStarts(port=port, pauses_seconds=PAUSES_SECONDS)
            try:
                await script(starts, asked)
            finally:
                await starts.close()

    run(main())


async def reads(starts: ColdStarts) -> None:
    await asyncio.gather(*starts._reads)


def counted(role: str, phase: str) -> float:
    return REGISTRY.get_sample_value("tandem_cold_start_seconds_count", {"role": role, "phase": phase}) or 0.0


def test_each_role_and_phase_is_there_from_the_start_since_the_first_start_of_all_is_an_increase_of_nothing() -> None:
    there = {(each.labels["role"], each.labels["phase"]) for each in COLD_START_SECONDS.collect()[0].samples}
    assert there == {(role, phase) for role in Role for phase in StartPhase}


def test_a_start_that_was_seen_is_told_and_counted_once() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        before = {phase: counted("verifier", phase) for phase in StartPhase}
        assert starts.last(KEY, [make_pod(is_ready=False)]) is None
        first = starts.last(KEY, [make_pod(is_ready=True)])
        assert first is not None
        assert StartPhase.WEIGHTS not in first.seconds, "no pass waits for a pod"
        await reads(starts)
        for _ in range(3):
            told = starts.last(KEY, [make_pod(is_ready=True)])
        assert told == first.with_engine(ENGINE)
        assert asked == ["/metrics"]
        assert {phase: counted("verifier", phase) - before[phase] for phase in StartPhase} == dict.fromkeys(
            StartPhase, 1.0
        )

    play(script)


def test_pods_that_were_ready_before_are_neither_asked_nor_counted() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        assert starts.last(KEY, [make_pod(is_ready=True)]) is None
        assert starts.last(KEY, [make_pod(is_ready=True)]) is None
        assert not starts._reads
        assert asked == []

    play(script)


def test_a_draft_is_counted_and_the_last_start_of_a_verifier_stays() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        before = counted("draft", "total")
        starts.last(KEY, [make_pod(is_ready=False, role=Role.DRAFT)])
        assert starts.last(KEY, [make_pod(is_ready=True, role=Role.DRAFT)]) is None
        assert counted("draft", "total") == before + 1

    play(script)


def test_a_launcher_that_says_nothing_leaves_its_phases_unknown() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        starts.last(KEY, [make_pod(is_ready=False)])
        first = starts.last(KEY, [make_pod(is_ready=True)])
        await reads(starts)
        assert starts.last(KEY, [make_pod(is_ready=True)]) == first
        assert len(asked) == 1 + len(PAUSES_SECONDS)

    play(script, refusals=100)
    play(script, page="x" * 100)


def test_a_launcher_that_is_too_busy_at_first_is_asked_again() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        before = counted("verifier", "weights")
        starts.last(KEY, [make_pod(is_ready=False)])
        first = starts.last(KEY, [make_pod(is_ready=True)])
        assert first is not None
        await reads(starts)
        assert starts.last(KEY, [make_pod(is_ready=True)]) == first.with_engine(ENGINE)
        assert len(asked) == 3
        assert counted("verifier", "weights") == before + 1

    play(script, refusals=2)


def test_a_pod_that_cannot_be_reached_leaves_its_phases_unknown() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        starts._pages._port = 1
        starts.last(KEY, [make_pod(is_ready=False)])
        first = starts.last(KEY, [make_pod(is_ready=True)])
        await reads(starts)
        assert starts.last(KEY, [make_pod(is_ready=True)]) == first

    play(script)


def test_what_is_known_of_a_deployment_goes_with_it() -> None:
    async def script(starts: ColdStarts, asked: list[str]) -> None:
        starts.last(KEY, [make_pod(is_ready=False)])
        starts.last(KEY, [make_pod(is_ready=True)])
        starts.forget(KEY)
        await reads(starts)
        assert not starts._last
        assert not starts._starting

    play(script)
