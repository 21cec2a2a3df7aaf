"""Decides, once a step, whether to ask for drafts, whether to wait for them, and what each row gets.

Plain Python: the engine's rows come in, lists of token ids go out. A step waits at most the deadline, and only while
the draft server has proved to answer within it; everything else happens beside the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.prefix import shared
from tandem_runtime.drafting.protocol.draft_pb2 import DrafterFrame, Result, Row, Step, VerifierFrame
from tandem_runtime.drafting.sessions import Context, Sessions

MOST_UNANSWERED = 32
"""Steps that may wait for their answers; past it nothing is asked until one comes, or the stream ends."""
FRAMES_UNASKED = 64
"""That a draft server may send; beyond it, one for each row that it was asked about, and two for each step."""
MOST_FRAMES_DUE = 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """A step that was sent: when, with how many rows in the batch, and for drafts of which depth."""

    at: float
    rows: int
    depth: int


@dataclass(frozen=True, slots=True)
class _Given:
    """A draft that the engine has got, and the length of the context that it continues."""

    base_length: int
    tokens: list[int]


class Stream(Protocol):
    """To a draft server; see `stream.DraftStream`."""

    failures: int

    @property
    def is_open(self) -> bool: ...
    def send(self, frame: VerifierFrame) -> None: ...
    def take(self, until: float) -> list[tuple[float, DrafterFrame]]: ...
    def renew(self) -> None: ...
    def refuse(self, reason: str) -> None: ...


class RemoteDrafts:
    """The drafts of one verifier engine, from one draft server. To be used from one thread."""

    def __init__(
        self,
        stream: Stream,
        counters: Counters,
        *,
        depth: int,
        depths: Depths | None = None,
        vocabulary: int,
        deadline_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._counters, self._now = stream, counters, now
        self._sessions = Sessions(depth=depth, vocabulary=vocabulary)
        self._depths, self._deadline_seconds = depths or Depths(depth), deadline_seconds
        self._asked: dict[int, _Asked] = {}
        """Steps that are not answered yet."""
        self._number = 0
        self._rows: set[str] = set()
        self._given: dict[str, _Given] = {}
        self._ended = 0.0
        """When the engine went on with the last step."""
        self._failures = 0
        self._is_prompt = False
        self._frames_due = FRAMES_UNASKED

    def propose(self, rows: Mapping[str, Context]) -> dict[str, list[int]]:
        """A draft for each request that decodes next, [] where there is none (yet)."""
        started = self._now()
        self._learn(rows, started)
        # A row's first step is also the step that its first token waits for: nothing may be added to it.
        is_known = rows.keys() <= self._rows
        closing = self._sessions.forget(self._rows - rows.keys())
        self._rows = set(rows)
        self._take(started)
        depth = self._depths.choose(len(rows)) if rows and self._stream.is_open else 0
        self._counters.set(Counted.DEPTH, depth)
        if rows:
            self._counters.set(Counted.SPEEDUP, self._depths.speedup(len(rows)) or 0.0)
        if depth or closing:
            self._ask(rows, closing, depth, until=started + self._deadline_seconds if is_known else started)
        drafts = {request: self._draft_of(request, context)[:depth] for request, context in rows.items()}
        self._given = {
            request: _Given(len(context), drafts[request]) for request, context in rows.items() if drafts[request]
        }
        drafted = len(self._given)
        self._counters.add(Counted.ROWS_DRAFTED, drafted)
        self._counters.add(Counted.ROWS_EMPTY, len(drafts) - drafted)
        self._ended = self._now()
        self._counters.add(Counted.WAIT_SECONDS, self._ended - started)
        return drafts

    def _learn(self, rows: Mapping[str, Context], now: float) -> None:
        """What the engine made of the last step; its time only if nothing else was in it."""
        for request, given in self._given.items():
            context = rows.get(request)
            if context is not None and len(context) > given.base_length:
                committed = context[given.base_length :].tolist()
                accepted = shared(given.tokens, committed[:-1])
                self._depths.saw_accepted(len(given.tokens), accepted)
                self._counters.add(Counted.TOKENS_DRAFTED, len(given.tokens))
                self._counters.add(Counted.TOKENS_ACCEPTED, accepted)
        if rows and rows.keys() == self._rows:
            depth = max((len(given.tokens) for given in self._given.values()), default=0)
            self._depths.saw_step(len(rows), depth, now - self._ended)

    def _ask(self, rows: Mapping[str, Context], closing: Sequence[Row], depth: int, *, until: float) -> None:
        """Ask for what is lacking, and wait for it until `until` where that is worth it."""
        lacking = {request: context for request, context in rows.items() if not self._draft_of(request, context)}
        if len(self._asked) >= MOST_UNANSWERED:
            return
        asked = self._sessions.rows(lacking, depth=depth) if depth else []
        if not asked and not closing:
            return
        now = self._now()
        waits = bool(asked) and self._is_prompt and now < until and self._is_worth_it(rows, lacking, depth)
        self._number += 1
        self._frames_due = min(self._frames_due + 2 + len(asked), MOST_FRAMES_DUE)
        if asked:
            self._asked[self._number] = _Asked(now, len(rows), depth)
        budget_us = int((until - now) * 1e6) if waits else 0
        self._stream.send(VerifierFrame(step=Step(number=self._number, budget_us=budget_us, rows=[*closing, *asked])))
        if waits:
            self._wait(until, lacking)

    def _is_worth_it(self, rows: Mapping[str, Context], lacking: Mapping[str, Context], depth: int) -> bool:
        """Whether the tokens that the missing drafts bring are more than the batch would make while it waits.

        Missing rows × A(k) × V > D × tokens that leave the step at once: specdec's myopic rule for a batch, of which
        one row's wait holds up all.
        """
        count, missing, tokens = len(rows), len(lacking), self._depths.tokens(depth)
        at_once = missing + (count - missing) * tokens
        gained = missing * (tokens - 1) * self._depths.step_seconds(count)
        return gained == 0 or gained > self._depths.draft_seconds(count, depth) * at_once

    def _draft_of(self, request: str, context: Context) -> list[int]:
        return self._sessions.draft_of(request, context)

    def _wait(self, until: float, lacking: Mapping[str, Context]) -> None:
        """Until every row that lacks a draft has one, or the answer to this step has come, or the time is over."""
        while self._number in self._asked and self._stream.is_open:
            if self._now() >= until:
                self._is_prompt = False
                self._counters.add(Counted.DEADLINES_MISSED)
                return
            self._take(until)
            if all(self._draft_of(request, context) for request, context in lacking.items()):
                return

    def _take(self, until: float) -> None:
        """Take in what has come, waiting until `until` where that is nothing."""
        if self._stream.failures != self._failures:
            self._counters.add(Counted.CALLS_FAILED, self._stream.failures - self._failures)
            self._failures, self._is_prompt = self._stream.failures, False
            self._frames_due = FRAMES_UNASKED
        for at, frame in self._stream.take(until):
            self._frames_due -= 1
            if self._frames_due < 0:
                self._stream.refuse("it sends more than it is asked for")
                return
            match frame.WhichOneof("frame"):
                case "welcome":
                    self._sessions.reset()
                    self._asked.clear()
                case "result":
                    self._answered(frame.result, at)
                case "notice":
                    self._sessions.forgotten(frame.notice.evicted)
                    if frame.notice.draining:
                        self._stream.renew()

    def _answered(self, result: Result, at: float) -> None:
        taken = self._sessions.take(result)
        self._counters.add(Counted.ROWS_INVALID, taken.invalid)
        asked = self._asked.get(result.step)
        for number in [number for number in self._asked if number <= result.step]:
            del self._asked[number]  # those before it were superseded
        if asked is None:
            return
        self._counters.add(Counted.CALLS_ANSWERED)
        seconds = at - asked.at
        # After a late answer, only one well within the deadline shows that waiting is worth it again.
        share = 1.0 if self._is_prompt else 0.5
        self._is_prompt = seconds <= share * self._deadline_seconds
        if taken.used:
            self._depths.saw_draft(asked.rows, asked.depth, seconds=seconds, compute_seconds=result.compute_us / 1e6)
