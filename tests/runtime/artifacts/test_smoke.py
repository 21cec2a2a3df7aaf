"""A quantized model, measured in PyTorch, then asked of a real engine that computes the same, or does not."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.fixtures.environment import artifacts_environment, engine_environment
from deploy.fixtures.pair import ModelPair
from tandem_contracts.artifact_job import (
    EVALUATE_MODULE,
    QUANTIZE_MODULE,
    SMOKE_MODULE,
    Evaluated,
    Smoked,
    evaluate_arguments,
    quantize_arguments,
    smoke_arguments,
)
from tandem_contracts.engine_settings import EngineSettings
from tandem_contracts.launch import LaunchOptions, Role
from tandem_contracts.recipe import Algorithm, CalibrationSettings, Recipe, Scheme
from tandem_contracts.reference import KERNEL_NOISE, WINDOW_TOKENS, WINDOWS, Reference
from tandem_contracts.termination import ExitCode, Reason
from tests.runtime.artifacts.programs import Ended, Program, run
from tests.runtime.engines import START_LIMIT_SECONDS, free_port
from tests.runtime.probes import answers_of

pytestmark = [pytest.mark.timeout(900), pytest.mark.engine]

KEY = "v1-quantized"
RECIPE = Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.RTN)


@dataclass(frozen=True)
class Measured:
    """A volume with an artifact, and what was recorded of it."""

    volume: Path
    reference: Reference

    @property
    def model(self) -> Path:
        return self.volume / KEY

    def asked(self, model: Path, folder: Path, reference: Reference | None, **flags: str) -> Ended:
        """A smoke test of the files in `model`."""
        settings = EngineSettings(data_type="bfloat16", max_model_length=512, flags=flags)
        port = free_port()
        launch = LaunchOptions(
            role=Role.VERIFIER, model=str(model), served_name="smoke", host="127.0.0.1", http_port=port, engine=settings
        )
        arguments = smoke_arguments(
            key=KEY,
            owner="pod",
            deadline_seconds=int(START_LIMIT_SECONDS),
            launch=launch.to_arguments(),
            reference=reference,
        )
        own = {"OMP_NUM_THREADS": "1"}
        given = ["--metrics-port=0", *arguments]
        return Program(SMOKE_MODULE, given, folder / "try", environment=own, python=engine_environment()).ended()


@pytest.fixture(scope="module")
def measured(models: ModelPair, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    volume = tmp_path_factory.mktemp("volume")
    source, common = str(models.draft), [f"--volume={volume}", "--metrics-port=0"]
    made = quantize_arguments(source=source, key=KEY, owner="pod", recipe=RECIPE, calibration=CalibrationSettings())
    quantized = run(QUANTIZE_MODULE, [*made, *common], volume / "quantize")
    assert quantized.code == ExitCode.OK, quantized.output
    evaluated = run(EVALUATE_MODULE, [*evaluate_arguments(source=source, key=KEY), *common], volume / "evaluate")
    assert evaluated.code == ExitCode.OK, evaluated.output
    reference = Evaluated.decode(evaluated.last_word).reference
    assert reference is not None
    return Measured(volume, reference)


@pytest.fixture(scope="module")
def spoilt(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose scales are in another order, as a kernel finds them that takes another layout for granted. The
    manifest is that of before.
    """
    folder = tmp_path_factory.mktemp("spoilt") / "model"
    shutil.copytree(measured.model, folder)
    folder.chmod(0o755)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    answers_of("artifacts/layout_probe.py", str(weights), python=artifacts_environment())
    return folder


def test_a_record_is_of_the_artifact_and_as_long_as_it_should_be(measured: Measured) -> None:
    windows = measured.reference.windows
    assert [len(window.tokens) for window in windows] == [WINDOW_TOKENS] * WINDOWS
    assert len({window.tokens for window in windows}) == WINDOWS
    assert 0 < measured.reference.spread < KERNEL_NOISE / 2


def test_an_engine_that_computes_what_was_measured_passes_far_within_the_bound(
    measured: Measured, tmp_path: Path
) -> None:
    ended = measured.asked(measured.model, tmp_path, measured.reference)
    assert ended.code == ExitCode.OK, ended.output
    smoked = Smoked.decode(ended.last_word)
    assert smoked.deviation is not None
    assert 0 < smoked.deviation < measured.reference.allowed / 5
    assert smoked.uncompared == ""


def test_an_engine_that_takes_another_layout_for_granted_is_refused_though_its_answers_are_finite(
    measured: Measured, spoilt: Path, tmp_path: Path
) -> None:
    blind = measured.asked(spoilt, tmp_path / "blind", None)
    assert blind.code == ExitCode.OK, blind.output
    ended = measured.asked(spoilt, tmp_path / "compared", measured.reference)
    assert ended.code == ExitCode.DIFFERS_FROM_REFERENCE, ended.output
    assert ended.refusal.reason is Reason.DIFFERS_FROM_REFERENCE
    told = ended.refusal.message
    figure = float(told.split("its log probabilities are ")[1].split()[0])
    assert math.isfinite(figure)
    assert figure > measured.reference.allowed
    assert f"(allowed: {measured.reference.allowed:g})" in told
    assert f"over {WINDOWS * (WINDOW_TOKENS - 1)} tokens" in told


def test_an_engine_that_refuses_to_tell_serves_and_says_why(measured: Measured, tmp_path: Path) -> None:
    ids = [json.loads((measured.model / "config.json").read_text())["vocab_size"] + 1, 1]
    (first, *others) = measured.reference.windows
    beyond = replace(first, tokens=tuple(ids), losses=first.losses[:1])
    ended = measured.asked(measured.model, tmp_path, replace(measured.reference, windows=(beyond, *others)))
    assert ended.code == ExitCode.OK, ended.output
    smoked = Smoked.decode(ended.last_word)
    assert smoked.deviation is None
    assert smoked.uncompared.startswith("the engine refuses `prompt_logprobs`: HTTP 400")
