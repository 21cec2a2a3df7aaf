"""How many tokens to draft, from what steps, drafts and acceptance have been measured to be. Pure.

The depth k is the one with the most tokens a second: E(k) / T(k), where E(k) = 1 + c × (p_1 + … + p_k) tokens leave a
step for each row (c: the share of rows that are answered with a draft at all; p_i: that of drafts whose first i tokens
are all accepted) and T(k) = V(k) + D(k) is its duration: verifying, which grows with k, and waiting for the draft,
R + k × t. Depth 0 waits for nothing. Sections 2.1 and 2.3 of Leviathan et al. (arXiv 2211.17192) have the first,
TurboSpec (arXiv 2406.14066) chooses by the second, online.

Few steps are made at another depth than the best one, so that its advantage is measured, not assumed: some at depth 0
while drafts pay, and ever fewer at a higher one while they do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

TIME_MEMORY = 64
"""Observations after which an old one counts by 1/e; the first ones are averaged."""
COVERAGE_MEMORY = 4
"""Shorter: a pod that has begun to answer with nothing costs its wait in every step."""
ACCEPTANCE_MEMORY = 256
"""Longer, since each draft says only yes or no."""
FIRST_ACCEPTANCE = 0.7
"""Assumed of each token until drafts have been checked."""
POOLED = 16
"""What all positions together say of one of them counts like so many observations of its own."""
LEARNING_STEPS = 4
"""Steps at depth 0, and as many with drafts, before a batch of a new size is judged."""
LEARNING_TRIES = 16
"""So often drafts are asked for meanwhile: they may come too late for every step."""
CHECK_EVERY = 32
"""One in so many steps is made at depth 0 while drafts pay, or at another depth while they do not."""
CHECK_AT_LEAST_EVERY = 1024
CHECK_STEPS = 4
"""Of a check with drafts: the first of them is answered by a pod that has to catch up, which shows nothing."""
REMEMBERED = 8
"""What was measured counts like so many observations at most once another pod drafts."""
REMEMBERED_UNUSED = 1
"""And of drafts that are not used, when they are checked: what is found then is what they are like now."""
AHEAD_FROM = 0.25
"""Of the time of a step: a draft that takes longer is worth to be made ahead. Below it waiting costs little, and a pod
that goes on drafting answers others later."""
MARGIN = 1.02
"""How much better another depth has to be: measured times are noisy."""


@dataclass(slots=True)
class Mean:
    """A mean that forgets."""

    memory: int = TIME_MEMORY
    value: float = 0.0
    count: int = 0

    def add(self, value: float, count: int = 1) -> None:
        """`count` observations at once, whose mean is `value`."""
        self.count += count
        self.value += (value - self.value) * min(count / min(self.count, self.memory), 1.0)


@dataclass(slots=True)
class _Batch:
    """What is known of batches of about one size. Times in seconds."""

    steps: dict[int, Mean] = field(default_factory=dict)
    """Of verifying, by depth."""
    overhead: Mean = field(default_factory=Mean)
    """R: of a draft, beside its tokens."""
    token: Mean = field(default_factory=Mean)
    """t: of each token of a draft."""
    lacking: Mean = field(default_factory=lambda: Mean(value=1.0))
    """Steps that had to ask for a draft, a share: others had one that was made ahead, or the rest of one."""
    coverage: Mean = field(default_factory=lambda: Mean(COVERAGE_MEMORY, value=1.0))
    """c: rows that an answer had a draft for, of those that were asked for."""
    tries: int = 0
    since_check: int = 0
    checks_left: int = 0
    """Steps of the check that is going on."""
    check_every: int = CHECK_EVERY
    chosen: int | None = None
    rates: list[float] = field(default_factory=list)
    """Tokens a second by depth, as of the last choice; empty before both ends were measured."""

    def step_seconds(self, depth: int) -> float:
        """V(k): measured, or on the line through what was measured nearest to it."""
        if depth in self.steps:
            return self.steps[depth].value
        known = sorted(self.steps)
        at = bisect_left(known, depth)
        low, high = (known[at - 1], known[at]) if 0 < at < len(known) else (known[0], known[-1])
        if low == high:
            return self.steps[low].value
        slope = max(self.steps[high].value - self.steps[low].value, 0.0) / (high - low)
        return max(self.steps[low].value + slope * (depth - low), 0.0)

    def remember(self, count: int) -> None:
        """Let what was measured of drafts count like so many observations at most."""
        for mean in (self.overhead, self.token, self.coverage):
            mean.count = min(mean.count, count)

    def draft_seconds(self, depth: int) -> float:
        """D(k)."""
        return self.overhead.value + depth * self.token.value if depth else 0.0


class Depths:
    """Chooses the depth of each step. To be used from one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._accepted = [Mean(ACCEPTANCE_MEMORY) for _ in range(most)]
        """p_i / p_(i-1), by i - 1: of the tokens that were reached. It says something of positions beyond them, too."""
        self._pooled = Mean(ACCEPTANCE_MEMORY, FIRST_ACCEPTANCE, 1)
        self._batches: dict[int, _Batch] = {}

    def saw_step(self, rows: int, depth: int, seconds: float) -> None:
        """A step of this many rows was verified with drafts of this depth; waiting for drafts not included."""
        self._batch(rows).steps.setdefault(depth, Mean()).add(seconds)

    def saw_answer(self, rows: int, *, coverage: float) -> None:
        """Drafts were asked for, and an answer came with one for this share of them."""
        self._batch(rows).coverage.add(coverage)

    def saw_draft(self, rows: int, depth: int, *, seconds: float, compute_seconds: float) -> None:
        """Drafts were asked for and came, after `seconds`, of which the draft server computed some."""
        batch = self._batch(rows)
        batch.overhead.add(max(seconds - compute_seconds, 0.0))
        batch.token.add(compute_seconds / depth)

    def met_another(self) -> None:
        """Another pod drafts from now on, or the same one anew: what was measured of drafts is less certain."""
        for batch in self._batches.values():
            batch.remember(REMEMBERED)
            batch.tries, batch.since_check, batch.check_every = 0, 0, CHECK_EVERY
        for mean in (*self._accepted, self._pooled):
            mean.count = min(mean.count, REMEMBERED)

    def saw_lack(self, rows: int, *, is_lacking: bool) -> None:
        """A step with drafts began; whether any of its rows had none yet."""
        self._batch(rows).lacking.add(float(is_lacking))

    def saw_accepted(self, checked: Iterable[tuple[int, int]]) -> None:
        """Of each draft of a step: its tokens, and how many of them were accepted."""
        reached, accepted = [0] * self._most, [0] * self._most
        for drafted, good in checked:
            for position in range(min(good, self._most)):
                accepted[position] += 1
                reached[position] += 1
            if good < min(drafted, self._most):
                reached[good] += 1
        for seen, count, good in zip(self._accepted, reached, accepted, strict=True):
            if count:
                seen.add(good / count, count)
        if any(reached):
            self._pooled.add(sum(accepted) / sum(reached), sum(reached))

    def tokens(self, depth: int) -> float:
        """E(k): tokens that leave a step with a draft of this depth, for each row."""
        return self._tokens()[depth]

    def _tokens(self) -> list[float]:
        """E(k), by k."""
        found, share = [1.0], 1.0
        for seen in self._accepted:
            count = min(seen.count, seen.memory)
            share *= (seen.value * count + self._pooled.value * POOLED) / (count + POOLED)
            found.append(found[-1] + share)
        return found

    def draft_seconds(self, rows: int, depth: int) -> float:
        """D(k) as measured; 0 before the first draft."""
        return self._batch(rows).draft_seconds(depth)

    def step_seconds(self, rows: int) -> float:
        """V(0) as measured; 0 before the first step."""
        batch = self._batch(rows)
        return batch.step_seconds(0) if batch.steps else 0.0

    def goes_ahead(self, rows: int, depth: int) -> bool:
        """Whether a pod is to go on drafting while its draft of this depth is verified."""
        return self.draft_seconds(rows, depth) > AHEAD_FROM * self.step_seconds(rows)

    def speedup(self, rows: int) -> float | None:
        """Tokens a second at the best depth of all drafts over those at depth 0; None before both were measured."""
        batch = self._batch(rows)
        return max(batch.rates[1:]) / batch.rates[0] if batch.rates and batch.token.count else None

    def choose(self, rows: int) -> int:
        """The depth of the next step of a batch."""
        batch = self._batch(rows)
        if 0 not in batch.steps or batch.steps[0].count < LEARNING_STEPS:
            return 0
        drafted = sum(seen.count for depth, seen in batch.steps.items() if depth)
        if (not batch.token.count or drafted < LEARNING_STEPS) and batch.tries < LEARNING_TRIES:
            batch.tries += 1
            return self._most  # both ends first: what lies between them is on the line
        covered = batch.coverage.value
        batch.rates = [
            (1 + covered * (tokens - 1))
            / max(batch.step_seconds(depth) + batch.lacking.value * batch.draft_seconds(depth), 1e-9)
            for depth, tokens in enumerate(self._tokens())
        ]
        best = _best(batch)
        batch.since_check += 1
        if batch.since_check >= batch.check_every:
            batch.since_check = 0
            if best:
                batch.check_every = CHECK_EVERY
                return 0
            batch.check_every = min(2 * batch.check_every, CHECK_AT_LEAST_EVERY)
            batch.checks_left = CHECK_STEPS
            batch.remember(REMEMBERED_UNUSED)
        if best or not batch.checks_left:
            return best
        batch.checks_left -= 1
        return max(range(1, self._most + 1), key=batch.rates.__getitem__) if batch.token.count else self._most

    def _batch(self, rows: int) -> _Batch:
        """Of the same size up to the next power of two."""
        size = max(rows - 1, 0).bit_length()
        if size not in self._batches:
            self._batches[size] = _Batch()
        return self._batches[size]


def _best(batch: _Batch) -> int:
    """The depth with the most tokens a second; the one before while no other is clearly better."""
    best = max(range(len(batch.rates)), key=batch.rates.__getitem__)
    if batch.chosen is None or batch.rates[best] > MARGIN * batch.rates[batch.chosen]:
        batch.chosen = best
    return batch.chosen
