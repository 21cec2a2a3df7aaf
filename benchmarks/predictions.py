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
    """p_1 to p_k, of drafts."""
    coverage: float = 1.0
    """c: steps that had a draft, of all: the first ones of a request have none."""

    def tokens(self, depth: int) -> float:
        """E(k)."""
        return 1.0 + self.coverage * sum(self.shares[:depth])

    def waiting(self, depth: int) -> float:
        """Speed over plain when each step waits for its draft: E(k) T1 / (V(k) + R + k t)."""
        draft = self.round_trip + depth * self.token if depth else 0.0
        return self.tokens(depth) * self.plain / (self.steps[depth] + draft)

    def drafting_ahead(self, depth: int) -> float:
        """Speed over plain when the pod goes on drafting meanwhile, and steps wait for what it has not finished.

        E(k) T1 / (h max(V(k), R + (k + 1) t) + (1 - h) (V(k) + R + k t)): the next draft is under way with the
        probability h = p_k p_1 that the last one was accepted whole and the token after it guessed; otherwise it is
        asked for when the step is over.
        """
        if not depth:
            return self.waiting(0)
        step, draft = self.steps[depth], self.round_trip + depth * self.token
        is_under_way = self.shares[depth - 1] * self.shares[0]
        seconds = is_under_way * max(step, draft + self.token) + (1.0 - is_under_way) * (step + draft)
        return self.tokens(depth) * self.plain / seconds

    def best_depth(self, *, is_ahead: bool = False) -> int:
        """The depth, 0 included, that is fastest."""
        return max(self.steps, key=self.drafting_ahead if is_ahead else self.waiting)
