"""When a step asks for drafts and when it waits; the draft pod is a function here, so that the test owns the time.

Limits on waits are generous and only reached by a defect.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.remote import RemoteDrafts, Row

LIMIT_SECONDS = 30.0
DEPTH = 3


class ManualDraftPod:
    """Answers each call when, and with what, the test says."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[list[list[int]]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[object] | Exception] = queue.SimpleQueue()
        self.returned = threading.Semaphore(0)

    def ask(self, contexts: Sequence[list[int]]) -> list[object]:
        self.asked.put([list(context) for context in contexts])
        answer = self._answers.get(timeout=LIMIT_SECONDS)
        self.returned.release()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def will_answer(self, answer: list[object] | Exception) -> None:
        self._answers.put(answer)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def pod() -> ManualDraftPod:
    return ManualDraftPod()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    return Counters(tmp_path / "counters")


def make_drafts(
    pod: ManualDraftPod, counters: Counters, clock: Clock, *, deadline_seconds: float = LIMIT_SECONDS
) -> RemoteDrafts:
    return RemoteDrafts(pod.ask, counters, depth=DEPTH, vocabulary=100, deadline_seconds=deadline_seconds, now=clock)


def until_answered(drafts: RemoteDrafts, rows: Sequence[Row], *, limit_steps: int = 100_000) -> list[list[int]]:
    """Steps the engine, which commits nothing meanwhile, until there are drafts."""
    for _ in range(limit_steps):
        if any(proposed := drafts.propose(rows)):
            return proposed
    pytest.fail(f"no draft within {limit_steps} steps")


def row(name: str, *tokens: int) -> Row:
    return Row(request=name, context=list(tokens))


def test_the_first_step_of_a_request_asks_but_does_not_wait(
    pod: ManualDraftPod, counters: Counters, clock: Clock
) -> None:
    drafts = make_drafts(pod, counters, clock)
    assert drafts.propose([row("a", 1, 2)]) == [[]]
    assert pod.asked.get(timeout=LIMIT_SECONDS) == [[1, 2]]


def test_a_late_answer_is_used_as_far_as_it_came_true(pod: ManualDraftPod, counters: Counters, clock: Clock) -> None:
    drafts = make_drafts(pod, counters, clock)
    drafts.propose([row("a", 1, 2), row("b", 7)])
    pod.will_answer([[3, 4, 5], [8, 9]])
    assert until_answered(drafts, [row("a", 1, 2, 3), row("b", 7, 0)]) == [[4, 5], []]


@pytest.fixture
def proven(pod: ManualDraftPod, counters: Counters, clock: Clock) -> Iterator[RemoteDrafts]:
    """Drafts for a request "a" that has had its first step, from a pod that has answered in time."""
    drafts = make_drafts(pod, counters, clock)
    drafts.propose([row("a", 1)])
    pod.will_answer([[2, 3, 4]])
    until_answered(drafts, [row("a", 1)])
    pod.asked.get(timeout=LIMIT_SECONDS)
    yield drafts
    pod.will_answer([])  # lets a call that is still under way end


def test_a_step_waits_for_a_pod_that_has_answered_in_time(proven: RemoteDrafts, pod: ManualDraftPod) -> None:
    pod.will_answer([[6, 7, 8]])
    assert proven.propose([row("a", 1, 5)]) == [[6, 7, 8]]


def test_a_new_request_in_the_batch_keeps_the_step_from_waiting(
    proven: RemoteDrafts, pod: ManualDraftPod, counters: Counters
) -> None:
    assert proven.propose([row("a", 1, 5), row("b", 9)]) == [[], []]
    assert proven._caller.is_busy, "the call goes on beside the engine"
    assert counters.value(Counted.DEADLINES_MISSED) == 0, "a step that waits in vain misses its deadline"
    assert pod.asked.get(timeout=LIMIT_SECONDS) == [[1, 5], [9]]


def test_rows_that_still_have_a_draft_are_not_asked_for_again(proven: RemoteDrafts, pod: ManualDraftPod) -> None:
    assert proven.propose([row("a", 1, 2)]) == [[3, 4]]
    assert pod.asked.empty()


def test_invalid_ids_and_excess_tokens_never_reach_the_engine(
    proven: RemoteDrafts, pod: ManualDraftPod, counters: Counters
) -> None:
    pod.will_answer([[6, 100, 7]])
    assert proven.propose([row("a", 1, 5)]) == [[6]]
    pod.will_answer([[1, 1, 1, 1, 1]])
    assert proven.propose([row("a", 1, 5, 5)]) == [[1, 1, 1]]
    assert counters.value(Counted.ROWS_INVALID) == 2


@pytest.mark.parametrize("answer", [[], [[1], [2]], ["text"], [None], [{}]])
def test_an_answer_of_the_wrong_form_is_no_draft(
    proven: RemoteDrafts, pod: ManualDraftPod, answer: list[object]
) -> None:
    pod.will_answer(answer)
    assert proven.propose([row("a", 1, 5)]) == [[]]


def test_after_a_failure_nothing_is_asked_until_the_pause_is_over(
    proven: RemoteDrafts, pod: ManualDraftPod, clock: Clock, counters: Counters
) -> None:
    pod.will_answer(ConnectionRefusedError("nobody there"))
    assert proven.propose([row("a", 1, 5)]) == [[]]
    assert pod.asked.get(timeout=LIMIT_SECONDS) == [[1, 5]]
    for pause_seconds in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        clock.seconds += pause_seconds * 0.99
        assert proven.propose([row("a", 1, 5)]) == [[]]
        assert not proven._caller.is_busy, f"asked before {pause_seconds} s were over"
        clock.seconds += pause_seconds * 0.02
        assert proven.propose([row("a", 1, 5)]) == [[]]
        assert proven._caller.is_busy, f"not asked after {pause_seconds} s"
        assert pod.asked.get(timeout=LIMIT_SECONDS) == [[1, 5]]
        pod.will_answer(ConnectionRefusedError("nobody there"))
        failed_before = counters.value(Counted.CALLS_FAILED)
        while counters.value(Counted.CALLS_FAILED) == failed_before:
            proven.propose([row("a", 1, 5)])


def test_a_pod_that_never_answers_costs_one_deadline_and_then_nothing(pod: ManualDraftPod, counters: Counters) -> None:
    drafts = RemoteDrafts(pod.ask, counters, depth=DEPTH, vocabulary=100, deadline_seconds=5.0, now=time.monotonic)
    drafts.propose([row("a", 1)])
    pod.will_answer([[2, 3, 4]])
    until_answered(drafts, [row("a", 1)])
    for length in range(2, 50):
        assert drafts.propose([row("a", *[9] * length)]) == [[]]
    assert counters.value(Counted.DEADLINES_MISSED) == 1
    pod.will_answer([])
