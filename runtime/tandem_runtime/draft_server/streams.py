"""One verifier's stream: its frames in, answers out, newest first. Knows no transport."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tandem_runtime.draft_server.contexts import Contexts, Taken
from tandem_runtime.draft_server.engines import Ask, DraftEngine
from tandem_runtime.draft_server.figures import Figures
from tandem_runtime.draft_server.turns import Drafted, Turns
from tandem_runtime.drafting.protocol import VERSION, length_of, mismatch_of
from tandem_runtime.drafting.protocol.draft_pb2 import (
    Draft,
    DrafterFrame,
    Hello,
    Notice,
    Result,
    Row,
    Step,
    VerifierFrame,
    Welcome,
)

logger = logging.getLogger(__name__)


WAITING_STEPS = 64
"""Steps of one verifier that may wait; a verifier has one engine step at a time, so more is no verifier's."""


class MismatchError(Exception):
    """This draft server cannot serve that verifier; the message says why."""


@dataclass(frozen=True)
class Offer:
    """What this process says of itself."""

    drafter: str
    incarnation: int
    max_depth: int
    max_sessions: int


def welcome(hello: Hello, engine: DraftEngine, offer: Offer) -> Welcome:
    """The answer to a verifier. Raises MismatchError that names both values."""
    answer = Welcome(
        protocol=VERSION,
        drafter=offer.drafter,
        incarnation=offer.incarnation,
        tokenizer_hash=engine.tokenizer_hash,
        vocabulary=engine.vocabulary,
        max_depth=min(offer.max_depth, hello.max_depth),
        context_limit=engine.context_limit,
        max_sessions=offer.max_sessions,
    )
    if mismatch := mismatch_of(hello, answer):
        raise MismatchError(mismatch)
    return answer


@dataclass(frozen=True, slots=True)
class _Arrived:
    step: Step
    at: float


class Stream:
    """The steps of one verifier, one after the other."""

    def __init__(
        self,
        number: int,
        engine: DraftEngine,
        turns: Turns,
        *,
        depth: int,
        sessions: int,
        figures: Figures,
    ) -> None:
        self._number, self._engine, self._turns, self._depth = number, engine, turns, depth
        self._contexts = Contexts(limit=sessions, longest=engine.context_limit, vocabulary=engine.vocabulary)
        self._arrived: queue.Queue[_Arrived | None] = queue.Queue(WAITING_STEPS)
        self._figures, self._counted = figures, 0
        self._is_draining = self._is_told = False

    def hear(self, frames: Iterable[VerifierFrame]) -> None:
        """Read until the verifier ends the stream. Runs beside `answers`; blocks the verifier that asks too fast."""
        try:
            for frame in frames:
                if frame.WhichOneof("frame") == "step":
                    self._arrived.put(_Arrived(frame.step, time.monotonic()))
        finally:
            self._arrived.put(None)

    def drain(self) -> None:
        """Tell the verifier that this draft server is about to go, also one that asks for nothing now."""
        self._is_draining = True
        with contextlib.suppress(queue.Full):  # then there is something to answer
            self._arrived.put_nowait(_Arrived(Step(), time.monotonic()))

    def answers(self) -> Iterator[DrafterFrame]:
        """What to send, until the stream has ended; the sessions are forgotten then."""
        try:
            while True:
                arrived, is_over = self._take()
                if self._is_draining and not self._is_told:
                    self._is_told = True
                    yield DrafterFrame(notice=Notice(draining=True))
                if arrived:
                    yield from self._answer(arrived)
                if is_over:
                    return
        finally:
            self._engine_forgets(self._contexts.sessions())
            self._figures.kept(-self._counted)

    def _take(self) -> tuple[list[_Arrived], bool]:
        """Everything that waits, at least one; and whether it was the last."""
        found = [self._arrived.get()]
        while True:
            try:
                found.append(self._arrived.get_nowait())
            except queue.Empty:
                break
        return [each for each in found if each is not None], None in found

    def _answer(self, arrived: Sequence[_Arrived]) -> Iterator[DrafterFrame]:
        """Every row is taken in; of each session only the newest is answered."""
        newest: dict[int, tuple[_Arrived, Row]] = {}
        lost: list[tuple[Step, Draft]] = []
        for each in arrived:
            for row in each.step.rows:
                if row.closes:
                    newest.pop(row.session, None)
                    self._contexts.close(row.session)
                    self._engine_forgets([row.session])
                    continue
                taken = self._contexts.take(row)
                if newest.pop(row.session, None) is not None:
                    self._figures.superseded()
                if taken is Taken.KEPT:
                    newest[row.session] = each, row
                else:
                    self._figures.lost()
                    status = Draft.RESYNC if taken is Taken.LOST else Draft.UNFIT
                    lost.append((each.step, _draft(row, [], status)))
        if gone := self._contexts.evict():
            self._engine_forgets(gone)
            self._figures.evicted(len(gone))
            yield DrafterFrame(notice=Notice(evicted=gone))
            newest = {session: found for session, found in newest.items() if session not in gone}
        self._figures.kept(len(self._contexts) - self._counted)
        self._counted = len(self._contexts)
        if lost:
            yield from (DrafterFrame(result=Result(step=step.number, drafts=[draft])) for step, draft in lost)
        yield from self._drafted(list(newest.values()))

    def _drafted(self, wanted: Sequence[tuple[_Arrived, Row]]) -> Iterator[DrafterFrame]:
        """What is asked for; and then, while nothing else is, what is of use after it."""
        rows = [row for _, row in wanted]
        if not rows:
            return
        last = max((each for each, _ in wanted), key=lambda each: each.at)
        step, due = last.step, last.at + last.step.budget_us / 1e6 if last.step.budget_us else float("inf")
        asks = [self._ask(row) for row in rows]
        try:
            drafted = self._turns.draft(asks, due=due)
            if any(ask.depth for ask in asks):
                answer = self._result(last, rows, asks, drafted)
                self._figures.drafted(
                    sum(map(len, drafted.drafts)),
                    queue_seconds=answer.result.queue_us / 1e6,
                    compute_seconds=answer.result.compute_us / 1e6,
                )
                yield answer
            if step.ahead and self._engine.goes_on and any(drafted.drafts):
                further = [self._ask(row, ahead=step.ahead) for row in rows]
                ahead = self._turns.draft_ahead(further, is_over=lambda: not self._arrived.empty())
                more = sum(map(len, ahead.drafts)) - sum(map(len, drafted.drafts))
                if more > 0:
                    self._figures.drafted_ahead(more)
                    yield self._result(last, rows, asks, ahead)
        except Exception:
            logger.exception("drafting failed for %d contexts; they are dropped", len(rows))
            self._figures.failed()
            sessions = [row.session for row in rows]
            for session in sessions:
                self._contexts.close(session)
            self._engine_forgets(sessions)
            yield DrafterFrame(notice=Notice(evicted=sessions))

    def _result(self, last: _Arrived, rows: Sequence[Row], asks: Sequence[Ask], drafted: Drafted) -> DrafterFrame:
        drafts = [
            _draft(row, tokens, Draft.OK if len(tokens) >= ask.depth else Draft.PARTIAL)
            for row, ask, tokens in zip(rows, asks, drafted.drafts, strict=True)
            if ask.depth
        ]
        queued, computed = max(drafted.begun - last.at, 0.0), time.monotonic() - drafted.begun
        times = {"queue_us": int(queued * 1e6), "compute_us": int(computed * 1e6)}
        return DrafterFrame(result=Result(step=last.step.number, drafts=drafts, **times))

    def _ask(self, row: Row, *, ahead: int = 0) -> Ask:
        context = self._contexts.get(row.session)
        assert context is not None  # noqa: S101 -- narrows the type: it was taken in just now
        room = self._engine.context_limit - len(context.tokens)
        depth = min(row.depth, self._depth)
        wanted = depth + min(ahead, depth + 1) if depth else 0
        return Ask((self._number, row.session), context.tokens, max(min(wanted, room), 0))

    def _engine_forgets(self, sessions: Iterable[int]) -> None:
        self._turns.forget([(self._number, session) for session in sessions])


def _draft(row: Row, tokens: Sequence[int], status: Draft.Status) -> Draft:
    """An answer to a row."""
    return Draft(
        session=row.session,
        generation=row.generation,
        base_length=length_of(row),
        tokens=array("i", tokens).tobytes(),
        status=status,
    )
