"""Loads a quantized model and its source by transformers, the quantized weights as their own format decodes them.

Where the recipe has the cache of keys and values in FP8, what goes into the cache is rounded to it here too, with the
scales of the files, in every pass and with or without a cache: compressed-tensors does that for whatever it loads.
An engine's kernel may round the queries besides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.modeling import KV_CACHE_ATTR
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError

_CACHE_SCALES = ("k_scale", "v_scale")


@dataclass(frozen=True)
class Models:
    """Both, on the same device and in the same type."""

    source: Any
    quantized: Any


def tokenizer_of(folder: Path) -> Any:
    """Of the model in `folder`."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def loaded(source: Path, artifact: Path) -> Models:
    """From their folders. Raises OSError, ValueError for no model, RefusedError for a cache that cannot be rounded."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    original = AutoModelForCausalLM.from_pretrained(
        source,
        dtype="auto",
        local_files_only=True,
        use_safetensors=True,  # a pickle beside other weights would be taken first
    )
    original = original.to(device).eval()
    # Decoded at once: left compressed, some formats are decoded at the first pass, into a type that the rest is not in.
    decoded, found = AutoModelForCausalLM.from_pretrained(
        artifact,
        dtype="auto",
        local_files_only=True,
        use_safetensors=True,
        quantization_config=CompressedTensorsConfig(dequantize=True),
        output_loading_info=True,
    )
    if _has_fp8_cache(artifact):
        _complete_cache(decoded, set(found["missing_keys"]))
    return Models(original, decoded.to(device, original.dtype).eval())


def _has_fp8_cache(artifact: Path) -> bool:
    config = json.loads((artifact / "config.json").read_text(encoding="utf-8"))
    return (config.get("quantization_config") or {}).get("kv_cache_scheme") is not None


def _complete_cache(model: Any, missing: set[str]) -> None:
    attention = [(name, module) for name, module in model.named_modules() if hasattr(module, KV_CACHE_ATTR)]
    if not attention:
        raise RefusedError(
            Reason.RECIPE_UNSUPPORTED, "the cache of keys and values is FP8, and no layer is known to have one"
        )
    for name, module in attention:
        for scale in _CACHE_SCALES:
            # As the engine does; what was in memory is left there otherwise.
            if f"{name}.{scale}" in missing:
                getattr(module, scale).data.fill_(1.0)
