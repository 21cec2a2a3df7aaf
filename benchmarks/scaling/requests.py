"""One request on its way through the fleet, and whether it was served in time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Objective:
    """What a request has to keep: both, to be counted as attained."""

    first_token_seconds: float = 3.0
    output_token_seconds: float = 0.1


@dataclass(slots=True)
class Request:
    """Arrives; the engine fills in the rest. Times are seconds of the simulation."""

    arrival: float
    prompt_tokens: int
    output_tokens: int
    first_token_at: float | None = None
    finished_at: float | None = None
    """Stays None for what was rejected, lost with its pod, or never answered: all of them are misses."""

    @property
    def first_token_seconds(self) -> float | None:
        """From arrival, the time outside of any pod included."""
        return None if self.first_token_at is None else self.first_token_at - self.arrival

    @property
    def output_token_seconds(self) -> float | None:
        """Mean time of a token after the first; 0 where there is only one."""
        if self.first_token_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.first_token_at) / max(1, self.output_tokens - 1)

    def is_attained(self, objective: Objective) -> bool:
        """Answered, and in time in both respects."""
        first, output = self.first_token_seconds, self.output_token_seconds
        if first is None or output is None:
            return False
        return first <= objective.first_token_seconds and output <= objective.output_token_seconds


def random_of(*seed: object) -> Random:
    """A generator of its own for each purpose, so that one more draw somewhere changes nothing elsewhere."""
    return Random("/".join(map(str, seed)))  # noqa: S311 -- a simulation
