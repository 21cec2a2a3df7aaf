"""What scaling decides for a role, with the figures that it was decided by. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Health(StrEnum):
    """Of what the engines say. The worst that holds."""

    GOOD = "Good"
    PARTIAL = "Partial"
    """Some pods say nothing, or nothing new: up is allowed, down is not."""
    BLIND = "Blind"
    """Most pods: nothing is changed."""
    NEW = "New"
    """This process has read nothing yet: nothing is changed."""
    NO_PODS = "NoPods"
    """None is Ready, so that none says anything: nothing is changed."""


class Limited(StrEnum):
    """What kept the decision from being what the load asks for."""

    NO = ""
    AT_LEAST = "AtMinimum"
    AT_MOST = "AtMaximum"
    BEHAVIOR = "Behavior"
    """The limits of `behavior`."""


@dataclass(frozen=True)
class Figures:
    """Rates are a second. 0: not known."""

    requests_rate: float = 0.0
    """Requests that arrive."""
    surge_rate: float = 0.0
    """More of them that one cold start may bring."""
    prompt_tokens: float = 0.0
    """Of a request, that are computed."""
    output_tokens: float = 0.0
    """Of a request."""
    capacity_rate: float = 0.0
    """Requests that one pod finishes within the target."""
    cold_start_seconds: float = 0.0
    first_token_attainment: float | None = None
    """Share of the requests of the last minutes within the target; None without any, or without a target."""
    output_token_attainment: float | None = None
    attainment_error: float = 0.0
    """At most so much of either share may be wrong: 0 where the target is a bound of the engines' histograms."""
    samples: int = 0
    """That the model of step times has learned from."""
    tokens_rate: float = 0.0
    """Tokens of prompts and answers that were served in the last minutes."""
    output_tokens_rate: float = 0.0
    """Those of answers alone."""

    @property
    def at_rest(self) -> Figures:
        """The same once it is proven that nobody asks: what came before is over, and nobody can miss a target."""
        return replace(
            self,
            requests_rate=0.0,
            surge_rate=0.0,
            first_token_attainment=None,
            output_token_attainment=None,
            attainment_error=0.0,
            tokens_rate=0.0,
            output_tokens_rate=0.0,
        )


@dataclass(frozen=True)
class Decision:
    """Replicas of a role, and why, in one sentence."""

    replicas: int
    reason: str
    health: Health = Health.GOOD
    limited: Limited = Limited.NO
    is_learned: bool = False
    """By a model of step times that was learned; else by rule of thumb."""
    figures: Figures = Figures()
