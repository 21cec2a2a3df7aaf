"""Decides, once a step, whether to ask for drafts, whether to wait for them, and what each row gets.

Plain Python: the engine's rows come in, lists of token ids go out. A step waits at most the deadline, and only while
the draft server has proved to answer within it; everything else happens beside the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.protocol.draft_pb2 import DrafterFrame, Result, Step, VerifierFrame
from tandem_runtime.drafting.sessions import Context, Sessions

KEPT_CALLS = 64


class Stream(Protocol):
    """To a draft server; see `stream.DraftStream`."""

    failures: int

    @property
    def is_open(self) -> bool: ...
    def send(self, frame: VerifierFrame) -> None: ...
    def take(self, until: float) -> list[DrafterFrame]: ...


class RemoteDrafts:
    """The drafts of one verifier engine, from one draft server. To be used from one thread."""

    def __init__(
        self,
        stream: Stream,
        counters: Counters,
        *,
        depth: int,
        vocabulary: int,
        deadline_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._counters, self._now = stream, counters, now
        self._sessions = Sessions(depth=depth, vocabulary=vocabulary)
        self._depth, self._deadline_seconds = depth, deadline_seconds
        self._asked: dict[int, float] = {}
        """When each step was asked that is not answered yet."""
        self._number = 0
        self._rows: set[str] = set()
        self._failures = 0
        self._is_prompt = self._is_draining = False

    def propose(self, rows: Mapping[str, Context]) -> dict[str, list[int]]:
        """A draft for each request that decodes next, [] where there is none (yet)."""
        started = self._now()
        # A row's first step is also the step that its first token waits for: nothing may be added to it.
        may_wait = self._is_prompt and rows.keys() <= self._rows
        closing = self._sessions.forget(self._rows - rows.keys())
        self._rows = set(rows)
        self._take(started)
        lacking = {request: context for request, context in rows.items() if not self._draft_of(request, context)}
        if self._stream.is_open and (lacking or closing):
            budget_seconds = self._deadline_seconds if may_wait else 0.0
            asked = self._sessions.rows(lacking, depth=self._depth)
            self._send(Step(budget_us=int(budget_seconds * 1e6), rows=[*closing, *asked]), is_question=bool(asked))
            if may_wait and asked:
                self._wait(started + self._deadline_seconds, lacking)
        self._counters.add(Counted.WAIT_SECONDS, self._now() - started)
        drafts = {request: self._draft_of(request, context) for request, context in rows.items()}
        drafted = sum(bool(tokens) for tokens in drafts.values())
        self._counters.add(Counted.ROWS_DRAFTED, drafted)
        self._counters.add(Counted.ROWS_EMPTY, len(drafts) - drafted)
        return drafts

    def _draft_of(self, request: str, context: Context) -> list[int]:
        return self._sessions.draft_of(request, context)

    def _send(self, step: Step, *, is_question: bool) -> None:
        self._number += 1
        step.number = self._number
        if is_question:
            self._asked[step.number] = self._now()
            while len(self._asked) > KEPT_CALLS:
                del self._asked[next(iter(self._asked))]
        self._stream.send(VerifierFrame(step=step))

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
        for frame in self._stream.take(until):
            match frame.WhichOneof("frame"):
                case "welcome":
                    self._sessions.reset()
                    self._asked.clear()
                case "result":
                    self._answered(frame.result)
                case "notice":
                    self._sessions.forgotten(frame.notice.evicted)

    def _answered(self, result: Result) -> None:
        taken = self._sessions.take(result)
        self._counters.add(Counted.ROWS_INVALID, taken.invalid)
        asked = self._asked.pop(result.step, None)
        if asked is None:
            return
        self._counters.add(Counted.CALLS_ANSWERED)
        # After a late answer, only one well within the deadline shows that waiting is worth it again.
        share = 1.0 if self._is_prompt else 0.5
        self._is_prompt = self._now() - asked <= share * self._deadline_seconds
