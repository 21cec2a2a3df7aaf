"""Runs inside the environment of artifact Jobs: makes one model by every recipe, and says what came of each.

One process, since importing takes longer than quantizing a small model. Prints JSON for `test_quantize`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tandem_contracts.model_reader import read_model
from tandem_contracts.recipe import Algorithm, CalibrationSettings, KVCache, Recipe, Scheme
from tandem_runtime.artifacts.comparison import compare, windows_in
from tandem_runtime.artifacts.llm_compressor import quantize
from tandem_runtime.artifacts.models import loaded, tokenizer_of
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.texts import built_in
from tandem_runtime.artifacts.weights import predicted_bytes

CALIBRATION = CalibrationSettings(samples=8, sequence_tokens=256)
SOURCE, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
EVALUATION = built_in()[1]
WINDOWS = windows_in(EVALUATION, tokenizer_of(SOURCE))


class Noted(Progress):
    """Notes how far each step has come, and how far it was to go."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, float]] = []

    def show(self, step: str, done: Callable[[], float], total: float) -> None:
        super().show(step, done, total)
        self.seen.append((done(), total))


progress: dict[str, list[tuple[float, float]]] = {}


def made(name: str, recipe: Recipe) -> Path:
    """The folder that a recipe makes."""
    target, noted = FOLDER / name, Noted()
    target.mkdir()
    quantize(SOURCE, target, recipe, calibration=CALIBRATION, texts=None, progress=noted)
    progress[name] = noted.seen
    return target


def quality(target: Path) -> dict[str, Any]:
    return compare(loaded(SOURCE, target), WINDOWS, evaluation=EVALUATION.digest, progress=Progress()).to_data()


def told(target: Path, recipe: Recipe) -> dict[str, Any]:
    """What a folder is like, and its figures."""
    config = json.loads((target / "config.json").read_text())["quantization_config"]
    return {
        "format": config["format"],
        "kv": config.get("kv_cache_scheme") is not None,
        "bytes": read_model(target).weights_bytes,
        "predicted": predicted_bytes(SOURCE, recipe),
        "code": [path.name for path in target.iterdir() if path.suffix in {".py", ".bin", ".pt"}],
        "quality": quality(target),
    }


def digest(target: Path) -> str:
    return hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()


def spoilt(target: Path, name: str, spoil: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A copy whose tensors are what `spoil` makes of them."""
    copy = FOLDER / name
    shutil.copytree(target, copy)
    weights = copy / "model.safetensors"
    save_file({key: spoil(key, value) for key, value in load_file(weights).items()}, weights, {"format": "pt"})
    return copy


def flipped(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """One bit of every eighth weight of one layer."""
    if "layers.1." in name and tensor.dtype is torch.int8:
        tensor.view(-1)[::8] ^= 0x40
    return tensor


def shuffled(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The scales of one layer in another order."""
    return tensor.flip(0).contiguous() if "layers.1." in name and name.endswith("weight_scale") else tensor


recipes = {
    f"{scheme}-{algorithm}": Recipe(scheme=scheme, algorithm=algorithm)
    for scheme in Scheme
    for algorithm in scheme.algorithms
}
w8a8 = recipes["W8A8-RTN"]
recipes["W8A8-KV"] = replace(w8a8, kv_cache=KVCache.FP8)
folders = {name: made(name, recipe) for name, recipe in recipes.items()}
answers: dict[str, Any] = {"recipes": {name: told(folders[name], recipe) for name, recipe in recipes.items()}}

rtn, gptq = recipes["W4A16-RTN"], recipes["W4A16-GPTQ"]
threads = torch.get_num_threads()
again = {"RTN": made("rtn-again", rtn), "GPTQ": made("gptq-again", gptq)}
torch.set_num_threads(max(threads - 1, 1))
other = {"RTN": made("rtn-other", rtn), "GPTQ": made("gptq-other", gptq)}
torch.set_num_threads(threads)
answers["same"] = {name: digest(folders[f"W4A16-{name}"]) == digest(target) for name, target in again.items()}
answers["same with other threads"] = {
    name: digest(folders[f"W4A16-{name}"]) == digest(target) for name, target in other.items()
}
answers["other threads"] = quality(other["GPTQ"])
answers["flipped"] = quality(spoilt(folders["W8A8-RTN"], "flipped", flipped))
answers["shuffled"] = quality(spoilt(folders["W8A8-RTN"], "shuffled", shuffled))
answers["progress"] = {name: progress[name] for name in ("W8A8-RTN", "W4A16-GPTQ")}
assert Algorithm.AWQ in {recipe.algorithm for recipe in recipes.values()}
sys.stdout.write(json.dumps(answers) + "\n")
