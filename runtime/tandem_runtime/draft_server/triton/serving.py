"""What Triton's Python backend runs: takes requests in, drafts in a thread of its own, answers when it is done.

Requests come while a draft is being made; that is how one can be stopped. Must not import Triton's module, which
exists only inside its backend: what it needs of it comes as functions.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.draft_server.triton.contexts import Contexts, key_of
from tandem_runtime.draft_server.triton.frames import Line, What, decoded

STOP_LIMIT_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """How to answer one request: by drafts, or by why there are none. One of the two is called, once."""

    drafts: Callable[[Sequence[Sequence[int]]], None]
    failure: Callable[[str], None]


@dataclass(frozen=True)
class _Work:
    number: int
    lines: Sequence[Line]
    reply: Reply


class Serving:
    """One engine, and the contexts of all who ask."""

    def __init__(self, engine: DraftEngine) -> None:
        self._engine, self._contexts = engine, Contexts()
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._stopped: set[int] = set()
        self._worker = threading.Thread(target=self._run, name="drafting", daemon=True)
        self._worker.start()

    def take(self, number: int, rows: Sequence[Sequence[int]], tokens: Sequence[int], *, reply: Reply) -> None:
        """Take a request in; returns at once."""
        try:
            lines = decoded(rows, tokens)
        except ValueError as error:
            reply.failure(str(error))
            return
        self._stopped.update(line.session for line in lines if line.what is What.STOP)
        self._waiting.put(_Work(number, lines, reply))

    def close(self) -> None:
        """Answer what has come, end."""
        self._waiting.put(None)
        self._worker.join(STOP_LIMIT_SECONDS)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                drafts = self._draft(work)
            except Exception as error:
                logger.exception("drafting failed")
                self._forget([line.session for line in work.lines])
                work.reply.failure(f"{type(error).__name__}: {error}")
            else:
                work.reply.drafts(drafts)

    def _draft(self, work: _Work) -> list[list[int]]:
        self._stopped.difference_update(line.session for line in work.lines if line.what is What.STOP)
        self._forget([line.session for line in work.lines if line.what is What.FORGET])
        asks = self._contexts.asks(work.lines)
        self._forget(self._contexts.evict())
        return self._engine.draft(asks, is_due=lambda: work.number in self._stopped) if asks else []

    def _forget(self, sessions: Sequence[int]) -> None:
        self._contexts.forget(sessions)
        self._engine.forget(map(key_of, sessions))
