"""Folders of models that are large and take no room: for whatever reads what a model is, and none of its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def make_folder(folder: Path, weights_bytes: int, *, text: str = "a", **config: Any) -> Path:
    """A model folder whose weight file takes so much, without taking it: it is a hole but for its header."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    tokenizer = {"model": {"type": "BPE", "vocab": {text: 0}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    tensor = {"dtype": "BF16", "shape": [weights_bytes // 2], "data_offsets": [0, weights_bytes // 2 * 2]}
    header = json.dumps({"weights": tensor}).encode()
    with (folder / "model.safetensors").open("wb") as weights:
        weights.write(len(header).to_bytes(8, "little") + header)
        weights.truncate(8 + len(header) + weights_bytes // 2 * 2)
    return folder
