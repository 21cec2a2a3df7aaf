"""What speculation should bring, from what its parts were measured to take. Pure.

Decoding one row: a step with a draft of k tokens gives E(k) of them, after Leviathan et al. (arXiv 2211.17192), with
p_i, the share of drafts whose first i tokens are all accepted, in the place of a^i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Measured, in seconds."""

    plain: float
    """T1: of a token without speculation."""
    steps: Mapping[int, float]
    """V(k): of a step that verifies k tokens, all that the mode costs included, waiting for drafts not."""
    round_trip: float
    """R: of asking, without drafting."""
    token: float
    """t: of drafting one token."""
    shares: Sequence[float]
    """p_1 to p_k."""

    def tokens(self, depth: int) -> float:
        """E(k)."""
        return 1.0 + sum(self.shares[:depth])

    def waiting(self, depth: int) -> float:
        """Speed over plain when each step waits for its draft: E(k) T1 / (V(k) + R + k t)."""
        draft = self.round_trip + depth * self.token if depth else 0.0
        return self.tokens(depth) * self.plain / (self.steps[depth] + draft)

    def drafting_ahead(self, depth: int) -> float | None:
        """Speed over plain when the next draft is made while this one is verified; None where it takes longer.

        A draft is there when the whole last one was accepted and its next token guessed; after a step without, when the
        first token of the draft that had been made was right. Both as a chain of two states.
        """
        if self.round_trip + (depth + 1) * self.token > self.steps[depth]:
            return None
        again, back = self.shares[depth - 1] * self.shares[0], self.shares[0]
        with_draft = back / (back + 1.0 - again)
        tokens = with_draft * self.tokens(depth) + 1.0 - with_draft
        seconds = with_draft * self.steps[depth] + (1.0 - with_draft) * self.steps[0]
        return tokens * self.plain / seconds

    def best_depth(self) -> int:
        """The depth, 0 included, at which waiting is fastest."""
        return max(self.steps, key=self.waiting)
