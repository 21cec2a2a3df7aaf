"""Runs inside the environment of artifact Jobs: what the cache in FP8 does to a model, and what tasks may do.

Prints JSON for `test_evaluate`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tandem_contracts.recipe import Algorithm, CalibrationSettings, KVCache, Recipe, Scheme
from tandem_runtime.artifacts.comparison import compare, reference_of, windows_in
from tandem_runtime.artifacts.llm_compressor import quantize
from tandem_runtime.artifacts.long_context import finder_of, long_context_of
from tandem_runtime.artifacts.models import Models, loaded, tokenizer_of
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.task_files import InvalidTasksError, Task
from tandem_runtime.artifacts.tasks import score_of
from tandem_runtime.artifacts.texts import built_in

SOURCE, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
RECIPE = Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.RTN, kv_cache=KVCache.FP8)
TOKENIZER, TEXTS, PROGRESS = tokenizer_of(SOURCE), built_in()[1], Progress()
WINDOWS = windows_in(TEXTS, TOKENIZER)
ROW = torch.tensor([WINDOWS[0]])
answers: dict[str, Any] = {}


def artifact() -> Path:
    target = FOLDER / "artifact"
    target.mkdir()
    settings = CalibrationSettings(samples=8, sequence_tokens=256)
    quantize(SOURCE, target, RECIPE, calibration=settings, texts=None, progress=PROGRESS)
    return target


def altered(target: Path, name: str, scale: float | None) -> Path:
    """A copy whose cache has other scales, or none."""
    copy = FOLDER / name
    copy.mkdir()
    for path in target.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = {}
    for key, value in load_file(target / "model.safetensors").items():
        if not key.endswith(("k_scale", "v_scale")):
            weights[key] = value
        elif scale is not None:
            weights[key] = torch.full_like(value, scale)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


def logits(model: Any, *, use_cache: bool = False) -> torch.Tensor:
    with torch.inference_mode():
        return model(ROW, use_cache=use_cache).logits


def attention(model: Any) -> list[Any]:
    return [layer.self_attn for layer in model.model.layers]


def rounded(tensor: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """As an engine's cache keeps a value, written by hand."""
    return (tensor / scale).clamp(-448, 448).to(torch.float8_e4m3fn).to(tensor.dtype) * scale


def by_hand(model: Any) -> torch.Tensor:
    """Logits without what compressed-tensors does, keys and values rounded where attention takes them."""
    for layer in attention(model):
        layer.quantization_enabled = False
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend(module: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        kept = rounded(key, module.k_scale), rounded(value, module.v_scale)
        return plain(module, query, *kept, *rest, **options)

    ALL_ATTENTION_FUNCTIONS.register("rounded", attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register("rounded", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation("rounded")
    return logits(model)


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def divergence(models: Models) -> float:
    return compare(models, WINDOWS, evaluation="", progress=PROGRESS).kl_divergence


made = artifact()
models = loaded(SOURCE, made)
usual = logits(models.quantized)
answers["with a cache"] = far(usual, logits(models.quantized, use_cache=True))
answers["divergence"] = divergence(models)
found = long_context_of(models, TEXTS, tokenizer=TOKENIZER, tokens=2048, wanted_tokens=4096, progress=PROGRESS)
answers["long context"] = found.to_data()


class Beginning:
    """A tokenizer that puts a token before every text, as many do."""

    bos_token_id = 7

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [7, *TOKENIZER(text)["input_ids"]]}


answers["recorded"] = {
    "plain": reference_of(models, WINDOWS, TOKENIZER, manifest="m").to_data(),
    "begun": reference_of(models, WINDOWS, Beginning(), manifest="m").to_data(),
    "windows": [window[:24] for window in WINDOWS],
    "losses": (-torch.log_softmax(usual[0, :23].float(), -1)[torch.arange(23), ROW[0, 1:24]]).tolist(),
}
tokens, last = WINDOWS[1], 40
answers["found"] = [
    finder_of(model)(tokens, last) == model(torch.tensor([tokens])).logits[0, -last:].argmax(-1).tolist()
    for model in (models.source, models.quantized)
]
coarse = loaded(SOURCE, altered(made, "coarse", 1e3))
answers["coarse scales"] = far(usual, logits(coarse.quantized))
answers["divergence with coarse scales"] = divergence(coarse)
bare = loaded(SOURCE, altered(made, "bare", None)).quantized
answers["scales where there are none"] = [
    float(scale) for layer in attention(bare) for scale in (layer.k_scale, layer.v_scale)
]
answers["by hand"] = far(usual, by_hand(models.quantized))
for layer in attention(models.quantized):
    layer.k_scale.data.fill_(1e-9)
    layer.v_scale.data.fill_(1e-9)
models.quantized.set_attn_implementation("sdpa")
answers["cache as computed"] = far(usual, logits(models.quantized))

SUMS = Task(
    name="sums",
    settings={
        "task": "sums",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["1", "2"],
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
    },
    questions={"test": [{"question": f"{number} + 1 =", "answer": number % 2} for number in range(6)]},
    metric="acc,none",
)


def refused(text: str) -> str:
    task = replace(SUMS, settings={**SUMS.settings, "doc_to_text": text})
    try:
        return str(score_of(models.source, task, limit=0, tokenizer=TOKENIZER))
    except InvalidTasksError as error:
        return str(error)


mark = FOLDER / "mark"
ESCAPES = [
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ('{0.__class__.__mro__}').format(question) }}",
]
answers["escapes"] = [refused(text.replace("MARK", str(mark))) for text in ESCAPES]
answers["escaped"] = mark.exists()
answers["undefined"] = refused("{{ nothing }}")
answers["score"] = score_of(models.source, SUMS, limit=0, tokenizer=TOKENIZER)
answers["score of two"] = score_of(models.source, SUMS, limit=2, tokenizer=TOKENIZER)
sys.stdout.write(json.dumps(answers) + "\n")
