"""The loop of an engine that runs the model itself: contexts of different lengths side by side, each with a cache.

A cache holds what the model has computed for the tokens that it was given, drafts among them. When a context comes
back, the cache is cut to where both part: accepted drafts are not computed twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tandem_runtime.draft_server.engines import Ask, Key
from tandem_runtime.drafting.prefix import shared

Cache = TypeVar("Cache")


@dataclass(slots=True)
class Kept(Generic[Cache]):
    """A context's cache, the tokens that it holds, and what comes after all of them by the model."""

    cache: Cache
    tokens: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    """One token, or none."""

    def cut(self, length: int) -> None:
        """Forget what comes after so many tokens."""
        if length < len(self.tokens):
            del self.tokens[length:]
            self.after = []


@dataclass(slots=True)
class Row(Generic[Cache]):
    """One context in a pass: what comes after those tokens that are kept, at least one; and what was drafted."""

    kept: Kept[Cache]
    fresh: list[int]
    depth: int
    draft: list[int] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to compute."""
        return not self.fresh

    def computed(self, token: int) -> None:
        """The fresh tokens are in the cache now, and `token` comes after them."""
        self.kept.tokens += self.fresh
        self.kept.after = [token]
        if len(self.draft) < self.depth:
            self.draft.append(token)
        self.fresh = [token] if len(self.draft) < self.depth else []


class RaggedEngine(ABC, Generic[Cache]):
    """Drafts by one pass for each token, with all contexts that still want one."""

    goes_on = True

    def __init__(self, *, caches: int) -> None:
        """`caches`: how many are kept; a context whose cache had to go is computed anew."""
        self._caches = caches
        self._kept: OrderedDict[Key, Kept[Cache]] = OrderedDict()

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """See `DraftEngine`."""
        drafts: list[list[int]] = []
        for begin in range(0, len(asks), self._caches):
            rows = [self._row(ask) for ask in asks[begin : begin + self._caches]]
            self._run([row for row in rows if not row.is_done], is_due)
            drafts += [row.draft for row in rows]
        return drafts

    def forget(self, keys: Iterable[Key]) -> None:
        """See `DraftEngine`."""
        for key in keys:
            kept = self._kept.pop(key, None)
            if kept is not None:
                self._free(kept.cache)

    def _run(self, rows: Sequence[Row[Cache]], is_due: Callable[[], bool]) -> None:
        """Draft for rows until all are done, or until it is due, which is asked after each token."""
        while rows:
            for row, token in zip(rows, self._pass(rows), strict=True):
                row.computed(token)
            rows = [row for row in rows if not row.is_done]
            if is_due():
                break

    @abstractmethod
    def _pass(self, rows: Sequence[Row[Cache]]) -> list[int]:
        """Compute the fresh tokens of each row into its cache; the most likely token after each row."""

    @abstractmethod
    def _new_cache(self) -> Cache: ...

    def _free(self, cache: Cache) -> None:
        """The cache is of no more use."""

    def _row(self, ask: Ask) -> Row[Cache]:
        """What the cache lacks, and what of the draft it has already: a context may turn out as it was drafted."""
        kept = self._kept.get(ask.key)
        if kept is None:
            if len(self._kept) >= self._caches:
                _, oldest = self._kept.popitem(last=False)
                self._free(oldest.cache)
            kept = self._kept[ask.key] = Kept(self._new_cache())
        self._kept.move_to_end(ask.key)
        context = ask.tokens.tolist()
        same = shared(kept.tokens, context)
        if same < len(context) or not kept.after:
            same = min(same, len(context) - 1)
            kept.cut(same)
            return Row(kept, context[same:], ask.depth)
        draft = (kept.tokens[same:] + kept.after)[: ask.depth]
        return Row(kept, [draft[-1]] if len(draft) < ask.depth else [], ask.depth, draft)
