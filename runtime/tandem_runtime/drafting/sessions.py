"""What a draft server knows of each request, and what it has answered: from the verifier's side. Pure.

A session is one request's context at one draft server. The verifier sends what the server does not have yet, and opens
a session anew where the server has lost it. Answers may be late, repeated or out of order: what of them is still of
use follows from the tokens alone (`prefix.left_of`).
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, overload

from tandem_runtime.drafting.prefix import accepted_by_engine, left_of
from tandem_runtime.drafting.protocol import TOKEN_BYTES
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, Result, Row

OPENING_BYTES = 256 * 1024
"""Most that sessions which are opened may add to one step: a server that lost them all is not flooded."""


class Context(Protocol):
    """All committed tokens of a request, int32, little endian: a numpy array or an `array.array`."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Context: ...
    @overload
    def __getitem__(self, at: int) -> int: ...
    def tolist(self) -> list[int]: ...
    def tobytes(self) -> bytes: ...


@dataclass(slots=True)
class _Session:
    number: int
    generation: int = 1
    known: int = 0
    """Tokens that were sent."""
    checksum: int = 0
    is_unfit: bool = False
    draft: list[int] = field(default_factory=list)
    base_length: int = 0

    def open_anew(self) -> None:
        self.generation += 1
        self.known, self.checksum = 0, 0


@dataclass(slots=True)
class Taken:
    """What came of a result's drafts, counted."""

    used: int = 0
    partial: int = 0
    stale: int = 0
    """Of a session that is over, or was opened anew since."""
    invalid: int = 0
    """With more tokens than were asked for, ids that are none of the verifier's, or for a context never sent."""
    resync: int = 0
    refused: int = 0


class Sessions:
    """The sessions of one stream. To be used from one thread."""

    def __init__(
        self, *, depth: int, vocabulary: int, draw: Callable[[], int] = lambda: secrets.randbits(64) or 1
    ) -> None:
        self._depth, self._vocabulary, self._draw = depth, vocabulary, draw
        self._of: dict[str, _Session] = {}
        self._by_number: dict[int, _Session] = {}
        self._most = 0
        """Sessions that were there at once."""
        self._limit = 0
        """Sessions that the draft server keeps; 0: it does not say."""

    def __len__(self) -> int:
        return len(self._of)

    def by_number(self, number: int) -> str | None:
        """The request that a session is of."""
        return next((request for request, session in self._of.items() if session.number == number), None)

    def draft_of(self, request: str, context: Context) -> list[int]:
        """The tokens that are known to continue the context, at most `depth`; [] where there are none."""
        session = self._of.get(request)
        if session is None or not session.draft:
            return []
        return left_of(session.draft, context[session.base_length :].tolist())[: self._depth]

    def rows(self, contexts: Mapping[str, Context], *, depth: int) -> list[Row]:
        """What to send of these requests so that `depth` tokens are drafted for each; 0: only to keep up.

        A request whose session would have to be opened waits for a later step once this one is full, and for another
        one's end once the draft server is: beyond what it keeps, it would lose one context for each that it is sent.
        """
        found, room = [], OPENING_BYTES
        for request, context in contexts.items():
            session = self._of.get(request)
            if session is None:
                if 0 < self._limit <= len(self._of):
                    continue
                session = self._of[request] = _Session(self._draw())
                self._by_number[session.number] = session
            if session.is_unfit:
                continue
            if session.known == 0:
                size = len(context) * TOKEN_BYTES
                if size > room and room < OPENING_BYTES:
                    continue
                room -= size
            found.append(_row(session, context, depth))
        self._most = max(self._most, len(self._of))
        return found

    def take(self, result: Result) -> Taken:
        """Take in the answers to a step: none is trusted, and no more are looked at than can be right."""
        taken = Taken(invalid=int(len(result.drafts) > self._looked_at))
        for draft in result.drafts[: self._looked_at]:
            session = self._by_number.get(draft.session)
            if session is None or session.generation != draft.generation:
                taken.stale += 1
            elif draft.status == Draft.RESYNC:
                taken.resync += 1
                session.open_anew()
            elif draft.status in (Draft.UNFIT, Draft.OVERLOADED):
                taken.refused += 1
                session.is_unfit = draft.status == Draft.UNFIT
            else:
                self._keep(session, draft, taken)
        return taken

    def forget(self, requests: Iterable[str]) -> list[Row]:
        """Requests that are over; what to send so that the draft server forgets them too."""
        rows = []
        for request in requests:
            session = self._of.pop(request, None)
            if session is None:
                continue
            del self._by_number[session.number]
            if session.known:
                rows.append(Row(session=session.number, generation=session.generation, closes=True))
        return rows

    def forgotten(self, numbers: Sequence[int]) -> None:
        """The draft server has dropped these sessions. What is not looked at here shows when it asks for a resync."""
        for number in numbers[: self._looked_at]:
            if number in self._by_number:
                self._by_number[number].open_anew()

    def reset(self, *, limit: int = 0) -> None:
        """Another draft server, or the same one started again: it knows nothing. `limit`: sessions that it keeps."""
        self._limit = limit
        for session in self._of.values():
            session.open_anew()
            session.is_unfit = False

    @property
    def _looked_at(self) -> int:
        """Of what one frame says: of every session, and of as many that have ended since."""
        return 2 * self._most

    def _keep(self, session: _Session, draft: Draft, taken: Taken) -> None:
        if draft.base_length > session.known:
            taken.invalid += 1
            return
        whole = memoryview(draft.tokens).cast("i") if len(draft.tokens) % TOKEN_BYTES == 0 else None
        longest = 2 * self._depth + 1  # a draft, the token after it, and a draft after that
        tokens = None if whole is None else whole[: longest + 1].tolist()
        valid = accepted_by_engine(tokens, self._vocabulary, longest)
        if valid != tokens:
            taken.invalid += 1
        if draft.base_length < session.base_length:
            taken.stale += 1
            return
        session.draft, session.base_length = valid, draft.base_length
        taken.used += bool(valid)
        taken.partial += draft.status == Draft.PARTIAL


def _row(session: _Session, context: Context, depth: int) -> Row:
    """The row, after which the session counts as having sent it."""
    base = session.known
    delta = context[base:].tobytes()
    session.checksum = zlib.crc32(delta, session.checksum)
    session.known = len(context)
    return Row(
        session=session.number,
        generation=session.generation,
        base_length=base,
        delta=delta,
        checksum=session.checksum,
        depth=depth,
    )
