"""Decides, once a step, how deep to draft, which draft pod to ask, whether to wait, and what each row gets.

Plain Python: the engine's rows come in, lists of token ids go out. A step waits at most the deadline, and only while
the draft pod has proved to answer within it; everything else happens beside the engine.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tandem_runtime.drafting.breaker import Worth
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.drafter import Drafter, Stream
from tandem_runtime.drafting.prefix import shared
from tandem_runtime.drafting.sessions import Context


class EngineHook(Protocol):
    """All that an engine's adapter calls: what a verifier engine is given, and what it gives, once a step."""

    def propose(self, rows: Mapping[str, Context]) -> dict[str, list[int]]:
        """A draft for each request that decodes next, by its name and committed tokens; [] where there is none."""
        ...


@dataclass(slots=True)
class _Request:
    """What is known of a request in the batch."""

    worth: Worth = field(default_factory=Worth)
    address: str = ""
    """Of the draft pod that has its session; empty before the first."""
    base_length: int = 0
    given: list[int] = field(default_factory=list)
    """The draft that the engine has got, after `base_length` tokens."""


class RemoteDrafts:
    """The drafts of one verifier engine. To be used from one thread."""

    def __init__(
        self,
        streams: Callable[[], Mapping[str, Stream]],
        counters: Counters,
        *,
        depth: int,
        depths: Depths | None = None,
        vocabulary: int,
        deadline_seconds: float,
        longest: int = 2**31,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`streams`: to the draft pods that there are now, by address. `longest`: tokens that a context may have."""
        self._streams, self._counters, self._now = streams, counters, now
        self._depth, self._vocabulary = depth, vocabulary
        self._depths, self._deadline_seconds = depths or Depths(depth), deadline_seconds
        self._longest = longest
        self._drafters: dict[str, Drafter] = {}
        self._requests: dict[str, _Request] = {}
        self._ended = 0.0
        """When the engine went on with the last step."""

    def propose(self, rows: Mapping[str, Context]) -> dict[str, list[int]]:
        """A draft for each request that decodes next, [] where there is none (yet)."""
        started = self._now()
        self._learn(rows, started)
        # A row's first step is also the step that its first token waits for: nothing may be added to it.
        is_known = rows.keys() <= self._requests.keys()
        self._see_pods()
        for drafter in self._drafters.values():
            drafter.take(started)
        self._see_requests(rows)
        usable = {address: drafter for address, drafter in self._drafters.items() if drafter.is_usable}
        depth = self._depths.choose(len(rows)) if rows and usable else 0
        drafts: dict[str, list[int]] = {request: [] for request in rows}
        if depth:
            until = started + self._deadline_seconds if is_known else started
            drafts |= self._ask(rows, usable, depth, until=until)
        self._count(rows, drafts, depth)
        self._ended = self._now()
        took = self._ended - started
        self._counters.add(Counted.WAIT_SECONDS, took)
        self._counters.set(Counted.LONGEST_WAIT_SECONDS, max(self._counters.value(Counted.LONGEST_WAIT_SECONDS), took))
        return drafts

    def _learn(self, rows: Mapping[str, Context], now: float) -> None:
        """What the engine made of the last step; its time only if nothing else was in it."""
        deepest = 0
        checked: list[tuple[int, int]] = []
        for request, known in self._requests.items():
            deepest = max(deepest, len(known.given))
            context = rows.get(request)
            if known.given and context is not None and len(context) > known.base_length:
                committed = context[known.base_length :].tolist()
                drafted, accepted = len(known.given), shared(known.given, committed[:-1])
                known.worth.saw(len(context), drafted=drafted, accepted=accepted)
                checked.append((drafted, accepted))
        if checked:
            self._depths.saw_accepted(checked)
            self._counters.add(Counted.TOKENS_DRAFTED, sum(drafted for drafted, _ in checked))
            self._counters.add(Counted.TOKENS_ACCEPTED, sum(accepted for _, accepted in checked))
        if rows and rows.keys() == self._requests.keys():
            self._depths.saw_step(len(rows), deepest, now - self._ended)

    def _see_pods(self) -> None:
        """Draft pods that have come or gone since the last step."""
        streams = self._streams()
        if streams.keys() == self._drafters.keys():
            return
        self._drafters = {
            address: self._drafters.get(address) or self._drafter_of(stream) for address, stream in streams.items()
        }

    def _drafter_of(self, stream: Stream) -> Drafter:
        return Drafter(
            stream,
            self._counters,
            self._depths,
            depth=self._depth,
            vocabulary=self._vocabulary,
            deadline_seconds=self._deadline_seconds,
            now=self._now,
        )

    def _see_requests(self, rows: Mapping[str, Context]) -> None:
        """Requests that are over, whose sessions are closed, and new ones."""
        over = self._requests.keys() - rows.keys()
        if over:
            for drafter in self._drafters.values():
                drafter.forget(over)
        self._requests = {request: self._requests.get(request) or _Request() for request in rows}

    def _ask(
        self, rows: Mapping[str, Context], usable: Mapping[str, Drafter], depth: int, *, until: float
    ) -> dict[str, list[int]]:
        """The drafts that there are; each pod is asked for what its requests lack, and waited for where it is worth it.

        Where a draft takes long beside a step, pods go on drafting while the step is verified, and are told of all
        requests: those that have a draft may have the next one at hand then, too.
        """
        ahead = depth + 1 if self._depths.goes_ahead(len(rows), depth) else 0
        found: dict[str, list[int]] = {}
        asked: dict[str, dict[str, Context]] = {}
        lacking: dict[str, dict[str, Context]] = {}
        for request, context in rows.items():
            known = self._requests[request]
            if not known.worth.is_drafted_for(len(context)):
                continue
            self._move(request, known, usable)
            draft = usable[known.address].draft_of(request, context)
            if draft:
                found[request] = draft
            else:
                lacking.setdefault(known.address, {})[request] = context
            if ahead or not draft:
                asked.setdefault(known.address, {})[request] = context
        self._depths.saw_lack(len(rows), is_lacking=bool(lacking))
        waits = self._is_worth_it(len(rows), drafted=len(found), missing=sum(map(len, lacking.values())), depth=depth)
        awaited = []
        for address, contexts in asked.items():
            wanted_until = until if waits and address in lacking else 0.0
            if usable[address].ask(contexts, rows=len(rows), depth=depth, ahead=ahead, until=wanted_until):
                awaited.append(address)
        for address in awaited:
            found |= usable[address].wait(until, lacking[address])
        return {request: draft[: self._room(rows[request], depth)] for request, draft in found.items()}

    def _room(self, context: Context, depth: int) -> int:
        """How long a draft may be: the engine verifies it together with the context's last token."""
        return max(min(depth, self._longest - 1 - len(context)), 0)

    def _move(self, request: str, known: _Request, usable: Mapping[str, Drafter]) -> None:
        """Keep a request where it is; from a pod that is gone, to the one of highest random weight for it."""
        if known.address in usable:
            return
        if known.address in self._drafters:
            self._drafters[known.address].forget([request])
        known.address = max(usable, key=lambda address: zlib.crc32(f"{address} {request}".encode()))

    def _is_worth_it(self, rows: int, *, drafted: int, missing: int, depth: int) -> bool:
        """Whether the tokens that the missing drafts bring are more than the batch would make while it waits.

        Missing rows × A(k) × V > D × tokens that leave the step at once: specdec's myopic rule for a batch, of which
        one row's wait holds up all.
        """
        tokens = self._depths.tokens(depth)
        at_once = rows - drafted + drafted * tokens
        gained = missing * (tokens - 1) * self._depths.step_seconds(rows)
        return gained == 0 or gained > self._depths.draft_seconds(rows, depth) * at_once

    def _count(self, rows: Mapping[str, Context], drafts: Mapping[str, list[int]], depth: int) -> None:
        for request, draft in drafts.items():
            known = self._requests[request]
            known.base_length, known.given = len(rows[request]), draft
        drafted = sum(map(bool, drafts.values()))
        self._counters.add(Counted.ROWS_DRAFTED, drafted)
        self._counters.add(Counted.ROWS_EMPTY, len(drafts) - drafted)
        self._counters.set(Counted.DEPTH, depth)
        self._counters.set(Counted.PODS, len(self._drafters))
        self._counters.set(Counted.BREAKERS_OPEN, sum(drafter.is_tripped for drafter in self._drafters.values()))
        if rows:
            self._counters.set(Counted.SPEEDUP, self._depths.speedup(len(rows)) or 0.0)
