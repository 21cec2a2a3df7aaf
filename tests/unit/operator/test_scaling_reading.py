"""A page of an engine becomes a reading, or nothing: never a number that nobody has said."""

from __future__ import annotations

import itertools
import math

import pytest

from tandem_contracts.metrics import LATENCY_GRID
from tandem_operator.scaling import reading
from tandem_operator.scaling.reading import NOTHING, Distribution, reading_in
from tandem_operator.scaling.traffic import attained, quantile_in

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="code"} 3.0
vllm:num_requests_running{engine="1",model_name="code"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="code"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="code",reason="capacity"} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="code"} 0.25
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000",engine="0"} 1.0
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="code"} 10.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="code"} 5.0
vllm:prompt_tokens_total{engine="0",model_name="code"} 1500.0
vllm:prompt_tokens_cached_total{engine="0",model_name="code"} 500.0
vllm:generation_tokens_total{engine="0",model_name="code"} 900.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="code"} 12.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="2.0",model_name="code"} 15.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="code"} 16.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="code"} 16.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="code"} 14.5
vllm:inter_token_latency_seconds_count{engine="0",model_name="code"} 800.0
vllm:request_generation_tokens_sum{engine="0",model_name="code"} 850.0
vllm:request_generation_tokens_count{engine="0",model_name="code"} 15.0
"""


def test_ranks_and_label_sets_are_summed() -> None:
    reading = reading_in(PAGE, at=7.0)
    assert reading is not None
    assert (reading.at, reading.running, reading.waiting, reading.finished) == (7.0, 4.0, 2.0, 15.0)
    assert (reading.prompt_tokens, reading.cached_tokens, reading.output_tokens) == (1500.0, 500.0, 900.0)
    assert (reading.answered, reading.answered_tokens) == (15.0, 850.0)
    assert (reading.kv_usage, reading.kv_tokens) == (0.25, 16_000.0)
    assert reading.first_token == Distribution((1.0, 2.0, math.inf), (12.0, 15.0, 16.0), 14.5)
    assert reading.output_token == NOTHING


@pytest.mark.parametrize(
    "changed",
    [
        ("num_requests_running", "num_requests_walking"),
        ("vllm:num_requests_waiting{", "vllm:no{"),
        ('model_name="code"} 3.0', 'model_name="code"} NaN'),
        ('model_name="code"} 3.0', 'model_name="code"} +Inf'),
        ('model_name="code"} 3.0', 'model_name="code"} -1'),
        ('model_name="code"} 3.0', 'model_name="code"} many'),
        ('model_name="code"} 3.0', 'model_name="code} 3.0'),
        ('model_name="code"} 3.0', 'model_name="code"} 1e308'),
        ('le="2.0"', 'le="two"'),
        ("} 900.0", "} NaN"),
    ],
)
def test_a_page_that_tells_nonsense_is_no_reading(changed: tuple[str, str]) -> None:
    assert changed[0] in PAGE
    assert reading_in(PAGE.replace(*changed), at=0.0) is None


@pytest.mark.parametrize("page", ["", "<html>502 Bad Gateway</html>", "\n\n", "vllm:num_requests_running"])
def test_what_is_no_page_is_no_reading(page: str) -> None:
    assert reading_in(page, at=0.0) is None


def test_the_grid_has_ten_bounds_a_decade_and_the_targets_that_people_write() -> None:
    assert len(LATENCY_GRID) == 61
    assert list(LATENCY_GRID) == sorted(set(LATENCY_GRID))
    assert {0.02, 0.05, 0.08, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10} <= set(LATENCY_GRID)
    ratios = [b / a for a, b in itertools.pairwise(LATENCY_GRID)]
    assert max(ratios) < 1.34


FOUND = Distribution((1.0, 2.0, 3.0, math.inf), (10.0, 30.0, 40.0, 50.0), 80.0)


@pytest.mark.parametrize(
    ("target", "rejected", "share", "error"),
    [
        (2.0, 0.0, 0.6, 0.0),
        (1.5, 0.0, 0.4, 0.4),
        (0.5, 0.0, 0.1, 0.2),
        (4.0, 0.0, 0.8, 0.2),
        (2.0, 50.0, 0.3, 0.0),
    ],
)
def test_attainment_is_exact_on_a_bound_and_tells_its_error_between_two(
    target: float, rejected: float, share: float, error: float
) -> None:
    assert attained(FOUND, target, rejected=rejected) == (pytest.approx(share), pytest.approx(error))


def test_nothing_is_said_of_no_requests_or_without_a_target() -> None:
    assert attained(NOTHING, 2.0, rejected=0.0) == (None, 0.0)
    assert attained(FOUND, None, rejected=0.0) == (None, 0.0)


@pytest.mark.parametrize(("share", "value"), [(0.2, 1.0), (0.4, 1.5), (0.6, 2.0), (0.99, 3.0)])
def test_a_quantile_lies_within_its_bucket_and_beyond_the_last_bound_is_that_bound(share: float, value: float) -> None:
    assert quantile_in(FOUND, share) == pytest.approx(value)


def test_what_is_kept_of_pages_is_bounded_in_length() -> None:
    known = reading._series.cache_info().currsize
    for i in range(20):
        page = PAGE + f'vllm:num_requests_running{{engine="{i}",model_name="{"x" * 5000}"}} 1.0\n'
        found = reading_in(page, at=1.0)
        assert found is not None
    assert reading._series.cache_info().currsize - known < 100
