"""A draft engine that needs no model: what it drafts follows from the whole context, so that every mix-up shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tandem_runtime.draft_server.engines import Ask, Key

VOCABULARY = 97


def after(context: Sequence[int], depth: int) -> list[int]:
    """The tokens that the engine drafts."""
    tokens = list(context)
    for _ in range(depth):
        tokens.append((7 * sum(tokens) + len(tokens)) % VOCABULARY)
    return tokens[len(context) :]


@dataclass
class ArithmeticEngine:
    """A `DraftEngine`; `may_go` holds a pass back, `fails` lets the next one raise."""

    name: str = "arithmetic"
    goes_on: bool = True
    tokenizer_hash: str = "sha256:a"
    vocabulary: int = VOCABULARY
    context_limit: int = 64
    fails: bool = False
    may_go: threading.Event = field(default_factory=threading.Event)
    passes: list[int] = field(default_factory=list)
    """Asks of each call."""
    forgotten: set[Key] = field(default_factory=set)
    drafted_for: set[Key] = field(default_factory=set)

    @property
    def sessions(self) -> set[Key]:
        """Contexts that were drafted for, and that are not forgotten."""
        return self.drafted_for - self.forgotten

    def __post_init__(self) -> None:
        self.may_go.set()

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        self.passes.append(len(asks))
        self.drafted_for |= {ask.key for ask in asks if ask.depth}
        assert self.may_go.wait(30)
        if self.fails:
            self.fails = False
            raise RuntimeError("out of memory")
        drafts: list[list[int]] = [[] for _ in asks]
        for number in range(max(ask.depth for ask in asks)):
            for ask, draft in zip(asks, drafts, strict=True):
                if number < ask.depth:
                    draft.append(after([*ask.tokens, *draft], 1)[0])
            if is_due():
                break
        return drafts

    def forget(self, keys: Iterable[Key]) -> None:
        self.forgotten |= set(keys)
