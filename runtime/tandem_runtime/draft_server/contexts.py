"""The contexts that verifiers have sent: what a row adds to them, and which go when there are too many. Pure."""

from __future__ import annotations

import zlib
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from tandem_runtime.drafting.protocol import TOKEN_BYTES, length_of
from tandem_runtime.drafting.protocol.draft_pb2 import Row


class Taken(Enum):
    """What came of a row."""

    KEPT = "kept"
    LOST = "lost"
    """It builds on what is not here: the verifier has to send everything."""
    UNFIT = "unfit"
    """Too long, or with ids that the model does not know."""


@dataclass(slots=True)
class Context:
    """All that is known to be committed of one request."""

    generation: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    checksum: int = 0


class Contexts:
    """Contexts of one stream by session; the one that was used least recently goes first."""

    def __init__(self, *, limit: int, longest: int, vocabulary: int) -> None:
        """`limit`: of sessions; `longest`: tokens that one may hold; `vocabulary`: ids are below it."""
        self._limit, self._longest, self._vocabulary = limit, longest, vocabulary
        self._of: OrderedDict[int, Context] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def get(self, session: int) -> Context | None:
        return self._of.get(session)

    def take(self, row: Row) -> Taken:
        """Add what a row brings. Idempotent: what is known already may come again, if it is the same."""
        there = self._of.get(row.session)
        if row.base_length == 0 and (there is None or row.generation > there.generation):
            there = self._of[row.session] = Context(row.generation)
        if there is None or there.generation != row.generation:
            return Taken.LOST
        self._of.move_to_end(row.session)
        length = length_of(row)
        if length > self._longest:
            del self._of[row.session]
            return Taken.UNFIT
        known = len(there.tokens)
        if not _extend(there, row, length):
            del self._of[row.session]
            return Taken.LOST
        fresh = there.tokens[known:]
        if fresh and not 0 <= min(fresh) <= max(fresh) < self._vocabulary:  # an engine would read out of bounds
            del self._of[row.session]
            return Taken.UNFIT
        return Taken.KEPT

    def close(self, session: int) -> bool:
        """Forget a session; whether it was there."""
        return self._of.pop(session, None) is not None

    def evict(self) -> list[int]:
        """Forget what is too much."""
        gone = []
        while len(self._of) > self._limit:
            gone.append(self._of.popitem(last=False)[0])
        return gone

    def sessions(self) -> list[int]:
        return list(self._of)


def _extend(there: Context, row: Row, length: int) -> bool:
    """False when the row does not fit what is there."""
    known = len(there.tokens)
    if row.base_length > known or len(row.delta) % TOKEN_BYTES:
        return False
    if length < known:
        return True  # an old row, of which everything is known
    fresh = row.delta[(known - row.base_length) * TOKEN_BYTES :]
    checksum = zlib.crc32(fresh, there.checksum)
    if checksum != row.checksum:
        return False
    there.tokens.frombytes(fresh)
    there.checksum = checksum
    return True
