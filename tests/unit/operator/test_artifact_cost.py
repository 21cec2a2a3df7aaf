"""What Jobs of artifacts are estimated to need, beside what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem_contracts.recipe import Algorithm, Scheme
from tandem_contracts.termination import Phase
from tandem_operator.api.artifact import ArtifactQuantization
from tandem_operator.api.quantization import Calibration
from tandem_operator.artifact_cost import FETCH_BYTES, GIB, Estimate, estimate_of, parameters_of
from tests.unit.operator.models import LLAMA_8B, LLAMA_70B, TINY, make_model

DATA_FREE = ArtifactQuantization(scheme=Scheme.W8A8, algorithm=Algorithm.RTN)


def calibrated(samples: int, tokens: int) -> ArtifactQuantization:
    calibration = Calibration(samples=samples, max_sequence_length=tokens)
    return ArtifactQuantization(scheme=Scheme.W4A16, algorithm=Algorithm.GPTQ, calibration=calibration)


MEASURED = make_model(parameters=409_000_000, weights_bytes=818_000_000)
"""The model of background measurements: peaks of 2,246 MB for GPTQ, 1,200 MB file by file; 99 s for 16 x 256 tokens."""


def test_the_estimate_of_memory_covers_what_was_measured_and_not_twice_as_much() -> None:
    gptq = estimate_of(Phase.QUANTIZE, MEASURED, calibrated(16, 256), on_cpu=True)
    assert 2_246e6 < gptq.memory_bytes < 2 * 2_246e6
    by_file = estimate_of(Phase.QUANTIZE, MEASURED, DATA_FREE, on_cpu=True)
    assert by_file.memory_bytes > 1_200e6


@pytest.mark.parametrize(("samples", "tokens", "peak"), [(16, 512, 1_084e6), (64, 512, 1_303e6), (16, 2048, 1_535e6)])
def test_the_estimate_of_memory_covers_many_samples_and_long_ones(samples: int, tokens: int, peak: float) -> None:
    model = make_model(parameters=26_232_576, weights_bytes=104_930_304, hidden_size=256)
    estimate = estimate_of(Phase.QUANTIZE, model, calibrated(samples, tokens), on_cpu=True)
    assert peak < estimate.memory_bytes < 1.5 * peak


def test_the_estimate_of_time_is_near_what_was_measured() -> None:
    assert estimate_of(Phase.QUANTIZE, MEASURED, calibrated(16, 256), on_cpu=True).seconds == pytest.approx(99, rel=0.1)
    eight_billion = estimate_of(Phase.QUANTIZE, LLAMA_8B, calibrated(512, 2048), on_cpu=False)
    assert eight_billion.seconds == pytest.approx(745, rel=0.1)


def test_without_data_memory_has_an_end_since_files_have() -> None:
    large, larger = (
        estimate_of(Phase.QUANTIZE, model, DATA_FREE, on_cpu=True).memory_bytes for model in (LLAMA_8B, LLAMA_70B)
    )
    assert large == larger == GIB + 15 * 10**9
    assert estimate_of(Phase.QUANTIZE, TINY, DATA_FREE, on_cpu=True).memory_bytes < 2 * GIB


def test_more_tokens_more_parameters_and_a_cpu_take_longer() -> None:
    usual = estimate_of(Phase.QUANTIZE, LLAMA_8B, calibrated(256, 2048), on_cpu=False).seconds
    assert estimate_of(Phase.QUANTIZE, LLAMA_8B, calibrated(512, 2048), on_cpu=False).seconds == 2 * usual
    assert estimate_of(Phase.QUANTIZE, LLAMA_70B, calibrated(256, 2048), on_cpu=False).seconds > 8 * usual
    assert estimate_of(Phase.QUANTIZE, LLAMA_8B, calibrated(256, 2048), on_cpu=True).seconds > 100 * usual


def test_evaluating_holds_both_models() -> None:
    estimate = estimate_of(Phase.EVALUATE, LLAMA_8B, DATA_FREE, on_cpu=True)
    assert estimate.memory_bytes > 2 * LLAMA_8B.weights_bytes


@pytest.mark.parametrize("phase", [Phase.FETCH, Phase.EVICT])
def test_what_only_moves_files_needs_the_same_for_every_model(phase: Phase) -> None:
    for model in (None, TINY, LLAMA_70B):
        assert estimate_of(phase, model, DATA_FREE, on_cpu=True) == Estimate(FETCH_BYTES)


def test_a_model_that_is_not_known_yet_is_no_error() -> None:
    assert estimate_of(Phase.QUANTIZE, None, calibrated(1, 16), on_cpu=True) == Estimate(FETCH_BYTES)


def test_parameters_that_nobody_has_counted_follow_from_the_size() -> None:
    assert parameters_of(LLAMA_8B) == LLAMA_8B.parameters
    assert parameters_of(replace(LLAMA_8B, parameters=0)) == LLAMA_8B.weights_bytes / 2


@pytest.mark.parametrize(("count", "told"), [(1, "1Mi"), (1 << 20, "1Mi"), ((1 << 20) + 1, "2Mi"), (GIB, "1024Mi")])
def test_memory_is_a_quantity_that_is_never_too_small(count: int, told: str) -> None:
    assert Estimate(count).memory == told
