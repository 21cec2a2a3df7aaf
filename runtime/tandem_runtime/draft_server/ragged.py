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
    """A context's cache, and the tokens that it holds."""

    cache: Cache
    tokens: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Row(Generic[Cache]):
    """What one context brings to a pass: at least one token, after those that are kept."""

    kept: Kept[Cache]
    fresh: list[int]


class RaggedEngine(ABC, Generic[Cache]):
    """Drafts by one pass for each token, with all contexts that still want one."""

    def __init__(self, *, caches: int) -> None:
        """`caches`: how many are kept; a context whose cache had to go is computed anew."""
        self._caches = caches
        self._kept: OrderedDict[Key, Kept[Cache]] = OrderedDict()

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """See `DraftEngine`."""
        drafts: list[list[int]] = []
        for begin in range(0, len(asks), self._caches):
            drafts += self._draft(asks[begin : begin + self._caches], is_due)
        return drafts

    def _draft(self, asks: Sequence[Ask], is_due: Callable[[], bool]) -> list[list[int]]:
        rows = [self._row(ask) for ask in asks]
        drafts: list[list[int]] = [[] for _ in asks]
        going = list(range(len(asks)))
        while going:
            after = self._pass([rows[at] for at in going])
            for at, token in zip(going, after, strict=True):
                rows[at].kept.tokens += rows[at].fresh
                if asks[at].depth:
                    drafts[at].append(token)
                    rows[at].fresh = [token]
            going = [at for at in going if len(drafts[at]) < asks[at].depth]
            if is_due():
                break
        return drafts

    def forget(self, keys: Iterable[Key]) -> None:
        """See `DraftEngine`."""
        for key in keys:
            kept = self._kept.pop(key, None)
            if kept is not None:
                self._free(kept.cache)

    @abstractmethod
    def _pass(self, rows: Sequence[Row[Cache]]) -> list[int]:
        """Compute the fresh tokens of each row into its cache; the most likely token after each row."""

    @abstractmethod
    def _new_cache(self) -> Cache: ...

    def _free(self, cache: Cache) -> None:
        """The cache is of no more use."""

    def _row(self, ask: Ask) -> Row[Cache]:
        """What the cache lacks; at least the last token, whose successor is asked for."""
        kept = self._kept.get(ask.key)
        if kept is None:
            if len(self._kept) >= self._caches:
                _, oldest = self._kept.popitem(last=False)
                self._free(oldest.cache)
            kept = self._kept[ask.key] = Kept(self._new_cache())
        self._kept.move_to_end(ask.key)
        context = ask.tokens.tolist()
        same = shared(kept.tokens, context[:-1])
        del kept.tokens[same:]
        return Row(kept, context[same:])
