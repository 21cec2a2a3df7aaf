"""Small Llama-shaped drafts on a CPU: the whole pass is one compiled call (`llama_kernels`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama import LlamaForCausalLM

from tandem_runtime.draft_server.llama_kernels import passed
from tandem_runtime.draft_server.ragged import RaggedEngine, Row

MOST_PARAMETERS = 50_000_000
"""Above it the arithmetic is what counts, and torch's is better."""
TOKENS_OF_A_PASS = 128
"""A long context is taken in piece by piece: what a pass holds besides the caches stays small."""


class LlamaEngine(RaggedEngine[int]):
    """A `DraftEngine`. A context's cache is a slot in two arrays, of which memory is taken only as it is filled."""

    name = "llama"

    def __init__(self, folder: Path, *, caches: int, tokenizer_hash: str = "") -> None:
        super().__init__(caches=caches)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        if not is_served(model):
            raise ValueError(f"{folder}: {type(model).__name__} is no small model of Llama's shape")
        config = model.config
        size = config.head_dim
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary: int = config.vocab_size
        self.context_limit: int = config.max_position_embeddings
        shape = (caches, config.num_hidden_layers, config.num_key_value_heads, self.context_limit, size)
        self._keys, self._values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._free_slots = list(range(caches))
        self._weights = _weights(model, self.context_limit)

    def _new_cache(self) -> int:
        return self._free_slots.pop()

    def _free(self, cache: int) -> None:
        self._free_slots.append(cache)

    def _pass(self, rows: Sequence[Row[int]]) -> list[int]:
        found: list[int] = []
        begin = [0] * len(rows)
        for at, row in enumerate(rows):  # all but the last piece of a long one, by itself
            while len(row.fresh) - begin[at] > TOKENS_OF_A_PASS:
                self._compute([(row, begin[at], begin[at] + TOKENS_OF_A_PASS)])
                begin[at] += TOKENS_OF_A_PASS
        pieces: list[tuple[Row[int], int, int]] = []
        for at, row in enumerate(rows):
            pieces.append((row, begin[at], len(row.fresh)))
            if at + 1 == len(rows) or sum(last - first for _, first, last in pieces) >= TOKENS_OF_A_PASS:
                found += self._compute(pieces)
                pieces = []
        return found

    def _compute(self, pieces: Sequence[tuple[Row[int], int, int]]) -> list[int]:
        """One call of the kernel; the most likely token after each piece."""
        counts = [last - first for _, first, last in pieces]
        tokens = np.fromiter((t for row, first, last in pieces for t in row.fresh[first:last]), np.int64)
        positions = np.fromiter(
            (len(row.kept.tokens) + at for row, first, last in pieces for at in range(first, last)), np.int64
        )
        slots = np.repeat(np.array([row.kept.cache for row, _, _ in pieces]), counts)
        found = np.zeros(len(pieces), np.int64)
        passed(tokens, positions, slots, np.cumsum(counts) - 1, self._keys, self._values, *self._weights, found)
        answer: list[int] = found.tolist()
        return answer


def is_served(model: Any) -> bool:
    """Whether the kernel computes what this model does."""
    config = model.config
    return (
        isinstance(model, LlamaForCausalLM)
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and config.rope_parameters.get("rope_type", "default") == "default"
        and model.num_parameters() <= MOST_PARAMETERS
    )


def _weights(model: Any, room: int) -> tuple[Any, ...]:
    """In the order of the kernel's parameters."""

    def stacked(parts: Sequence[Sequence[Any]]) -> Any:
        return np.ascontiguousarray(np.stack([np.concatenate([part.detach().numpy() for part in p]) for p in parts]))

    layers, config = model.model.layers, model.config
    attention = [layer.self_attn for layer in layers]
    frequencies = 1.0 / config.rope_parameters["rope_theta"] ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    angles = np.outer(np.arange(room), frequencies)
    norms = np.stack(
        [
            np.stack([layer.input_layernorm.weight.detach(), layer.post_attention_layernorm.weight.detach()])
            for layer in layers
        ]
    )
    return (
        model.model.embed_tokens.weight.detach().numpy(),
        stacked([[a.q_proj.weight, a.k_proj.weight, a.v_proj.weight] for a in attention]),
        stacked([[a.o_proj.weight] for a in attention]),
        stacked([[layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight] for layer in layers]),
        stacked([[layer.mlp.down_proj.weight] for layer in layers]),
        norms,
        model.model.norm.weight.detach().numpy(),
        np.ascontiguousarray(model.lm_head.weight.detach().numpy()),
        np.cos(angles).astype(np.float32),
        np.sin(angles).astype(np.float32),
        np.float32(config.rms_norm_eps),
    )
