"""What every autoscaler is given and gives, and ours behind it.

Ports of others: `hpa.py`, `keda.py`, `knative.py`, `llm_d.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.scaling.requests import Objective
from benchmarks.scaling.router_signals import RouterSignals
from benchmarks.scaling.scraping import Scraped
from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Gate, Observed, Pod
from tandem_operator.scaling.policy import Bounds, Policy, Strategy, Target


@dataclass(frozen=True)
class Sight:
    """What can be seen at one time. Seconds of the simulation."""

    now: float
    wanted: int
    """`spec.replicas`."""
    pods: Sequence[Pod]
    scraped: Scraped
    held: int
    """Requests outside, since no pod is Ready."""
    in_work: int
    """Requests in the fleet, without any scrape: what a proxy in the path counts itself."""
    signals: RouterSignals
    is_seen: bool = True
    """Whether Prometheus gets what the router says: not in an outage of scrapes."""

    @property
    def staying(self) -> int:
        """`status.replicas`."""
        return sum(not pod.is_going for pod in self.pods)

    @property
    def ready(self) -> int:
        """`status.readyReplicas`."""
        return sum(pod.ready_at is not None and not pod.is_going for pod in self.pods)


class Controller(Protocol):
    """One autoscaler, with its memory."""

    @property
    def tick_seconds(self) -> float:
        """How often it decides."""
        ...

    @property
    def scrape_seconds(self) -> float:
        """How often the pages that it goes by are read."""
        ...

    def replicas(self, sight: Sight) -> int:
        """That it wants now."""
        ...


@dataclass
class Static:
    """As many as there may be, always."""

    count: int
    tick_seconds: float = 60.0
    scrape_seconds: float = 60.0

    def replicas(self, sight: Sight) -> int:
        """The same number."""
        return self.count


class Tandem:
    """The operator's `decide`, on the text of the engines' own pages."""

    tick_seconds = 5.0
    scrape_seconds = 5.0

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.memory = Memory()
        self.reason = ""

    def replicas(self, sight: Sight) -> int:
        """The decision's."""
        observed = Observed(
            now=sight.now,
            wanted=sight.wanted,
            pods=tuple(sight.pods),
            readings=dict(sight.scraped.latest),
            interval_seconds=self.scrape_seconds,
            gate=Gate(sight.now, held=sight.held) if sight.held else None,
        )
        decision, self.memory = decide(self.policy, observed, self.memory)
        self.reason = decision.reason
        return decision.replicas


def policy_of(
    objective: Objective, *, least: int, most: int, strategy: Strategy = Strategy.HEADROOM, **changed: float
) -> Policy:
    """The defaults, but for what is changed."""
    target = Target(
        first_token_seconds=objective.first_token_seconds, output_token_seconds=objective.output_token_seconds
    )
    return Policy(target, Bounds(least, most), strategy, **changed)  # type: ignore[arg-type]
