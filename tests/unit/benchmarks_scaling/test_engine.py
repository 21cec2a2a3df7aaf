"""The simulated engine: its arithmetic, what it counts, and that no request is lost in it."""

import math
from dataclasses import replace
from statistics import fmean

import pytest

from benchmarks.scaling.engine import Engine, Profile
from benchmarks.scaling.requests import Request
from tandem_operator.scaling.reading import reading_in
from tests.unit.benchmarks_scaling.runs import make_engine, make_requests

PLAIN = Profile(base_seconds=0.02, prompt_seconds=1e-4, context_seconds=0.0, request_seconds=1e-3, front_seconds=0.0)


def test_one_request_takes_a_step_for_its_prompt_and_one_for_each_further_token() -> None:
    request = Request(5.0, 1000, 11)
    engine = make_engine([request], PLAIN)
    engine.advance(100.0)
    assert request.first_token_at == pytest.approx(5.0 + 0.02 + 0.1 + 0.001)
    assert request.output_token_seconds == pytest.approx(0.021)


def test_a_prompt_beyond_the_budget_of_a_step_takes_two() -> None:
    request = Request(0.0, 10_000, 1)
    engine = make_engine([request], PLAIN)
    engine.advance(100.0)
    assert request.first_token_at == pytest.approx(2 * (0.02 + 0.001) + 1.0)
    assert request.finished_at == request.first_token_at


def test_leaping_over_steps_is_as_good_as_looking_at_each() -> None:
    def answered(pause: float) -> list[tuple[float | None, float | None]]:
        requests = make_requests(2.0, 60.0)
        engine = make_engine(requests)
        now = requests[-1].arrival
        while engine.load:
            now += pause
            engine.advance(now)
        return [(request.first_token_at, request.finished_at) for request in requests]

    for (first, end), (other_first, other_end) in zip(answered(0.01), answered(1000.0), strict=True):
        assert first == pytest.approx(other_first)
        assert end == pytest.approx(other_end)


def test_it_never_runs_ahead_of_the_time_that_it_was_advanced_to() -> None:
    requests = make_requests(2.0, 60.0)
    engine = Engine(replace(Profile(), front_seconds=0.0), at=0.0)
    for request in requests:
        engine.advance(request.arrival)
        assert all((done.finished_at or 0.0) <= request.arrival for done in engine.ended)
        engine.add(request)


@pytest.mark.parametrize("kv_tokens", [2_300, 350_000])
def test_every_request_is_answered_in_full_even_by_an_engine_that_preempts(kv_tokens: int) -> None:
    requests = make_requests(1.0, 100.0, prompt=1000, output=200)
    engine = make_engine(requests, replace(Profile(), kv_tokens=kv_tokens))
    engine.advance(100_000.0)
    reading = reading_in(engine.page(), at=0.0)
    assert reading is not None
    assert (engine.load, reading.kv_usage) == (0, 0.0)
    assert all(request.finished_at is not None for request in requests)
    assert reading.finished == reading.answered == len(requests)
    assert reading.output_tokens == pytest.approx(200 * len(requests), rel=1e-3)
    assert (engine.counters.preemptions > 0) == (kv_tokens == 2_300)


def test_a_request_that_never_fits_is_rejected_and_counted() -> None:
    engine = Engine(Profile(), at=0.0)
    assert not engine.add(Request(0.0, Profile().kv_tokens, 10))
    reading = reading_in(engine.page(), at=0.0)
    assert reading is not None
    assert reading.rejected == 1


def test_its_page_reads_as_what_happened() -> None:
    requests = make_requests(2.0, 120.0, prompt=500, output=50)
    engine = make_engine(requests)
    engine.advance(requests[-1].arrival + 1e-6)
    reading = reading_in(engine.page(), at=7.0)
    assert reading is not None
    begun = [request for request in requests if request.first_token_at is not None]
    ended = [request for request in requests if request.finished_at is not None]
    assert reading.at == 7.0
    assert reading.running + reading.waiting == len(requests) - len(ended)
    assert reading.kv_tokens == pytest.approx(Profile().kv_tokens, abs=Profile().block_tokens)
    assert reading.prompt_tokens == 500 * len(begun)
    assert (reading.answered, reading.answered_tokens) == (len(ended), 50 * len(ended))
    assert reading.first_token.count == len(begun)
    assert reading.first_token.seconds == pytest.approx(sum(each.first_token_seconds or 0.0 for each in begun))
    assert reading.output_token.seconds == pytest.approx(sum(each.output_token_seconds or 0.0 for each in ended))
    # One observation a step and running request: the tokens after the first ones.
    assert reading.steps.count == pytest.approx(reading.output_tokens - len(begun))


def test_littles_law_holds_on_a_steady_pod() -> None:
    seconds, rate = 2000.0, 3.0
    requests = make_requests(rate, seconds)
    engine = Engine(replace(Profile(), front_seconds=0.0), at=0.0)
    counts, arrived = [], 0
    for second in range(int(seconds) + 1):
        while arrived < len(requests) and requests[arrived].arrival <= second:
            engine.advance(requests[arrived].arrival)
            engine.add(requests[arrived])
            arrived += 1
        engine.advance(float(second))
        counts.append(engine.load)
    engine.advance(seconds + 1000.0)
    stays = [(request.finished_at or math.nan) - request.arrival for request in requests]
    assert fmean(counts) == pytest.approx(len(requests) / seconds * fmean(stays), rel=0.05)


def test_speculation_gives_several_tokens_a_step() -> None:
    request = Request(0.0, 1000, 101)
    engine = make_engine([request], replace(PLAIN, tokens_per_step=2.0))
    engine.advance(100.0)
    assert request.output_token_seconds == pytest.approx(0.021 / 2)
    reading = reading_in(engine.page(), at=0.0)
    assert reading is not None
    assert reading.steps.count == 50
    assert reading.output_tokens == pytest.approx(101)
