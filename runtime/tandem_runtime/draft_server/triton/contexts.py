"""The contexts that draft servers have sent to Triton: each request brings what is new. Pure."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence

from tandem_runtime.draft_server.engines import Ask, Key
from tandem_runtime.draft_server.triton.frames import Line, What

LIMIT = 4096
"""Many times what a draft server keeps: only those of one that went without a word get here."""


class UnknownContextError(LookupError):
    """A request builds on tokens that are not here; the one who asks has to begin anew."""


class Contexts:
    """Contexts by session; the one that was used least recently goes first."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._of: OrderedDict[int, array[int]] = OrderedDict()

    def asks(self, lines: Sequence[Line]) -> list[Ask]:
        """What the rows that draft ask for. Raises UnknownContextError, and then none of them has been taken in."""
        drafting = [line for line in lines if line.what is What.DRAFT]
        for line in drafting:
            there = len(self._of.get(line.session, ()))
            if line.known > there:
                raise UnknownContextError(f"a context has {there} tokens here, not {line.known}")
        return [Ask(key_of(line.session), self._extended(line), line.depth) for line in drafting]

    def forget(self, sessions: Sequence[int]) -> None:
        """Those that are over."""
        for session in sessions:
            self._of.pop(session, None)

    def evict(self) -> list[int]:
        """Forget what is too much; which it was."""
        return [self._of.popitem(last=False)[0] for _ in range(len(self._of) - self._limit)]

    def _extended(self, line: Line) -> array[int]:
        context = self._of.setdefault(line.session, array("i"))
        self._of.move_to_end(line.session)
        del context[line.known :]
        context.extend(line.added)
        return context


def key_of(session: int) -> Key:
    """By which an engine knows a context."""
    return 0, session
