"""The queue before one draft engine: who shares a pass, when it ends, and what happens between two."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from tandem_contracts import metrics
from tandem_runtime.draft_server import turns as turns_module
from tandem_runtime.draft_server.engines import Ask
from tandem_runtime.draft_server.figures import Figures
from tandem_runtime.draft_server.turns import FOREVER, Turns
from tests.unit.runtime.drafters import ArithmeticEngine, after

LIMIT_SECONDS = 20.0


@pytest.fixture
def engine() -> ArithmeticEngine:
    return ArithmeticEngine()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT_SECONDS:.0f} s"
        time.sleep(0.01)


def test_verifiers_that_wait_at_the_same_time_share_a_pass(engine: ArithmeticEngine) -> None:
    turns = Turns(engine)
    asks = [Ask((number, 1), array("i", [number]), 3) for number in range(3)]
    engine.may_go.clear()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(turns.draft, asks[:1])]
        wait_for(lambda: len(engine.passes) == 1, "a pass")
        answers += [pool.submit(turns.draft, [ask]) for ask in asks[1:]]
        wait_for(lambda: turns.waiting == 2, "two that wait")
        engine.may_go.set()
        assert [answer.result(LIMIT_SECONDS).drafts for answer in answers] == [[after([n], 3)] for n in range(3)]
    assert engine.passes == [1, 2]


def test_a_shared_pass_ends_when_the_first_of_those_who_wait_is_due(engine: ArithmeticEngine) -> None:
    turns, ask = Turns(engine), Ask((1, 1), array("i", [1]), 3)
    engine.may_go.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(turns.draft, [ask])
        wait_for(lambda: len(engine.passes) == 1, "a pass")
        shared = [pool.submit(turns.draft, [ask], due=due) for due in (FOREVER, time.monotonic())]
        wait_for(lambda: turns.waiting == 2, "two that wait")
        engine.may_go.set()
        assert first.result(LIMIT_SECONDS).drafts == [after([1], 3)]
        assert [each.result(LIMIT_SECONDS).drafts for each in shared] == [[after([1], 1)]] * 2


def test_drafting_ahead_ends_when_another_verifier_waits(engine: ArithmeticEngine) -> None:
    turns, ask = Turns(engine), Ask((1, 1), array("i", [1]), 3)
    engine.may_go.clear()
    with ThreadPoolExecutor(2) as pool:
        ahead = pool.submit(turns.draft_ahead, [ask], is_over=lambda: False)
        wait_for(lambda: len(engine.passes) == 1, "a pass")
        other = pool.submit(turns.draft, [ask])
        wait_for(lambda: turns.waiting == 1, "one that waits")
        engine.may_go.set()
        assert ahead.result(LIMIT_SECONDS).drafts == [after([1], 1)]
        assert other.result(LIMIT_SECONDS).drafts == [after([1], 3)]


class _Slow(ArithmeticEngine):
    """Whose passes take a second of a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        self.now += 1.0
        return super().draft(asks, is_due=is_due)


def test_busy_is_the_time_of_passes_that_somebody_asked_for_and_a_shared_one_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, registry = _Slow(), CollectorRegistry()
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(monotonic=lambda: engine.now))
    turns, asks = Turns(engine, Figures(registry)), [Ask((n, 1), array("i", [1]), 3) for n in range(4)]
    turns.draft_ahead(asks[:1], is_over=lambda: False)
    assert registry.get_sample_value(metrics.DRAFT_SERVER_BUSY_SECONDS) == 0
    engine.may_go.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(turns.draft, asks[:1])]
        wait_for(lambda: len(engine.passes) == 2, "a pass")
        answers += [pool.submit(turns.draft, [ask]) for ask in asks[1:]]
        wait_for(lambda: turns.waiting == 3, "three that wait")
        engine.may_go.set()
        for answer in answers:
            answer.result(LIMIT_SECONDS)
    assert engine.passes == [1, 1, 3]
    assert registry.get_sample_value(metrics.DRAFT_SERVER_BUSY_SECONDS) == 2


def test_an_engine_is_told_to_forget_only_between_its_passes(engine: ArithmeticEngine) -> None:
    turns = Turns(engine)
    engine.may_go.clear()
    ask = Ask((1, 1), array("i", [1]), 1)
    with ThreadPoolExecutor(1) as pool:
        drafting = pool.submit(turns.draft, [ask])
        wait_for(lambda: engine.passes == [1], "a pass")
        turns.forget([(1, 2)])
        assert engine.forgotten == set()
        engine.may_go.set()
        drafting.result(LIMIT_SECONDS)
    turns.draft([ask])
    assert engine.forgotten == {(1, 2)}
    turns.forget([(1, 1)])
    assert engine.forgotten == {(1, 1), (1, 2)}
