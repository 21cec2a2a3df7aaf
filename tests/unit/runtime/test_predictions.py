"""The predictions that `benchmarks.drafting` prints beside what it measures: the figures of their sources."""

from dataclasses import replace

import pytest

from benchmarks.predictions import Parts


def parts(acceptance: float, *, step: float, token: float, round_trip: float) -> Parts:
    """Of the analytic model: acceptance by position is geometric, and verifying costs what a plain step does."""
    return Parts(
        plain=step,
        steps=dict.fromkeys(range(10), step),
        round_trip=round_trip,
        token=token,
        shares=[acceptance**position for position in range(1, 10)],
    )


@pytest.mark.parametrize(
    ("step", "token", "round_trip", "acceptance", "depth", "speedup"),
    [
        (8, 1.5, 0.5, 0.75, 4, 1.68),
        (8, 1.5, 10, 0.60, 0, 1.0),
        (25, 2.5, 2, 0.85, 8, 2.72),
        (50, 3, 2, 0.75, 6, 2.48),
        (120, 10, 2, 0.60, 3, 1.72),
    ],
)
def test_waiting_is_as_fast_as_the_analytic_model_computed(
    step: float, token: float, round_trip: float, acceptance: float, depth: int, speedup: float
) -> None:
    computed = parts(acceptance, step=step, token=token, round_trip=round_trip)
    assert computed.best_depth() == depth
    assert computed.waiting(depth) == pytest.approx(speedup, abs=0.006)


@pytest.mark.parametrize(("draft_of_a_step", "speedup"), [(0.1, 2.86), (0.5, 2.23)])
def test_drafting_ahead_is_as_fast_as_the_chain_was_simulated_to_be(draft_of_a_step: float, speedup: float) -> None:
    computed = parts(0.75, step=8, token=0, round_trip=8 * draft_of_a_step)
    assert computed.drafting_ahead(4) == pytest.approx(speedup, abs=0.03)


def test_a_draft_that_takes_longer_than_a_step_is_waited_for_also_when_it_was_begun_ahead() -> None:
    far = parts(1.0, step=8, token=1, round_trip=20)
    assert far.drafting_ahead(4) == pytest.approx(5 * 8 / 25)
    assert far.waiting(4) == pytest.approx(5 * 8 / 32)
    assert far.drafting_ahead(0) == 1.0
    assert replace(far, round_trip=1.0).drafting_ahead(4) == pytest.approx(5.0)
