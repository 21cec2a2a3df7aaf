"""Decides, once a step, whether to ask for drafts, whether to wait for them, and what each row gets.

Plain Python: the engine's rows come in, lists of token ids go out. A step waits at most the deadline, and only
while the draft pod has proved to answer within it; everything else happens beside the engine.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

from tandem_runtime.drafting.calls import Answered, Caller, Failed
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.prefix import accepted_by_engine, still_valid

FIRST_COOL_DOWN_SECONDS = 0.25
LONGEST_COOL_DOWN_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One request of the engine's batch that will decode next: all its committed tokens, the newest one included."""

    request: str
    context: list[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Draft:
    tokens: list[int]
    base_length: int


class RemoteDrafts:
    """The drafts of one verifier engine, from one draft address. To be used from one thread."""

    def __init__(
        self,
        ask: Callable[[Sequence[list[int]]], list[object]],
        counters: Counters,
        *,
        depth: int,
        vocabulary: int,
        deadline_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` gives a reply for each context, in any form; it runs in a thread of its own and may raise."""

        def ask_for(rows: list[Row]) -> list[object]:
            replies = ask([row.context for row in rows])
            if len(replies) != len(rows):
                raise ValueError(f"{len(replies)} drafts for {len(rows)} requests")
            return replies

        self._caller: Caller[list[Row], list[object]] = Caller(ask_for)
        self._counters = counters
        self._depth = depth
        self._vocabulary = vocabulary
        self._deadline_seconds = deadline_seconds
        self._now = now
        self._drafts: dict[str, _Draft] = {}
        self._seen: set[str] = set()
        self._is_prompt = False
        self._failures = 0
        self._call_again_at = now()

    def propose(self, rows: Sequence[Row]) -> list[list[int]]:
        """A draft for each row, [] where there is none (yet)."""
        started = self._now()
        # A row's first step is also the step that its first token waits for: nothing may be added to it.
        may_wait = self._is_prompt and all(row.request in self._seen for row in rows)
        give_up_at = started + (self._deadline_seconds if may_wait else 0.0)

        self._collect(give_up_at if self._lacking(rows) else started)
        lacking = self._lacking(rows)
        if lacking and not self._caller.is_busy and self._now() >= self._call_again_at:
            self._caller.start(lacking)
            self._collect(give_up_at)
        if may_wait and lacking and self._caller.is_busy:
            self._is_prompt = False
            self._counters.add(Counted.DEADLINES_MISSED)

        self._seen = {row.request for row in rows}
        self._drafts = {name: draft for name, draft in self._drafts.items() if name in self._seen}
        self._counters.add(Counted.WAIT_SECONDS, self._now() - started)
        proposed = [self._draft_of(row) for row in rows]
        drafted = sum(1 for tokens in proposed if tokens)
        self._counters.add(Counted.ROWS_DRAFTED, drafted)
        self._counters.add(Counted.ROWS_EMPTY, len(proposed) - drafted)
        return proposed

    def _lacking(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if not self._draft_of(row)]

    def _draft_of(self, row: Row) -> list[int]:
        draft = self._drafts.get(row.request)
        return still_valid(draft.tokens, draft.base_length, row.context) if draft else []

    def _collect(self, until: float) -> None:
        """Takes in the outcome of the call under way, waiting for it until `until` at the longest."""
        outcome = self._caller.take(until - self._now())
        if isinstance(outcome, Answered):
            self._failures = 0
            self._counters.add(Counted.CALLS_ANSWERED)
            # After a late answer, only one well within the deadline shows that waiting is worth it again.
            share = 1.0 if self._is_prompt else 0.5
            self._is_prompt = outcome.seconds <= share * self._deadline_seconds
            for row, reply in zip(outcome.question, outcome.reply, strict=True):
                tokens = accepted_by_engine(reply, self._vocabulary, self._depth)
                if reply != tokens:
                    self._counters.add(Counted.ROWS_INVALID)
                self._drafts[row.request] = _Draft(tokens=tokens, base_length=len(row.context))
        elif isinstance(outcome, Failed):
            self._is_prompt = False
            self._failures += 1
            pause_seconds = min(FIRST_COOL_DOWN_SECONDS * 2 ** (self._failures - 1), LONGEST_COOL_DOWN_SECONDS)
            self._call_again_at = self._now() + pause_seconds
            self._counters.add(Counted.CALLS_FAILED)
            if self._failures == 1:
                logger.warning("no drafts, decoding goes on without them: %s", outcome.cause)
