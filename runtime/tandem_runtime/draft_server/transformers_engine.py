"""Drafts with any causal model that Transformers loads: one flat batch of ragged rows, KV kept by session.

The rows' new tokens lie one after the other in a batch of one; the model's linear layers see them as one matrix. Its
attention is ours (Transformers' attention interface): each row attends to its own keys and values, which stay from one
call to the next and are cut back to where a context and what was drafted for it part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AutoModelForCausalLM

from tandem_contracts.recipe import DraftScheme
from tandem_runtime.draft_server.quantized import loading_options
from tandem_runtime.draft_server.ragged import RaggedEngine, Row

ATTENTION = "tandem_ragged"
FIRST_ROOM = 256


@dataclass(slots=True)
class _Cache:
    """Keys and values of one context in every layer, [heads, room, size], of which the beginning is filled."""

    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)


class TransformersEngine(RaggedEngine[_Cache]):
    """A `DraftEngine`. Raises OSError or ValueError for a folder that holds no such model."""

    name = "transformers"

    def __init__(
        self,
        folder: Path,
        *,
        caches: int,
        tokenizer_hash: str = "",
        device: str = "cpu",
        scheme: DraftScheme | None = None,
    ) -> None:
        super().__init__(caches=caches)
        AttentionInterface.register(ATTENTION, _attend)
        options = loading_options(folder, scheme, device=device)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation=ATTENTION, local_files_only=True, **options
        )
        self._model.to(device).eval()
        self._device = device
        settings = self._model.config.get_text_config()
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary: int = settings.vocab_size
        self.context_limit: int = settings.max_position_embeddings

    def _new_cache(self) -> _Cache:
        return _Cache()

    @torch.inference_mode()
    def _pass(self, rows: Sequence[Row[_Cache]]) -> list[int]:
        flat = [token for row in rows for token in row.fresh]
        positions = [len(row.kept.tokens) + at for row in rows for at in range(len(row.fresh))]
        ends = torch.tensor([len(row.fresh) for row in rows]).cumsum(0) - 1
        output = self._model.model(
            input_ids=torch.tensor([flat], device=self._device),
            position_ids=torch.tensor([positions], device=self._device),
            use_cache=False,
            rows=rows,
        )
        logits = self._model.lm_head(output.last_hidden_state[0, ends.to(self._device)])
        found: list[int] = logits.argmax(-1).tolist()
        return found


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    rows: Sequence[Row[_Cache]],
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each row to itself; query, key and value are [1, heads, tokens of all rows, size]."""
    found, begin = torch.empty_like(query), 0
    for row in rows:
        end = begin + len(row.fresh)
        keys, values = _kept_with(row, module.layer_idx, key[0, :, begin:end], value[0, :, begin:end])
        count = end - begin
        mask = None if count == 1 else _causal(count, keys.shape[1], query.device)
        found[0, :, begin:end] = scaled_dot_product_attention(
            query[0, :, begin:end], keys, values, attn_mask=mask, scale=scaling, enable_gqa=True
        )
        begin = end
    return found.transpose(1, 2), None


def _causal(count: int, length: int, device: torch.device) -> torch.Tensor:
    """Which of `length` tokens the last `count` of them see."""
    return torch.ones(count, length, dtype=torch.bool, device=device).tril(length - count)


def _kept_with(
    row: Row[_Cache], layer: int, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """All keys and values of a row in this layer, the new ones among them."""
    cache, begin = row.kept.cache, len(row.kept.tokens)
    end = begin + key.shape[1]
    if layer == len(cache.keys):
        room = max(FIRST_ROOM, end)
        cache.keys.append(key.new_empty((key.shape[0], room, key.shape[2])))
        cache.values.append(value.new_empty((value.shape[0], room, value.shape[2])))
    if end > cache.keys[layer].shape[1]:
        room = max(end, 2 * cache.keys[layer].shape[1])
        cache.keys[layer] = _grown(cache.keys[layer], room, begin)
        cache.values[layer] = _grown(cache.values[layer], room, begin)
    cache.keys[layer][:, begin:end] = key
    cache.values[layer][:, begin:end] = value
    return cache.keys[layer][:, :end], cache.values[layer][:, :end]


def _grown(tensor: torch.Tensor, room: int, filled: int) -> torch.Tensor:
    larger = tensor.new_empty((tensor.shape[0], room, tensor.shape[2]))
    larger[:, :filled] = tensor[:, :filled]
    return larger
