"""From what was observed to how many replicas, by demand over capacity. Pure: same input, same decision."""

from __future__ import annotations

from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy


def decide(policy: Policy, seen: Observed, memory: Memory) -> tuple[Decision, Memory]:
    """The decision, and what the next one has to know. Never raises, whatever the engines say."""
    return Decision(seen.wanted, "nothing is known yet"), memory
