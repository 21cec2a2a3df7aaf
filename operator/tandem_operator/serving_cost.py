"""What the pods of a deployment cost, by the accelerator table's prices. Pure. No figure rather than a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.facts import Facts, RevisionFacts
from tandem_operator.scaling.decision import Figures


@dataclass(frozen=True)
class Cost:
    """In the currency of the table, US dollars as it is shipped."""

    per_hour: float
    per_million_tokens: float | None = None
    """Of prompts and answers; None without traffic."""
    per_million_output_tokens: float | None = None
    """The same over the tokens of the answers alone."""


def cost_of(facts: Facts, figures: Figures, *, table: Mapping[str, AcceleratorClass]) -> Cost | None:
    """Of all pods that hold accelerators, of every role and revision, those that start or go included.

    None where a price is not known: the class has none, or the pod is on one of several that cost differently, which
    only its node could tell. The class of pods that there are none of, but may be again, needs a price too: else the
    same deployment would cost nothing at one time, and nobody knows what at another.
    """
    holding = [pod for pod in facts.pods if pod.node and not pod.is_over]
    if not holding and not facts.workloads:
        return None
    if not all(_is_priced(facts.revision(each.role, each.revision), table) for each in facts.workloads):
        return None
    prices = [_price_of(facts.revision(pod.role, pod.revision), table) for pod in holding]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return None
    per_hour = sum(known)
    return Cost(
        per_hour,
        per_million_tokens=_per_million(per_hour, figures.tokens_rate),
        per_million_output_tokens=_per_million(per_hour, figures.output_tokens_rate),
    )


def _is_priced(revision: RevisionFacts | None, table: Mapping[str, AcceleratorClass]) -> bool:
    """Whether every class that its pods may be on has a price; without the revision that is not known."""
    return revision is not None and "" not in _prices_of(revision, table)


def _prices_of(revision: RevisionFacts, table: Mapping[str, AcceleratorClass]) -> set[str]:
    """Of one accelerator for an hour, by class; empty for one without a price."""
    names = [str(each.get("name")) for each in revision.resolved.get("accelerators") or ()]
    return {table[name].price_per_hour if name in table else "" for name in names}


def _price_of(revision: RevisionFacts | None, table: Mapping[str, AcceleratorClass]) -> float | None:
    """Of one pod for an hour."""
    if revision is None:
        return None
    prices, count = _prices_of(revision, table), revision.resolved.get("count")
    if len(prices) != 1 or "" in prices or not isinstance(count, int):
        return None
    return count * float(prices.pop())


def _per_million(per_hour: float, tokens_per_second: float) -> float | None:
    return per_hour / (tokens_per_second * 3600) * 1e6 if tokens_per_second > 0 else None
