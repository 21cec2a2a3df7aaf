"""What Triton serves, without Triton: requests as rows and tokens, the table of contexts, stopping and forgetting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest

from tandem_runtime.draft_server.triton.contexts import Contexts, UnknownContextError
from tandem_runtime.draft_server.triton.frames import Line, What, decoded, encoded
from tandem_runtime.draft_server.triton.serving import Reply, Serving
from tests.unit.runtime.drafters import ArithmeticEngine, after

LIMIT_SECONDS = 30.0


def line(*added: int, session: int = 5, known: int = 0, depth: int = 3) -> Line:
    return Line(What.DRAFT, session, known, list(added), depth)


def known_of(contexts: Contexts, *lines: Line) -> list[list[int]]:
    return [ask.tokens.tolist() for ask in contexts.asks(lines)]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [line(1, 2, 3)],
        [line(1, 2), line(session=2**62, known=7), line(9, session=6, depth=0)],
        [Line(What.FORGET, 3), Line(What.STOP, 2**62 + 1)],
    ],
)
def test_a_request_is_read_as_it_was_written(lines: list[Line]) -> None:
    rows, tokens = encoded(lines)
    assert [
        (found.what, found.session, found.known, list(found.added), found.depth) for found in decoded(rows, tokens)
    ] == [(each.what, each.session, each.known, list(each.added), each.depth) for each in lines]


@pytest.mark.parametrize(
    ("rows", "tokens"),
    [([[0, 5, 0, 2, 3]], [1]), ([[0, 5, 0, -1, 3], [0, 6, 0, 2, 3]], [1]), ([[9, 5, 0, 1, 3]], [1])],
)
def test_what_is_no_request_is_refused(rows: list[list[int]], tokens: list[int]) -> None:
    with pytest.raises(ValueError, match=r"announced|is not a valid What"):
        decoded(rows, tokens)


def test_a_context_grows_by_what_is_new_of_it() -> None:
    contexts = Contexts()
    assert known_of(contexts, line(1, 2), line(8, session=6)) == [[1, 2], [8]]
    assert known_of(contexts, line(3, known=2)) == [[1, 2, 3]]


def test_a_context_goes_back_to_what_both_know() -> None:
    contexts = Contexts()
    contexts.asks([line(1, 2, 3, 4)])
    assert known_of(contexts, line(7, known=2)) == [[1, 2, 7]]
    assert known_of(contexts, line(9)) == [[9]]


def test_a_request_that_builds_on_what_is_not_there_changes_nothing() -> None:
    contexts = Contexts()
    contexts.asks([line(1, 2)])
    with pytest.raises(UnknownContextError, match="has 2 tokens here, not 3"):
        contexts.asks([line(9, session=6), line(4, known=3)])
    with pytest.raises(UnknownContextError, match="has 0 tokens here, not 1"):
        contexts.asks([line(session=6, known=1)])
    assert known_of(contexts, line(known=2)) == [[1, 2]]


def test_the_context_that_was_used_least_recently_goes_first() -> None:
    contexts = Contexts(limit=2)
    contexts.asks([line(1, session=1), line(2, session=2)])
    assert contexts.evict() == []
    contexts.asks([line(known=1, session=1), line(3, session=3)])
    assert contexts.evict() == [2]
    assert known_of(contexts, line(known=1, session=1), line(known=1, session=3)) == [[1], [3]]


class Caller:
    """Asks `serving`, and waits for one answer at a time: drafts, or the text of a failure."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._answers: queue.SimpleQueue[Sequence[Sequence[int]] | str] = queue.SimpleQueue()

    def tell(self, *lines: Line, number: int = 1) -> None:
        self._serving.take(number, *encoded(lines), reply=Reply(self._answers.put, self._answers.put))

    def answer(self) -> Sequence[Sequence[int]] | str:
        return self._answers.get(timeout=LIMIT_SECONDS)

    def ask(self, *lines: Line) -> Sequence[Sequence[int]] | str:
        self.tell(*lines)
        return self.answer()


@pytest.fixture
def engine() -> ArithmeticEngine:
    return ArithmeticEngine()


@pytest.fixture
def caller(engine: ArithmeticEngine) -> Iterator[Caller]:
    serving = Serving(engine)
    yield Caller(serving)
    serving.close()
    assert "drafting" not in {thread.name for thread in threading.enumerate()}


def test_each_row_is_answered_in_its_place(caller: Caller) -> None:
    asked = [line(1, 2), Line(What.FORGET, 9), line(4, session=6, depth=0), line(5, session=7, depth=1)]
    assert caller.ask(*asked) == [after([1, 2], 3), [], after([5], 1)]
    assert caller.ask(line(3, known=2)) == [after([1, 2, 3], 3)]


def test_a_request_is_stopped_after_the_token_that_is_computed_now(caller: Caller, engine: ArithmeticEngine) -> None:
    engine.may_go.clear()
    caller.tell(line(1, 2, depth=9), number=17)
    caller.tell(Line(What.STOP, 17), number=18)
    engine.may_go.set()
    assert [caller.answer(), caller.answer()] == [[after([1, 2], 1)], []]


def test_a_stop_that_comes_too_late_stops_nothing_else(caller: Caller) -> None:
    caller.tell(line(1, 2), number=17)
    caller.tell(Line(What.STOP, 17), number=18)
    caller.tell(line(known=2), number=19)
    assert [caller.answer(), caller.answer(), caller.answer()][1:] == [[], [after([1, 2], 3)]]


def test_what_is_over_is_forgotten_here_and_in_the_engine(caller: Caller, engine: ArithmeticEngine) -> None:
    caller.ask(line(1, 2))
    caller.ask(Line(What.FORGET, 5))
    assert engine.forgotten == {(0, 5)}
    assert caller.ask(line(known=2)) == "UnknownContextError: a context has 0 tokens here, not 2"


def test_an_engine_that_fails_is_answered_for_and_its_contexts_are_dropped(
    caller: Caller, engine: ArithmeticEngine
) -> None:
    caller.ask(line(1, session=6))
    engine.fails = True
    assert caller.ask(line(1, 2)) == "RuntimeError: out of memory"
    assert engine.forgotten == {(0, 5)}
    assert caller.ask(line(known=1, session=6)) == [after([1], 3)]


def test_what_cannot_be_read_is_answered_for(engine: ArithmeticEngine) -> None:
    serving, told = Serving(engine), list[str]()
    serving.take(1, [[0, 5, 0, 2, 3]], [1], reply=Reply(lambda drafts: told.append(str(drafts)), told.append))
    serving.close()
    assert told == ["1 tokens came, and [2] were announced"]
