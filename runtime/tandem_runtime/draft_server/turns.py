"""Brings the asks of all streams together: whoever finds the engine free drafts for everybody who waits.

So one verifier alone is answered by the thread that heard it, without a hand-over, and several share each forward pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tandem_runtime.draft_server.engines import Ask, DraftEngine, Key
from tandem_runtime.draft_server.figures import Figures

FOREVER = float("inf")


@dataclass(slots=True)
class _Turn:
    asks: Sequence[Ask]
    is_due: Callable[[], bool]
    is_ahead: bool = False
    """Nobody has asked for it yet."""
    drafts: list[list[int]] = field(default_factory=list)
    failure: Exception | None = None
    begun: float = 0.0
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Drafted:
    """Drafts in the order of the asks, and when the work on them began, by the monotonic clock."""

    drafts: list[list[int]]
    begun: float


class Turns:
    """The queue before one engine."""

    def __init__(self, engine: DraftEngine, figures: Figures | None = None) -> None:
        self._engine, self._figures = engine, figures or Figures()
        self._waiting: list[_Turn] = []
        self._over: list[Key] = []
        """Contexts that the engine is to forget before its next pass."""
        self._guard = threading.Lock()
        self._engine_lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait for a pass that has not begun."""
        return len(self._waiting)

    def draft(self, asks: Sequence[Ask], *, due: float = FOREVER) -> Drafted:
        """Draft for these, with those of others if there are any. `due`: when to stop, by the monotonic clock.

        Raises what the engine raised.
        """
        return self._draft(_Turn(asks, lambda: time.monotonic() >= due))

    def draft_ahead(self, asks: Sequence[Ask], *, is_over: Callable[[], bool]) -> Drafted:
        """As `draft`, until `is_over`, or until somebody waits for the engine."""
        return self._draft(_Turn(asks, lambda: bool(self._waiting) or is_over(), is_ahead=True))

    def forget(self, keys: Sequence[Key]) -> None:
        """These contexts will not be asked for again; now, or once the engine is free."""
        with self._guard:
            self._over += keys
        if self._engine_lock.acquire(blocking=False):
            try:
                self._forget()
            finally:
                self._engine_lock.release()

    def _draft(self, turn: _Turn) -> Drafted:
        with self._guard:
            self._waiting.append(turn)
        with self._engine_lock:
            if not turn.is_done:
                with self._guard:
                    turns, self._waiting = self._waiting, []
                self._run(turns)
        if turn.failure is not None:
            raise turn.failure
        return Drafted(turn.drafts, turn.begun)

    def _forget(self) -> None:
        """Holding the engine: nobody else may be in it meanwhile."""
        with self._guard:
            over, self._over = self._over, []
        if over:
            self._engine.forget(over)

    def _run(self, turns: Sequence[_Turn]) -> None:
        begun = time.monotonic()
        asks = [ask for turn in turns for ask in turn.asks]
        try:
            self._forget()
            drafts = self._engine.draft(asks, is_due=lambda: any(turn.is_due() for turn in turns))
        except Exception as failure:  # noqa: BLE001 -- each stream that waited for it has to hear of it
            for turn in turns:
                turn.failure, turn.is_done = failure, True
            return
        if not all(turn.is_ahead for turn in turns):
            self._figures.worked(time.monotonic() - begun)
        at = 0
        for turn in turns:
            turn.drafts = drafts[at : at + len(turn.asks)]
            turn.begun, turn.is_done = begun, True
            at += len(turn.asks)
