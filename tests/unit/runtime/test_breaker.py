"""When a draft pod is left alone, and when drafts for a request stop: with time and lengths as the test says."""

from __future__ import annotations

import pytest

from tandem_runtime.drafting.breaker import (
    DRAFTS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PAUSE_TOKENS,
    PROBE_DRAFTS,
    PROOFS,
    WAITS,
    Breaker,
    State,
    Worth,
)


def make_breaker() -> Breaker:
    return Breaker(spread=lambda seconds: seconds)


@pytest.mark.parametrize(("missed", "is_open"), [(WAITS // 2 - 1, False), (WAITS // 2, True)])
def test_a_pod_that_lets_half_of_the_waits_down_is_left_alone(*, missed: int, is_open: bool) -> None:
    breaker = make_breaker()
    for number in range(WAITS):
        breaker.saw_wait(1.0, was_answered=number >= missed)
    assert (breaker.state is State.OPEN) is is_open
    assert breaker.may_ask(1.0) is not is_open


def test_a_pod_is_tried_again_after_a_pause_and_has_to_answer_in_time_to_be_used_again() -> None:
    breaker = make_breaker()
    breaker.trip(10.0)
    assert not breaker.may_ask(10.0 + FIRST_PAUSE_SECONDS - 0.01)
    assert breaker.may_ask(10.0 + FIRST_PAUSE_SECONDS)
    assert breaker.state is State.HALF_OPEN
    for _ in range(PROOFS):
        assert breaker.state is State.HALF_OPEN
        breaker.saw_answer(12.0, was_in_time=True)
    assert breaker.state is State.CLOSED


def test_pauses_get_longer_while_the_pod_fails_and_are_short_again_once_it_has_proved_itself() -> None:
    breaker, now, pauses = make_breaker(), 0.0, []
    for _ in range(8):
        breaker.trip(now)
        begun = now
        while not breaker.may_ask(now):
            now += 0.25
        pauses.append(now - begun)
        breaker.saw_answer(now, was_in_time=False)
        assert breaker.state is State.OPEN
        now += LONGEST_PAUSE_SECONDS
        assert breaker.may_ask(now)
    assert pauses[0] == FIRST_PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    for _ in range(PROOFS):
        breaker.saw_answer(now, was_in_time=True)
    breaker.trip(now)
    assert breaker.may_ask(now + FIRST_PAUSE_SECONDS)


@pytest.mark.parametrize(("accepted", "is_drafted_for"), [(0, False), (1, True), (4, True)])
def test_a_request_whose_drafts_are_mostly_wrong_goes_on_without(*, accepted: int, is_drafted_for: bool) -> None:
    worth = Worth()
    for _ in range(DRAFTS - 1):
        worth.saw(500, drafted=4, accepted=accepted)
        assert worth.is_drafted_for(500)
    worth.saw(500, drafted=4, accepted=accepted)
    assert worth.is_drafted_for(500) is is_drafted_for
    assert worth.is_drafted_for(500 + PAUSE_TOKENS)


def test_a_request_is_tried_again_with_a_few_drafts_and_goes_on_if_they_are_good() -> None:
    worth = Worth()
    for _ in range(DRAFTS):
        worth.saw(500, drafted=4, accepted=0)
    length = 500 + PAUSE_TOKENS
    for _ in range(PROBE_DRAFTS):
        assert worth.is_drafted_for(length)
        worth.saw(length, drafted=4, accepted=0)
    assert not worth.is_drafted_for(length)
    length += PAUSE_TOKENS
    for _ in range(PROBE_DRAFTS):
        worth.saw(length, drafted=4, accepted=4)
    for _ in range(DRAFTS - 1):
        worth.saw(length, drafted=4, accepted=0)
        assert worth.is_drafted_for(length)
