"""What a draft engine must do. Everything else about a draft server is the same for all of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

WARM_UP_TOKENS = 4
WARM_UP_ROWS = (1, 2, 4, 8)
Key = tuple[int, int]
"""Stream and session: two verifiers may draw the same number."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One context, and how many tokens are wanted after it; 0: only to have it at hand."""

    key: Key
    tokens: array[int]
    """Grows while the session lives; never changes what it had."""
    depth: int


class DraftEngine(Protocol):
    """Drafts greedily. Called from one thread at a time."""

    name: str
    tokenizer_hash: str
    """Empty: not known."""
    vocabulary: int
    context_limit: int
    """Tokens, drafts included."""
    goes_on: bool
    """Whether a longer draft for the same context costs only the tokens that it is longer by."""

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """For each ask up to `depth` tokens; fewer once `is_due`, which is asked between tokens.

        May raise: then the asks of this call get nothing, and their sessions are dropped.
        """
        ...

    def forget(self, keys: Iterable[Key]) -> None:
        """These contexts will not be asked for again."""
        ...


def warm_up(engine: DraftEngine) -> None:
    """Draft for small batches, so that what is compiled or loaded at a first pass is there before a first verifier."""
    for rows in WARM_UP_ROWS:
        keys = [(-1, number) for number in range(rows)]
        engine.draft([Ask(key, array("i", [0]), WARM_UP_TOKENS) for key in keys], is_due=lambda: False)
        engine.forget(keys)
