"""The depth of drafts, chosen from measurements: against a verifier and a draft server whose times are known."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tandem_runtime.drafting.depth import CHECK_EVERY, LEARNING_STEPS, Depths

MOST = 8


@dataclass(frozen=True)
class Pair:
    """Times in milliseconds: a step, what each draft token of a row adds to it, a round trip, a draft token."""

    acceptance: float
    step: float = 25.0
    verify: float = 0.2
    round_trip: float = 1.0
    token: float = 2.5

    def tokens(self, depth: int) -> float:
        return sum(self.acceptance**position for position in range(depth + 1))

    def seconds(self, depth: int, rows: int = 1) -> tuple[float, float]:
        """Of verifying, and of drafting."""
        draft = self.round_trip + depth * self.token if depth else 0.0
        return (self.step + self.verify * rows * depth) / 1e3, draft / 1e3

    def rate(self, depth: int, rows: int = 1) -> float:
        return self.tokens(depth) / sum(self.seconds(depth, rows))

    def best(self, rows: int = 1) -> int:
        return max(range(MOST + 1), key=lambda depth: self.rate(depth, rows))


def run(pair: Pair, depths: Depths, steps: int, *, rows: int = 1, seed: int = 7, noise: float = 0.0) -> list[int]:
    """So many steps; the depths that were chosen."""
    chance, chosen = random.Random(seed), []
    for _ in range(steps):
        depth = depths.choose(rows)
        verifying, drafting = (seconds * chance.uniform(1 - noise, 1 + noise) for seconds in pair.seconds(depth, rows))
        for _ in range(rows if depth else 0):
            accepted = next((n for n in range(depth) if chance.random() > pair.acceptance), depth)
            depths.saw_accepted([(depth, accepted)])
        if depth:
            compute = depth * pair.token / 1e3
            depths.saw_draft(rows, depth, seconds=drafting, compute_seconds=min(compute, drafting))
        depths.saw_step(rows, depth, verifying)
        chosen.append(depth)
    return chosen


PAIRS = {
    "a good draft": Pair(0.85),
    "a fair draft": Pair(0.7),
    "a poor draft": Pair(0.4),
    "a distant draft": Pair(0.8, round_trip=10.0),
    "a slow draft": Pair(0.8, token=8.0),
    "a fast verifier": Pair(0.75, step=8.0, token=1.5),
    "a verifier that computes": Pair(0.75, verify=4.0),
}


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_depth_that_is_chosen_gives_nearly_as_much_as_the_best_one(pair: Pair, noise: float) -> None:
    chosen = run(pair, Depths(MOST), 2000, noise=noise)[1000:]
    usual = max(set(chosen), key=chosen.count)
    assert pair.rate(usual) >= 0.95 * pair.rate(pair.best())
    assert abs(usual - pair.best()) <= 2


LOSING = {
    "distant": (Pair(0.6, step=8.0, round_trip=20.0), 1),
    "useless": (Pair(0.05), 1),
    "a large batch": (Pair(0.5, verify=3.0), 32),
}


@pytest.mark.parametrize(("pair", "rows"), LOSING.values(), ids=LOSING)
def test_where_drafts_lose_none_are_made_within_200_steps_and_looking_again_costs_little(pair: Pair, rows: int) -> None:
    assert pair.best(rows) == 0
    depths = Depths(MOST)
    run(pair, depths, 200, rows=rows)
    later = run(pair, depths, 4000, rows=rows)
    spent = sum(sum(pair.seconds(depth, rows)) for depth in later)
    made = sum(pair.tokens(depth) for depth in later)
    assert later.count(0) >= 0.98 * len(later)
    assert made / spent >= 0.95 * pair.rate(0, rows)


def test_drafts_come_back_when_they_pay_again() -> None:
    depths = Depths(MOST)
    run(Pair(0.8, round_trip=60.0), depths, 300)
    assert depths.choose(1) == 0
    better = run(Pair(0.8), depths, 6000)
    assert better[-100:].count(0) < 10


def test_the_benefit_is_measured_at_depth_0_all_along() -> None:
    depths = Depths(MOST)
    chosen = run(Pair(0.85), depths, 1000)
    assert chosen[LEARNING_STEPS * 2 :].count(0) >= 1000 // CHECK_EVERY - 2
    assert depths.speedup(1) == pytest.approx(Pair(0.85).rate(Pair(0.85).best()) / Pair(0.85).rate(0), rel=0.1)


def test_batches_of_another_size_are_judged_by_their_own_steps() -> None:
    depths, pair = Depths(MOST), Pair(0.6, verify=1.5)
    alone = run(pair, depths, 600)[-100:]
    many = run(pair, depths, 600, rows=32)[-100:]
    assert max(set(alone), key=alone.count) > 0
    assert max(set(many), key=many.count) == 0


def test_before_anything_is_known_nothing_is_claimed() -> None:
    depths = Depths(MOST)
    assert depths.speedup(1) is None
    assert depths.draft_seconds(1, 4) == 0
    assert depths.step_seconds(1) == 0
    assert depths.tokens(2) == pytest.approx(1 + 0.7 + 0.49)
