"""Whether a draft pod is asked at all, and whether drafts are made for a request. Pure: `now` is of any clock.

Both stop what has not paid, and try it again with little.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

WAITS = 50
"""Of the last so many waits that a pod was worth, at least half have to have ended with an answer."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
PROOFS = 2
"""Answers in time, one after the other, that a pod owes after a pause."""

DRAFTS = 64
"""Drafts of one request that are judged at once."""
LEAST_ACCEPTANCE = 0.3
"""Of the tokens that verification came to; below it a request goes on without drafts."""
PAUSE_TOKENS = 128
PROBE_DRAFTS = 8
"""After a pause so many drafts decide."""


class State(IntEnum):
    """Of a breaker."""

    CLOSED = 0
    HALF_OPEN = 1
    """A probe at a time, and nobody waits for it."""
    OPEN = 2


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.0)  # noqa: S311 -- spreads load


@dataclass(slots=True)
class Breaker:
    """Of one draft pod."""

    state: State = State.CLOSED
    spread: Callable[[float], float] = _spread
    _waits: deque[bool] = field(default_factory=lambda: deque(maxlen=WAITS))
    _pause_seconds: float = FIRST_PAUSE_SECONDS
    _until: float = 0.0
    _proofs: int = 0

    def may_ask(self, now: float) -> bool:
        """Whether the pod may be asked for something. The end of a pause is seen here."""
        if self.state is State.OPEN and now >= self._until:
            self.state, self._proofs = State.HALF_OPEN, 0
        return self.state is not State.OPEN

    def saw_wait(self, now: float, *, was_answered: bool) -> None:
        """A step waited for the pod."""
        self._waits.append(was_answered)
        if len(self._waits) == WAITS and 2 * self._waits.count(False) >= WAITS:
            self.trip(now)

    def saw_answer(self, now: float, *, was_in_time: bool) -> None:
        """An answer came; whether a step could have waited for it."""
        if self.state is not State.HALF_OPEN:
            return
        if not was_in_time:
            self.trip(now)
            return
        self._proofs += 1
        if self._proofs >= PROOFS:
            self.state, self._pause_seconds = State.CLOSED, FIRST_PAUSE_SECONDS
            self._waits.clear()

    def trip(self, now: float) -> None:
        """The pod is gone, is silent, or says what it must not: leave it alone for a while."""
        if self.state is State.OPEN:
            return
        self.state, self._until = State.OPEN, now + self.spread(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)


@dataclass(slots=True)
class Worth:
    """Whether drafts for one request are worth their verification."""

    _reached: int = 0
    _accepted: int = 0
    _drafts: int = 0
    _judged_after: int = DRAFTS
    _paused_until: int = 0

    def is_drafted_for(self, length: int) -> bool:
        """Whether to draft for the request, whose context is so long."""
        return length >= self._paused_until

    def saw(self, length: int, *, drafted: int, accepted: int) -> None:
        """Of a draft, so many tokens were accepted, after which the context is so long."""
        self._drafts += 1
        self._reached += min(drafted, accepted + 1)
        self._accepted += accepted
        if self._drafts < self._judged_after:
            return
        if self._accepted < LEAST_ACCEPTANCE * self._reached:
            self._paused_until, self._judged_after = length + PAUSE_TOKENS, PROBE_DRAFTS
        else:
            self._judged_after = DRAFTS
        self._reached = self._accepted = self._drafts = 0
