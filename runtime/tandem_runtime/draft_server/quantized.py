"""How a draft model is quantized while Transformers loads it: by bitsandbytes, for our loops on Transformers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from tandem_contracts.recipe import DraftScheme


def loading_options(folder: Path, scheme: DraftScheme | None, *, device: str) -> dict[str, Any]:
    """What `from_pretrained` gets beside the folder; nothing without a scheme.

    Raises OSError or ValueError for a folder without a configuration.
    """
    if scheme is None:
        return {}
    # It warns at every product that float32 becomes float16, and at each start of a package that would be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return {"quantization_config": _config(folder, scheme), "device_map": {"": device}}


def _config(folder: Path, scheme: DraftScheme) -> Any:
    if scheme is DraftScheme.INT8:
        # No threshold for outliers: they are sought in the whole batch, so that a draft would depend on the other rows
        # in it, and a GPU would have to be waited for in the middle of a graph.
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    dtype = AutoConfig.from_pretrained(folder, local_files_only=True).dtype or torch.float32
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
