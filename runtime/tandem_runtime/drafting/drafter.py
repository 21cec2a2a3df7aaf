"""One draft pod as the verifier sees it: what it was asked, what it has said, and whether to wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tandem_runtime.drafting.breaker import Breaker, State
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.protocol import TOKEN_BYTES
from tandem_runtime.drafting.protocol.draft_pb2 import DrafterFrame, Result, Row, Step, VerifierFrame
from tandem_runtime.drafting.sessions import Context, Sessions

MOST_UNANSWERED = 32
"""Steps that may wait for their answers; past it nothing is asked until one comes, or the stream ends."""
SILENCE_SECONDS = 1.0
"""A pod that has not answered a step for so long is left alone."""
FRAMES_UNASKED = 64
"""That a draft server may send; beyond it, one for each row that it was asked about, and two for each step."""
MOST_FRAMES_DUE = 1024
PROBED_ROWS = 2
"""After a pause no more contexts than these are sent, until they have been answered in time."""


class Stream(Protocol):
    """To a draft server; see `stream.DraftStream`."""

    failures: int

    @property
    def is_open(self) -> bool: ...
    def send(self, frame: VerifierFrame) -> None: ...
    def take(self, until: float) -> list[tuple[float, DrafterFrame]]: ...
    def renew(self) -> None: ...
    def refuse(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A step that was sent: when, about how many of how many rows in the batch, and for drafts of which depth."""

    at: float
    sent: int
    rows: int
    depth: int
    is_catching_up: bool
    """A context had more that was new than a step brings: how long the answer took says nothing of others."""


class Drafter:
    """The sessions and the steps of one stream. To be used from one thread."""

    def __init__(
        self,
        stream: Stream,
        counters: Counters,
        depths: Depths,
        *,
        depth: int,
        vocabulary: int,
        deadline_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._stream, self._counters, self._depths, self._now = stream, counters, depths, now
        self._sessions = Sessions(depth=depth, vocabulary=vocabulary)
        self._deadline_seconds = deadline_seconds
        self._breaker = Breaker()
        self._asked: dict[int, _Asked] = {}
        """Steps that are not answered yet."""
        self._number = 0
        self._failures = stream.failures
        self._depth = depth
        self._is_draining = self._is_met = False
        self._frames_due = FRAMES_UNASKED
        self._is_prompt = False
        """Whether the last answer came within the deadline: only then a step waits for the next one."""

    @property
    def is_usable(self) -> bool:
        """Whether requests may be drafted for here."""
        return self._stream.is_open and not self._is_draining and self._breaker.may_ask(self._now())

    @property
    def is_tripped(self) -> bool:
        return self._breaker.state is not State.CLOSED

    def draft_of(self, request: str, context: Context) -> list[int]:
        """See `Sessions.draft_of`."""
        return self._sessions.draft_of(request, context)

    def forget(self, requests: Iterable[str]) -> None:
        """Requests that are over, or that another pod drafts for now."""
        closing = self._sessions.forget(requests)
        if closing and self._stream.is_open:
            self._send(closing)
        if not len(self._sessions):
            self._asked.clear()  # a step whose rows are closed before it is answered gets no answer

    def ask(self, contexts: Mapping[str, Context], *, rows: int, depth: int, ahead: int, until: float) -> bool:
        """Ask for drafts of this depth, and beyond; whether it is of use to wait for them until `until`."""
        now = self._now()
        if self._asked and now - next(iter(self._asked.values())).at > SILENCE_SECONDS:
            self._asked.clear()
            self._breaker.trip(now)
        if not self._breaker.may_ask(now) or len(self._asked) >= MOST_UNANSWERED:
            return False
        if self._breaker.state is State.HALF_OPEN:
            if self._asked:
                return False
            contexts = dict(list(contexts.items())[:PROBED_ROWS])
        asked = self._sessions.rows(contexts, depth=depth)
        if not asked:
            return False
        waits = self._is_prompt and self._breaker.state is State.CLOSED and now < until
        self._send(asked, budget_seconds=until - now if waits else 0.0, ahead=ahead)
        self._asked[self._number] = _Asked(now, len(asked), rows, depth, self._is_catching_up(asked))
        return waits

    def wait(self, until: float, lacking: Mapping[str, Context]) -> dict[str, list[int]]:
        """Until every row that lacks a draft has one, or the answer to the last step has come, or the time is over.

        What there is then, of these rows.
        """
        self.take(0.0)  # what has come while another pod was waited for
        found = self._found(lacking)
        while self._number in self._asked and self._stream.is_open and len(found) < len(lacking):
            if self._now() >= until:
                self._is_prompt = False
                self._counters.add(Counted.DEADLINES_MISSED)
                self._breaker.saw_wait(self._now(), was_answered=False)
                return found
            self.take(until)
            found = self._found(lacking)
        if self._stream.is_open:
            self._breaker.saw_wait(self._now(), was_answered=True)
        return found

    def _found(self, contexts: Mapping[str, Context]) -> dict[str, list[int]]:
        drafts = ((request, self.draft_of(request, context)) for request, context in contexts.items())
        return {request: draft for request, draft in drafts if draft}

    def take(self, until: float) -> None:
        """Take in what has come, waiting until `until` where that is nothing."""
        if self._stream.failures != self._failures:
            self._counters.add(Counted.CALLS_FAILED, self._stream.failures - self._failures)
            self._failures, self._is_prompt = self._stream.failures, False
            self._asked.clear()
            self._frames_due = FRAMES_UNASKED
            self._is_met = False
            if not self._is_draining:  # one that said goodbye is not asked anyway, and is expected to be gone
                self._breaker.trip(self._now())
        for at, frame in self._stream.take(until):
            self._frames_due -= 1
            if self._frames_due < 0:
                self._stream.refuse("it sends more than it is asked for")
                return
            match frame.WhichOneof("frame"):
                case "welcome":
                    self._sessions.reset(limit=frame.welcome.max_sessions)
                    self._asked.clear()
                    self._is_draining = False
                    if not self._is_met:
                        self._depths.met_another()
                    self._is_met = True
                case "result":
                    self._answered(frame.result, at)
                case "notice":
                    self._sessions.forgotten(frame.notice.evicted)
                    if frame.notice.draining:
                        self._is_draining = True
                        self._stream.renew()

    def _is_catching_up(self, rows: list[Row]) -> bool:
        most = 2 * (self._depth + 1) * TOKEN_BYTES
        return any(len(row.delta) > most for row in rows)

    def _send(self, rows: list[Row], *, budget_seconds: float = 0.0, ahead: int = 0) -> None:
        self._number += 1
        self._frames_due = min(self._frames_due + 2 + len(rows), MOST_FRAMES_DUE)
        step = Step(number=self._number, budget_us=int(budget_seconds * 1e6), rows=rows, ahead=ahead)
        self._stream.send(VerifierFrame(step=step))

    def _answered(self, result: Result, at: float) -> None:
        taken = self._sessions.take(result)
        if taken.invalid:
            self._counters.add(Counted.ROWS_INVALID, taken.invalid)
            self._breaker.trip(at)
        self._counters.add(Counted.RESYNCS, taken.resync)
        asked = self._asked.get(result.step)
        for number in [number for number in self._asked if number <= result.step]:
            del self._asked[number]  # those before it were superseded
        if asked is None:
            return
        self._counters.add(Counted.CALLS_ANSWERED)
        seconds = at - asked.at
        self._counters.add(Counted.ROUND_TRIP_SECONDS, seconds)
        # After a late answer, only one well within the deadline shows that waiting is worth it again.
        share = 1.0 if self._is_prompt else 0.5
        self._is_prompt = seconds <= share * self._deadline_seconds
        if seconds <= self._deadline_seconds or not asked.is_catching_up:
            self._breaker.saw_answer(at, was_in_time=seconds <= self._deadline_seconds)
        self._depths.saw_answer(asked.rows, coverage=min(taken.used / asked.sent, 1.0))
        if taken.used and not asked.is_catching_up:
            self._depths.saw_draft(asked.rows, asked.depth, seconds=seconds, compute_seconds=result.compute_us / 1e6)
