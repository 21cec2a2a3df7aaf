"""All contact with llm-compressor: one function that quantizes a folder into another.

Written against llm-compressor 0.14. What needs no data goes through the files shard by shard and never builds the
model, so memory follows the largest shard; the rest runs the model on calibration texts, layer by layer.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from llmcompressor import model_free_ptq, oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from transformers import AutoModelForCausalLM, AutoTokenizer

from tandem_contracts.recipe import Algorithm, CalibrationSettings, KVCache, Recipe
from tandem_contracts.termination import Phase, Reason
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.progress import Progress, bars_followed
from tandem_runtime.artifacts.texts import built_in, chat_of, read_texts, samples_of

SMOOTHING = 0.8
TOOLS = ("llmcompressor", "compressed-tensors", "torch", "transformers")
_FP8_CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
_M_MMAP_THRESHOLD = -3
"""mallopt(3)."""
_MAPPED_BYTES = 1 << 18
_EMBEDDINGS = "re:.*embed_tokens"
"""Without a model nobody knows that it is no linear layer."""

_REFUSALS = (ValueError, LookupError, AttributeError, TypeError, RuntimeError)
"""What llm-compressor raises for a model that it does not know how to treat: the next try would end in the same way."""

if not torch.accelerator.is_available():
    # llm-compressor 0.14 pins what AWQ caches for an accelerator that is not there, which ends it.
    IntermediatesCache.pin_memory = lambda self, *_, **__: self


def quantize(
    source: Path,
    target: Path,
    recipe: Recipe,
    *,
    calibration: CalibrationSettings,
    texts: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """Fill the empty folder `target`; how it was done, for the manifest.

    Raises RefusedError for a model that llm-compressor does not know how to treat, InvalidTextsError, OSError.
    """
    how: dict[str, Any] = {
        "tools": {name: importlib.metadata.version(name) for name in TOOLS},
        "threads": torch.get_num_threads(),
        "device": "cpu" if not torch.accelerator.is_available() else torch.cuda.get_device_name(0),
    }
    with bars_followed(progress, Phase.QUANTIZE):
        if not recipe.needs_calibration:
            _by_files(source, target, recipe)
            return how
        return {**how, "calibration": _by_running(source, target, recipe, calibration, texts)}


def _return_what_is_freed() -> None:
    """Have the C library give large blocks back as soon as they are freed.

    By itself it keeps blocks of up to 32 MB once one of such a size was freed, and weights that are replaced by smaller
    ones leave holes: a model that was being compressed took 2.6 bytes for each of its own, and takes 1.3 so.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc alone
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def _by_files(source: Path, target: Path, recipe: Recipe) -> None:
    _return_what_is_freed()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ignore = [*recipe.ignore, _EMBEDDINGS]
    try:
        model_free_ptq(str(source), str(target), scheme=recipe.scheme.value, ignore=ignore, device=device)
    except _REFUSALS as error:
        raise _unsupported(recipe, error) from error


def _by_running(
    source: Path, target: Path, recipe: Recipe, calibration: CalibrationSettings, texts: Path | None
) -> dict[str, Any]:
    # No code of the model's own, no pickle, and nothing is downloaded.
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    given = built_in()[0] if texts is None else read_texts(texts, chat=chat_of(tokenizer))
    samples = samples_of(
        given,
        lambda text: list(tokenizer(text, verbose=False)["input_ids"]),
        samples=calibration.samples,
        tokens=calibration.sequence_tokens,
        seed=calibration.seed,
    )
    data = Dataset.from_dict({"input_ids": samples, "attention_mask": [[1] * len(sample) for sample in samples]})
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", local_files_only=True, use_safetensors=True)
    try:
        oneshot(
            model=model,
            recipe=_modifiers(recipe),
            dataset=data,
            max_seq_length=calibration.sequence_tokens,
            num_calibration_samples=len(samples),
            shuffle_calibration_samples=False,
        )
    except _REFUSALS as error:
        raise _unsupported(recipe, error) from error
    _return_what_is_freed()
    model.save_pretrained(target, save_compressed=True)
    tokenizer.save_pretrained(target)
    return {
        "texts": given.name,
        "digest": given.digest,
        "documents": list(given.digests),
        "settings": calibration.to_data(),
        "samples": len(samples),
        "tokens": sum(map(len, samples)),
    }


def _modifiers(recipe: Recipe) -> list[Any]:
    named: dict[str, Any] = {"targets": "Linear", "scheme": recipe.scheme.value, "ignore": list(recipe.ignore)}
    if recipe.kv_cache is KVCache.FP8:
        named["kv_cache_scheme"] = _FP8_CACHE
    match recipe.algorithm:
        case Algorithm.RTN:
            return [QuantizationModifier(**named)]
        case Algorithm.GPTQ:
            return [GPTQModifier(**named)]
        case Algorithm.SMOOTH_QUANT_GPTQ:
            return [SmoothQuantModifier(smoothing_strength=SMOOTHING), GPTQModifier(**named)]
        case Algorithm.AWQ:
            return [AWQModifier(duo_scaling="both"), QuantizationModifier(**named)]


def _unsupported(recipe: Recipe, error: Exception) -> RefusedError:
    told = " ".join(str(error).split())[:500]
    return RefusedError(
        Reason.RECIPE_UNSUPPORTED, f"{recipe.scheme} by {recipe.algorithm}: llm-compressor refuses this model: {told}"
    )
