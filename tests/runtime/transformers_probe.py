"""Runs inside the engine environment: writes small models of several kinds, and says what Transformers makes of them.

Arguments: a model folder and an empty folder. The answer has two transcripts of draft_scenario.py for the model, by our
engine on Transformers and by `generate`, and one for each model that was written, by `generate`, by its folder.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from draft_scenario import CACHES, DEPTH, transcript_of
from transformers import AutoConfig, AutoModelForCausalLM

from tandem_runtime.draft_server.engines import Ask
from tandem_runtime.draft_server.transformers_engine import TransformersEngine

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3, "attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": None, "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}},
    "qwen2": {"tie_word_embeddings": True, "dtype": "bfloat16"},
    "qwen3": {"tie_word_embeddings": False},
}


def generated(model: Any, contexts: Sequence[array[int]]) -> list[list[int]]:
    drafts = []
    for context in contexts:
        prompt = torch.tensor([context.tolist()])
        everything = torch.ones_like(prompt)  # without it, what looks like padding would be masked
        whole = model.generate(
            prompt, attention_mask=everything, max_new_tokens=DEPTH, do_sample=False, eos_token_id=None
        )
        drafts.append(whole[0, len(context) :].tolist())
    return drafts


def reference(folder: Path) -> list[list[list[int]]]:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    return transcript_of(lambda contexts: generated(model, contexts), model.config.vocab_size)


def write(kind: str, folder: Path) -> None:
    torch.manual_seed(11)
    settings = dict(KINDS[kind])
    dtype = getattr(torch, settings.pop("dtype", "float32"))
    config = AutoConfig.for_model(kind, **(SHAPE | settings))
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():  # biases and norms that are not what an untrained model begins with
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)


def main(model: Path, target: Path) -> None:
    engine = TransformersEngine(model, caches=CACHES)
    keys: dict[int, tuple[int, int]] = {}

    def draft(contexts: Sequence[array[int]]) -> list[list[int]]:
        asks = [Ask(keys.setdefault(id(context), (0, len(keys))), context, DEPTH) for context in contexts]
        return engine.draft(asks, is_due=lambda: False)

    found = {"engine": transcript_of(draft, engine.vocabulary), "generate": reference(model)}
    for kind in KINDS:
        folder = target / kind
        write(kind, folder)
        found[kind] = reference(folder)
    sys.stdout.write(json.dumps(found) + "\n")


main(Path(sys.argv[1]), Path(sys.argv[2]))
