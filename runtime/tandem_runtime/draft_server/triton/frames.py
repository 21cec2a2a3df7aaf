"""What a draft server and the model that Triton serves say to each other. Pure.

A request has rows, [What, session, known, added, depth] each, and the tokens that all of them add, one after the
other. Its id is a number of its own; an answer has as many counts as the request has rows that draft, and the tokens.
Numbers of sessions and of requests are drawn at random by whoever begins to ask, so that several may ask one Triton.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

MODEL = "draft"
ROWS, TOKENS, COUNTS = "ROWS", "TOKENS", "COUNTS"


class What(IntEnum):
    """What a row is for."""

    DRAFT = 0
    FORGET = 1
    """The session is over."""
    STOP = 2
    """`session` is the number of a request, whose work is to end after the token that is computed now."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a request. `known`: tokens of the context that were sent before; `added`: those that come with it."""

    what: What
    session: int
    known: int = 0
    added: Sequence[int] = ()
    depth: int = 0


def encoded(lines: Sequence[Line]) -> tuple[list[list[int]], array[int]]:
    """Rows and tokens of a request."""
    rows = [[line.what, line.session, line.known, len(line.added), line.depth] for line in lines]
    return rows, joined(line.added for line in lines)


def decoded(rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[Line]:
    """The inverse of `encoded`. Raises ValueError for what is no request."""
    counts = [row[3] for row in rows]
    if min(counts, default=0) < 0 or sum(counts) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens came, and {counts} were announced")
    return [
        Line(What(what), session, known, added, depth)
        for (what, session, known, _, depth), added in zip(rows, parted(counts, tokens), strict=True)
    ]


def joined(parts: Iterable[Sequence[int]]) -> array[int]:
    """All tokens, one after the other, as 32 bits each."""
    found = array("i")
    for part in parts:
        found.extend(part)
    return found


def parted(counts: Sequence[int], tokens: Sequence[int]) -> list[list[int]]:
    """The inverse of `joined`."""
    ends = list(itertools.accumulate(counts))
    return [list(tokens[end - count : end]) for count, end in zip(counts, ends, strict=True)]
