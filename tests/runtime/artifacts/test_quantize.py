"""The programs that quantize and evaluate, as the pod of a Job runs them: killed, without room, twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.fixtures.environment import artifacts_environment
from deploy.fixtures.pair import ModelPair
from deploy.local.layout import REPOSITORY
from tandem_contracts.artifact_job import (
    EVALUATE_MODULE,
    QUANTIZE_MODULE,
    Evaluated,
    Made,
    evaluate_arguments,
    quantize_arguments,
)
from tandem_contracts.quality import Thresholds, shortcomings
from tandem_contracts.recipe import Algorithm, CalibrationSettings, Recipe, Scheme
from tandem_contracts.termination import ExitCode, Reason, TerminationMessage
from tandem_runtime.artifacts.volume import Volume
from tests.runtime.artifacts.programs import Ended, Program, run

pytestmark = pytest.mark.timeout(900)

KEY = "v1-quantized"
NOBODY = 65534
W8A8 = Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.RTN)
GPTQ = Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.GPTQ)
FEW = CalibrationSettings(samples=4, sequence_tokens=128)


class Quantizing:
    """A volume, and the programs of a Job with it."""

    def __init__(self, folder: Path, source: Path, *, root: Path | None = None) -> None:
        self._folder, self._source = folder, source
        self.root = root or folder / "volume"
        self.root.mkdir(exist_ok=True)
        self.volume = Volume(self.root)
        self._tries = 0

    def start(self, recipe: Recipe, *, source: Path | None = None, texts: str = "") -> Program:
        self._tries += 1
        arguments = quantize_arguments(
            source=str(source or self._source),
            key=KEY,
            owner=f"pod{self._tries}",
            recipe=recipe,
            calibration=FEW,
            texts=texts,
        )
        return self._started(QUANTIZE_MODULE, arguments)

    def run(self, recipe: Recipe, *, source: Path | None = None, texts: str = "") -> Ended:
        return self.start(recipe, source=source, texts=texts).ended()

    def evaluate(self, *, texts: str = "") -> Ended:
        return self._started(
            EVALUATE_MODULE, evaluate_arguments(source=str(self._source), key=KEY, texts=texts)
        ).ended()

    def _started(self, module: str, arguments: list[str]) -> Program:
        folder = self._folder / f"try{self._tries}"
        return Program(module, [*arguments, f"--volume={self.root}", "--metrics-port=0"], folder, environment={})


@pytest.fixture
def quantizing(tmp_path: Path, models: ModelPair) -> Quantizing:
    return Quantizing(tmp_path, models.draft)


def texts_in(folder: Path, name: str, *texts: str) -> str:
    path = folder / name
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return str(path)


def test_a_model_is_made_once_measured_and_readable_for_every_user(quantizing: Quantizing) -> None:
    ended = quantizing.run(W8A8)
    assert ended.code == ExitCode.OK, ended.output
    made = Made.decode(ended.last_word)
    assert made.model.quantization == "compressed-tensors"
    assert made.seconds > 0
    evaluated = quantizing.evaluate()
    assert evaluated.code == ExitCode.OK, evaluated.output
    quality = Evaluated.decode(evaluated.last_word).quality
    assert shortcomings(quality, Thresholds.of_bits(8)) == ()
    assert quality.tokens == 40 * 511
    again = Made.decode(quantizing.run(W8A8).last_word)
    assert (again.seconds, again.manifest) == (0, made.manifest)
    if os.geteuid() == 0:
        weights = quantizing.volume.folder(KEY) / "model.safetensors"
        # By a handle on its folder: the way to it is the test's own.
        folder = os.open(weights.parent, os.O_RDONLY)
        try:
            command = ["cat", f"/proc/self/fd/{folder}/{weights.name}"]
            given = {"user": NOBODY, "group": NOBODY, "pass_fds": [folder]}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=30, **given)  # type: ignore[call-overload]
        finally:
            os.close(folder)


def test_a_model_is_made_anew_from_a_source_that_was_fetched_anew_and_is_another_one(
    tmp_path: Path, models: ModelPair
) -> None:
    """As `evaluate` says that it would be once its ModelArtifact is deleted."""
    quantizing = Quantizing(tmp_path, tmp_path / "volume" / "v1-source")

    def fetched(note: str) -> None:
        with quantizing.volume.staging("v1-source", "pod") as folder:
            shutil.copytree(models.draft, folder, dirs_exist_ok=True)
            (folder / "note.json").write_text(note)
            quantizing.volume.publish("v1-source", folder, {})

    fetched("{}")
    first = quantizing.run(W8A8)
    assert first.code == ExitCode.OK, first.output
    quantizing.volume.retire("v1-source")
    fetched("{ }")
    assert quantizing.evaluate().refusal.reason is Reason.SOURCE_CHANGED
    made = Made.decode(quantizing.run(W8A8).last_word)
    assert made.seconds > 0
    assert made.manifest != Made.decode(first.last_word).manifest
    evaluated = quantizing.evaluate()
    assert evaluated.code == ExitCode.OK, evaluated.output
    assert Made.decode(quantizing.run(W8A8).last_word).seconds == 0


def test_a_calibrated_model_says_what_it_was_calibrated_with_and_is_not_evaluated_with_that(
    quantizing: Quantizing, tmp_path: Path
) -> None:
    seen = [f"def function_{number}(argument):\n    return argument + {number}\n" * 20 for number in range(4)]
    calibration = texts_in(tmp_path, "calibration.jsonl", *seen)
    ended = quantizing.run(GPTQ, texts=calibration)
    assert ended.code == ExitCode.OK, ended.output
    manifest = quantizing.volume.find(KEY)
    assert manifest is not None
    told = manifest.provenance["calibration"]
    assert (told["texts"], told["samples"], len(told["documents"])) == ("calibration.jsonl", 4, 4)
    mixed = quantizing.evaluate(texts=texts_in(tmp_path, "evaluation.jsonl", "class Another: pass\n" * 900, seen[2]))
    assert (mixed.code, mixed.refusal.reason) == (ExitCode.TEXTS_INVALID, Reason.TEXTS_INVALID), mixed.output
    assert "evaluation.jsonl: the model was calibrated with 1 of the texts: 2" in mixed.refusal.message


def test_a_pod_that_is_killed_leaves_no_artifact_and_the_next_one_makes_it(quantizing: Quantizing) -> None:
    staging = quantizing.root / ".staging"
    quantizing.start(GPTQ).kill_once(lambda: staging.exists() and any(staging.iterdir()), "its folder is there")
    assert quantizing.volume.find(KEY) is None
    ended = quantizing.run(W8A8)
    assert ended.code == ExitCode.OK, ended.output
    assert quantizing.volume.find(KEY) is not None


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A volume that is too small, which only root can make."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    root = tmp_path / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=True, timeout=30)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True, timeout=30)


def test_a_volume_without_room_is_told_with_the_bytes_that_are_needed_and_free(
    tmp_path: Path, models: ModelPair, small_volume: Path
) -> None:
    quantizing = Quantizing(tmp_path, models.draft, root=small_volume)
    ended = quantizing.run(W8A8)
    assert (ended.code, ended.refusal.reason) == (ExitCode.VOLUME_FULL, Reason.VOLUME_FULL), ended.output
    assert "bytes are needed, 1048576 are free" in ended.refusal.message
    assert list(small_volume.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"scheme": "W9A9"}, ExitCode.RECIPE_UNSUPPORTED, "W9A9"),
        ({"algorithm": "AWQ"}, ExitCode.RECIPE_UNSUPPORTED, "W8A8 is made by one of RTN, GPTQ, SmoothQuantGPTQ"),
    ],
)
def test_a_recipe_that_there_is_not_is_refused_before_anything_is_read(
    tmp_path: Path, models: ModelPair, change: dict[str, str], code: ExitCode, told: str
) -> None:
    (tmp_path / "volume").mkdir()
    recipe = json.dumps({**W8A8.to_data(), **change})
    arguments = [f"--source={models.draft}", f"--key={KEY}", "--owner=pod", f"--recipe={recipe}"]
    ended = run(QUANTIZE_MODULE, [*arguments, f"--volume={tmp_path / 'volume'}", "--metrics-port=0"], tmp_path / "try")
    assert ended.code == code
    assert told in ended.refusal.message


def test_a_source_that_is_no_model_is_told_by_its_own_reason(quantizing: Quantizing, tmp_path: Path) -> None:
    ended = quantizing.run(W8A8, source=tmp_path / "nothing")
    assert (ended.code, ended.refusal.reason) == (ExitCode.SOURCE_NOT_FOUND, Reason.MODEL_NOT_FOUND)


@pytest.mark.parametrize("recipe", [W8A8, GPTQ], ids=["by files", "by running"])
def test_code_and_pickles_beside_the_weights_are_neither_run_nor_published(
    quantizing: Quantizing, tmp_path: Path, models: ModelPair, recipe: Recipe
) -> None:
    source = tmp_path / "source"
    shutil.copytree(models.draft, source)
    (source / "pytorch_model.bin").write_bytes(b"a pickle")
    (source / "modeling.py").write_text("raise SystemExit")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.bin").write_bytes(b"another form")
    ended = quantizing.run(recipe, source=source)
    assert ended.code == ExitCode.OK, ended.output
    manifest = quantizing.volume.find(KEY)
    assert manifest is not None
    names = {file.path for file in manifest.files}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if "/" in name or name.endswith((".py", ".bin"))]


def test_a_model_that_needs_code_of_its_own_is_not_quantized(
    quantizing: Quantizing, tmp_path: Path, models: ModelPair
) -> None:
    source = tmp_path / "source"
    shutil.copytree(models.draft, source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}))
    ended = quantizing.run(W8A8, source=source)
    assert (ended.code, ended.refusal.reason) == (ExitCode.SOURCE_UNSAFE, Reason.SOURCE_UNSAFE), ended.output
    assert "auto_map" in ended.refusal.message


def test_a_pickle_is_not_loaded_instead_of_weights_of_an_unusual_name(
    quantizing: Quantizing, tmp_path: Path, models: ModelPair
) -> None:
    source = tmp_path / "source"
    shutil.copytree(models.draft, source)
    (source / "model.safetensors").rename(source / "weights.safetensors")
    (source / "pytorch_model.bin").write_bytes(b"a pickle")
    ended = quantizing.run(GPTQ, source=source)
    assert "no file named model.safetensors" in ended.refusal.message


UNGUARDED = """
import sys
from llmcompressor.pipelines.cache import IntermediatesCache
import tandem_runtime.artifacts.llm_compressor
from tandem_runtime.artifacts.quantize import main

def pin_memory(*_, **__):
    raise RuntimeError("Cannot access accelerator device when none is available.")

IntermediatesCache.pin_memory = pin_memory
sys.exit(main(sys.argv[1:]))
"""
"""The program as it would be without the guard for AWQ on a CPU."""


def test_what_llm_compressor_cannot_do_ends_the_job_with_its_reason_and_is_not_tried_again(
    tmp_path: Path, models: ModelPair
) -> None:
    (tmp_path / "volume").mkdir()
    log = tmp_path / "log"
    awq = Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.AWQ)
    arguments = quantize_arguments(source=str(models.draft), key=KEY, owner="pod", recipe=awq, calibration=FEW)
    options = [f"--volume={tmp_path / 'volume'}", "--metrics-port=0", f"--termination-log={log}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "runtime"), "HOME": str(tmp_path)}
    command = [str(artifacts_environment()), "-c", UNGUARDED, *arguments, *options]
    ended = subprocess.run(command, env=environment, check=False, timeout=300, capture_output=True, text=True)
    assert ended.returncode == ExitCode.RECIPE_UNSUPPORTED, ended.stdout + ended.stderr
    told = TerminationMessage.decode(log.read_text())
    assert told.reason is Reason.RECIPE_UNSUPPORTED
    assert "W4A16 by AWQ: llm-compressor refuses this model: Cannot access accelerator device" in told.message
