"""What pods do right now, from two readings of their metrics pages some seconds apart. Pure.

What is not known is None, never 0: an idle engine has no latency, and one that has started anew since the first reading
has no rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tandem_contracts import metrics
from tandem_contracts.launch import Role
from tandem_operator.facts import PodFacts
from tandem_operator.measured_speculation import reading_in as speculation_in
from tandem_operator.scaling.drafting import Server, said_in, work_between
from tandem_operator.scaling.reading import NOTHING, Distribution, Reading, reading_in, samples_in
from tandem_operator.scaling.traffic import quantile_in

PERCENTILE = 0.95
_SPECULATION = (metrics.ENGINE_DRAFTED_TOKENS, metrics.ENGINE_ACCEPTED_TOKENS)


@dataclass(frozen=True)
class Page:
    """What one pod answered: at the engine's port (verifiers alone), and at ours; None: nothing."""

    at: float
    """Seconds since the epoch."""
    engine: str | None = None
    own: str | None = None
    trouble: str = ""
    """Why there is no figure."""


@dataclass(frozen=True)
class Speculated:
    """Tokens, from the engine's start or between two readings."""

    drafted: float = 0.0
    accepted: float = 0.0


@dataclass(frozen=True)
class Figures:
    """Of a pod, or of all verifiers of a deployment."""

    running: float | None = None
    waiting: float | None = None
    tokens_per_second: float | None = None
    """Given to clients by verifiers, and to verifiers by drafts."""
    first_token: Distribution = NOTHING
    output_token: Distribution = NOTHING
    speculated: Speculated = Speculated()
    kv_usage: float | None = None
    """From 0 to 1; of several the highest."""
    busy: float | None = None
    """Share of the time that a draft pod drafts what is asked."""

    @property
    def acceptance(self) -> float | None:
        """Share of drafted tokens that were accepted."""
        return self.speculated.accepted / self.speculated.drafted if self.speculated.drafted > 0 else None


@dataclass(frozen=True)
class Row:
    """One pod."""

    deployment: str
    pod: PodFacts
    figures: Figures
    trouble: str = ""


def figures_between(role: Role, before: Page | None, after: Page) -> Figures:
    """What a pod did between two pages; without a first one only what holds at a time."""
    if role is Role.DRAFT:
        return _drafting(before, after)
    now = _reading(after)
    if now is None:
        return Figures()
    earlier = _reading(before) if before else None
    present = Figures(running=now.running, waiting=now.waiting, kv_usage=now.kv_usage)
    if before is None or earlier is None or _has_started_anew(earlier, now):
        return present
    return Figures(
        running=now.running,
        waiting=now.waiting,
        tokens_per_second=(now.output_tokens - earlier.output_tokens) / (now.at - earlier.at),
        first_token=_since(earlier.first_token, now.first_token),
        output_token=_since(earlier.output_token, now.output_token),
        speculated=_speculated_between(before, after),
        kv_usage=now.kv_usage,
    )


def total_of(rows: Iterable[Row]) -> Figures:
    """Of verifiers; what not one of them tells is not known."""
    every = [row.figures for row in rows]
    drafted = Speculated(
        sum(each.speculated.drafted for each in every), sum(each.speculated.accepted for each in every)
    )
    return Figures(
        running=_sum(each.running for each in every),
        waiting=_sum(each.waiting for each in every),
        tokens_per_second=_sum(each.tokens_per_second for each in every),
        first_token=_merged([each.first_token for each in every]),
        output_token=_merged([each.output_token for each in every]),
        speculated=drafted,
        kv_usage=max((each.kv_usage for each in every if each.kv_usage is not None), default=None),
    )


def held_in(page: str) -> int | None:
    """Requests that a wake gate holds; None where its page does not tell."""
    samples = samples_in(page, (metrics.GATE_HELD,)) or []
    return next((int(each.value) for each in samples if each.name == metrics.GATE_HELD and each.value >= 0), None)


def latency_of(found: Distribution) -> dict[str, Any]:
    """Mean and percentile in seconds, and of how many requests."""
    if not found.count:
        return {"mean": None, "p95": None, "requests": 0}
    mean, percentile = found.seconds / found.count, quantile_in(found, PERCENTILE)
    return {"mean": round(mean, 6), "p95": round(percentile, 6), "requests": int(found.count)}


def _drafting(before: Page | None, after: Page) -> Figures:
    now = said_in(after.own or "", at=after.at)
    earlier = said_in(before.own or "", at=before.at) if before else None
    work = work_between(earlier, now) if isinstance(now, Server) else None
    return Figures(tokens_per_second=work[0], busy=min(work[1], 1.0)) if work else Figures()


def _reading(page: Page) -> Reading | None:
    return reading_in(page.engine, at=page.at) if page.engine is not None else None


def _has_started_anew(before: Reading, now: Reading) -> bool:
    """A counter that falls; nothing can be told of no time either."""
    counters = ("finished", "output_tokens", "prompt_tokens")
    return now.at <= before.at or any(getattr(now, each) < getattr(before, each) for each in counters)


def _speculated_between(before: Page, after: Page) -> Speculated:
    """By our own counters of remote drafts, which know of tokens that never came; else by the engine's."""
    for read in (_remote, _by_engine):
        earlier, now = read(before), read(after)
        if earlier and now and now.drafted >= earlier.drafted and now.accepted >= earlier.accepted:
            return Speculated(now.drafted - earlier.drafted, now.accepted - earlier.accepted)
    return Speculated()


def _remote(page: Page) -> Speculated | None:
    found = speculation_in(page.own) if page.own is not None else None
    return Speculated(found.drafted, found.accepted) if found else None


def _by_engine(page: Page) -> Speculated | None:
    samples = samples_in(page.engine or "", _SPECULATION) or []
    sums = {name: [each.value for each in samples if each.name == name] for name in _SPECULATION}
    if not all(sums.values()):
        return None
    drafted, accepted = (sum(values) for values in sums.values())
    return Speculated(drafted, accepted) if 0 <= accepted <= drafted else None


def _since(before: Distribution, now: Distribution) -> Distribution:
    if before.bounds != now.bounds:  # the engine's first observation of all makes the bounds known
        return now if not before.bounds else NOTHING
    counts = tuple(a - b for a, b in zip(now.counts, before.counts, strict=True))
    return Distribution(now.bounds, counts, now.seconds - before.seconds) if min(counts, default=0) >= 0 else NOTHING


def _merged(found: list[Distribution]) -> Distribution:
    """Of engines with the same bounds, which ours all have; another one is left out."""
    telling = [each for each in found if each.count]
    if not telling:
        return NOTHING
    same = [each for each in telling if each.bounds == telling[0].bounds]
    counts = tuple(map(sum, zip(*(each.counts for each in same), strict=True)))
    return Distribution(telling[0].bounds, counts, sum(each.seconds for each in same))


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
