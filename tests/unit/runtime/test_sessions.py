"""A verifier's sessions and a draft server's contexts against each other: whatever is lost between them, what a draft
continues is what is committed.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tandem_runtime.draft_server import contexts
from tandem_runtime.draft_server.contexts import Contexts
from tandem_runtime.drafting.protocol import TOKEN_BYTES
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, Result, Row
from tandem_runtime.drafting.sessions import OPENING_BYTES, Sessions, Taken

VOCABULARY = 5
DEPTH = 4
REQUESTS = ("a", "b", "c")
LONGEST = 60
ROUNDS = 2
"""That a request takes to get a draft: one to be told that its context is lost, one to send it again."""


def after(context: Sequence[int], depth: int) -> list[int]:
    """What a drafter drafts: it depends on the whole context."""
    tokens = list(context)
    for _ in range(depth):
        tokens.append((7 * sum(tokens) + len(tokens)) % VOCABULARY)
    return tokens[len(context) :]


def as_bytes(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()


class Pair(RuleBasedStateMachine):
    """Rows and answers travel in any order, twice, or not at all; the draft server forgets, or is another one.

    Once nothing is lost any more, both sides agree.
    """

    def __init__(self) -> None:
        super().__init__()
        numbers = count(1)
        self.sessions = Sessions(depth=DEPTH, vocabulary=VOCABULARY, draw=lambda: next(numbers))
        self.contexts = Contexts(limit=2, longest=LONGEST, vocabulary=VOCABULARY)
        self.committed: dict[str, array[int]] = {}
        self.rows: list[Row] = []
        self.results: list[Result] = []
        self.notices: list[list[int]] = []

    @rule(request=st.sampled_from(REQUESTS), tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6))
    def commit(self, request: str, tokens: list[int]) -> None:
        self.committed.setdefault(request, array("i")).extend(tokens)

    @rule(request=st.sampled_from(REQUESTS), accepted=st.integers(0, DEPTH), last=st.integers(0, VOCABULARY - 1))
    def step(self, request: str, accepted: int, last: int) -> None:
        """Some of the draft is accepted, and one token more."""
        if request in self.committed:
            context = self.committed[request]
            context.extend([*self.sessions.draft_of(request, context)[:accepted], last])

    @rule(depth=st.integers(0, DEPTH))
    def ask(self, depth: int) -> None:
        self.rows += self.sessions.rows(self.committed, depth=depth)

    @rule(request=st.sampled_from(REQUESTS))
    def finish(self, request: str) -> None:
        self.committed.pop(request, None)
        self.rows += self.sessions.forget([request])

    @rule(at=st.integers(0, 20), is_last=st.booleans())
    def row_arrives(self, at: int, *, is_last: bool) -> None:
        if not self.rows:
            return
        row = self.rows[at % len(self.rows)]
        if is_last:
            self.rows.remove(row)
        self.serve(row, most=DEPTH)

    @rule(at=st.integers(0, 20), most=st.integers(0, DEPTH))
    def row_arrives_late(self, at: int, most: int) -> None:
        """The budget is spent after a few tokens."""
        if self.rows:
            self.serve(self.rows.pop(at % len(self.rows)), most=most)

    def serve(self, row: Row, *, most: int) -> None:
        """What a draft server does with a row, which drafts so many tokens at most."""
        if row.closes:
            self.contexts.close(row.session)
            return
        taken = self.contexts.take(row)
        if gone := self.contexts.evict():
            self.notices.append(gone)
        there = self.contexts.get(row.session)
        if taken is contexts.Taken.KEPT and there is not None:
            tokens = after(there.tokens[: _length(row)], min(row.depth, most))
            status = Draft.OK if len(tokens) == row.depth else Draft.PARTIAL
        else:
            tokens, status = [], Draft.UNFIT if taken is contexts.Taken.UNFIT else Draft.RESYNC
        self.results.append(answer(row, as_bytes(tokens), status=status))

    @rule(at=st.integers(0, 20), is_last=st.booleans())
    def result_arrives(self, at: int, *, is_last: bool) -> None:
        if self.results:
            result = self.results[at % len(self.results)]
            if is_last:
                self.results.remove(result)
            self.sessions.take(result)

    @rule(at=st.integers(0, 5))
    def notice_arrives(self, at: int) -> None:
        if self.notices:
            self.sessions.forgotten(self.notices.pop(at % len(self.notices)))

    @rule()
    def another_server(self) -> None:
        """Nothing of the stream before arrives any more."""
        self.contexts = Contexts(limit=2, longest=LONGEST, vocabulary=VOCABULARY)
        self.forget_what_travels()
        self.sessions.reset()

    def forget_what_travels(self) -> None:
        self.rows.clear()
        self.results.clear()
        self.notices.clear()

    @invariant()
    def what_is_drafted_continues_what_is_committed(self) -> None:
        for request, context in self.committed.items():
            draft = self.sessions.draft_of(request, context)
            assert draft == after(context, len(draft))
            assert len(draft) <= DEPTH

    def teardown(self) -> None:
        """What was under way is lost, and nothing after it: each request in turn gets a whole draft."""
        self.forget_what_travels()
        for request, context in self.committed.items():
            if len(context) <= LONGEST:
                self.settle(request, context)

    def settle(self, request: str, context: array[int]) -> None:
        for _ in range(ROUNDS):
            context.append((after(context, 1)[0] + 1) % VOCABULARY)  # whatever was drafted is of no use now
            if len(context) > LONGEST:
                return
            for row in self.sessions.rows({request: context}, depth=DEPTH):
                self.serve(row, most=DEPTH)
            for result in self.results:
                self.sessions.take(result)
            self.results.clear()
            if self.sessions.draft_of(request, context) == after(context, DEPTH):
                return
        raise AssertionError(f"no draft for {request} in {ROUNDS} rounds without loss")

    @invariant()
    def a_context_is_the_beginning_of_a_request(self) -> None:
        whole = [bytes(context) for context in self.committed.values()]
        for number in self.contexts.sessions():
            there = self.contexts.get(number)
            session = self.sessions.by_number(number)
            if there is not None and session is not None:
                assert any(context.startswith(bytes(there.tokens)) for context in whole)


def _length(row: Row) -> int:
    return row.base_length + len(row.delta) // 4


Pair.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestPair = Pair.TestCase


class Lied(RuleBasedStateMachine):
    """A draft server that answers anything at all. What is used of it is what it said of a context that is there."""

    def __init__(self) -> None:
        super().__init__()
        numbers = count(1)
        self.sessions = Sessions(depth=DEPTH, vocabulary=VOCABULARY, draw=lambda: next(numbers))
        self.committed = {request: array("i", [1]) for request in REQUESTS}
        self.said: list[tuple[int, list[int]]] = []
        """Of each answer: the length of the context, and the tokens."""

    @rule(request=st.sampled_from(REQUESTS), tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6))
    def commit(self, request: str, tokens: list[int]) -> None:
        self.committed[request].extend(tokens)

    @rule(accepted=st.integers(0, DEPTH), last=st.integers(0, VOCABULARY - 1))
    def step(self, accepted: int, last: int) -> None:
        for request, context in self.committed.items():
            context.extend([*self.sessions.draft_of(request, context)[:accepted], last])

    @rule(request=st.sampled_from(REQUESTS))
    def begin_anew(self, request: str) -> None:
        self.committed[request] = array("i", [2])
        self.sessions.forget([request])

    @rule(
        generation=st.sampled_from([0, 0, 0, -1, 1]),
        back=st.sampled_from([0, 0, 0, 1, 2, -1, -(2**31)]),
        tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=DEPTH, max_size=2 * DEPTH).map(as_bytes)
        | st.lists(st.integers(-1, VOCABULARY), max_size=DEPTH).map(as_bytes)
        | st.binary(max_size=9),
        status=st.sampled_from([Draft.OK, Draft.OK, Draft.PARTIAL, *Draft.Status.values()]),
    )
    def ask_and_be_answered(self, generation: int, back: int, tokens: bytes, status: Draft.Status) -> None:
        """Each row gets the same tokens, for another context perhaps."""
        for row in self.sessions.rows(self.committed, depth=DEPTH):
            length = (_length(row) - back) % 2**32
            if len(tokens) % TOKEN_BYTES == 0:
                self.said.append((length, list(array("i", tokens))))
            parts = {"session": row.session, "generation": row.generation + generation, "base_length": length}
            self.sessions.take(Result(drafts=[Draft(tokens=tokens, status=status, **parts)]))

    @rule(evicted=st.lists(st.integers(0, 5), max_size=3))
    def is_told_of_evictions(self, evicted: list[int]) -> None:
        self.sessions.forgotten(evicted)

    @rule()
    def is_greeted(self) -> None:
        self.sessions.reset()

    @invariant()
    def what_is_used_is_valid_and_was_said_of_this_context(self) -> None:
        for request, context in self.committed.items():
            draft = self.sessions.draft_of(request, context)
            assert len(draft) <= DEPTH
            assert all(0 <= token < VOCABULARY for token in draft)
            assert not draft or any(
                length <= len(context) and [*context[length:], *draft] == tokens[: len(context) - length + len(draft)]
                for length, tokens in self.said
            )


Lied.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestLied = Lied.TestCase


def make_sessions() -> Sessions:
    return Sessions(depth=DEPTH, vocabulary=VOCABULARY)


def answer(row: Row, tokens: bytes, *, status: Draft.Status = Draft.OK, generation: int = 0) -> Result:
    draft = Draft(
        session=row.session,
        generation=generation or row.generation,
        base_length=_length(row),
        tokens=tokens,
        status=status,
    )
    return Result(drafts=[draft])


def test_only_what_is_new_is_sent() -> None:
    sessions, context = make_sessions(), array("i", [1, 2, 3])
    (first,) = sessions.rows({"a": context}, depth=2)
    context.extend([4, 0])
    (second,) = sessions.rows({"a": context}, depth=2)
    assert (first.base_length, first.delta) == (0, as_bytes([1, 2, 3]))
    assert (second.base_length, second.delta) == (3, as_bytes([4, 0]))
    assert second.session == first.session


def test_sessions_that_have_to_be_opened_wait_for_their_turn() -> None:
    sessions = make_sessions()
    contexts = {str(number): array("i", [1]) * (OPENING_BYTES // 8) for number in range(5)}
    assert [len(sessions.rows(contexts, depth=1)) for _ in range(3)] == [2, 4, 5]
    alone = {"long": array("i", [1]) * OPENING_BYTES}
    assert len(make_sessions().rows(alone, depth=1)) == 1, "one that is larger than a step has one for itself"


def test_ids_that_are_none_and_tokens_that_were_not_asked_for_reach_nobody() -> None:
    sessions, context = make_sessions(), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=DEPTH)
    for tokens, kept in (([1, VOCABULARY, 2], [1]), ([-1], []), ([1, 2, 3, 4, 0, 1, 2, 3, 4, 0], [1, 2, 3, 4])):
        assert sessions.take(answer(row, as_bytes(tokens))).invalid == 1
        assert sessions.draft_of("a", context) == kept
    assert sessions.take(answer(row, b"\1\2\3")).invalid == 1
    assert sessions.draft_of("a", context) == []


def test_what_was_drafted_ahead_is_the_draft_once_the_tokens_before_it_are_committed() -> None:
    sessions, context = make_sessions(), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=DEPTH)
    ahead = [2, 3, 4, 0, 1, 2, 3, 4, 0]
    assert len(ahead) == 2 * DEPTH + 1
    assert sessions.take(answer(row, as_bytes(ahead))).invalid == 0
    assert sessions.draft_of("a", context) == ahead[:DEPTH]
    context.extend(ahead[: DEPTH + 1])
    assert sessions.draft_of("a", context) == ahead[DEPTH + 1 :]


def test_an_answer_of_an_earlier_generation_and_of_an_unknown_session_is_stale() -> None:
    sessions, context = make_sessions(), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=1)
    assert sessions.take(answer(row, as_bytes([2]), generation=row.generation + 1)).stale == 1
    assert sessions.take(answer(Row(session=row.session + 1, delta=row.delta), as_bytes([2]))).stale == 1
    assert sessions.draft_of("a", context) == []
    sessions.take(answer(row, b"", status=Draft.RESYNC))
    (again,) = sessions.rows({"a": context}, depth=1)
    assert (again.base_length, again.generation) == (0, row.generation + 1)
    assert sessions.take(answer(row, as_bytes([2]))).stale == 1


def test_an_answer_to_a_context_that_was_never_sent_is_invalid_and_keeps_no_later_one_out() -> None:
    sessions, context = make_sessions(), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=1)
    ahead = Draft(session=row.session, generation=row.generation, base_length=2**31, tokens=as_bytes([3]))
    assert sessions.take(Result(drafts=[ahead])).invalid == 1
    assert sessions.draft_of("a", context) == []
    assert sessions.take(answer(row, as_bytes([2]))).used == 1
    assert sessions.draft_of("a", context) == [2]


def test_a_context_that_is_unfit_is_not_sent_again_until_there_is_another_server() -> None:
    sessions, context = make_sessions(), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=1)
    assert sessions.take(answer(row, b"", status=Draft.UNFIT)).refused == 1
    assert sessions.rows({"a": context}, depth=1) == []
    sessions.reset()
    assert len(sessions.rows({"a": context}, depth=1)) == 1


@pytest.mark.parametrize(
    ("status", "counted"),
    [(Draft.OK, Taken()), (Draft.PARTIAL, Taken(partial=1)), (Draft.OVERLOADED, Taken(refused=1))],
)
def test_an_answer_without_tokens_is_of_no_use_and_the_next_token_is_sent_all_the_same(
    status: Draft.Status, counted: Taken
) -> None:
    sessions, context = make_sessions(), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=1)
    assert sessions.take(answer(row, b"", status=status)) == counted
    context.append(2)
    (more,) = sessions.rows({"a": context}, depth=1)
    assert (more.session, more.base_length) == (row.session, 1)


def test_what_is_over_is_closed_once() -> None:
    sessions = make_sessions()
    (row,) = sessions.rows({"a": array("i", [1])}, depth=1)
    (closing,) = sessions.forget(["a", "never seen"])
    assert (closing.session, closing.closes) == (row.session, True)
    assert sessions.forget(["a"]) == []
    assert len(sessions) == 0


def test_no_more_sessions_are_opened_than_the_draft_server_keeps() -> None:
    sessions, contexts = Sessions(depth=DEPTH, vocabulary=VOCABULARY), {name: array("i", [1, 2]) for name in "abcd"}
    sessions.reset(limit=2)
    assert len(sessions.rows(contexts, depth=DEPTH)) == 2
    assert [row.base_length for row in sessions.rows(contexts, depth=DEPTH)] == [2, 2]
    sessions.forget(["a"])
    assert [row.base_length for row in sessions.rows(contexts, depth=DEPTH) if row.delta] == [0]
