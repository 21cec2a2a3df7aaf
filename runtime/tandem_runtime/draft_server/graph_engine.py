"""Drafts on an accelerator: batches of fixed shapes over one cache, a slot for each context, replayed as CUDA graphs.

A small model's pass takes less time on the device than its kernels take to be launched one by one. A graph launches
them all at once, but computes always the same shapes in the same memory: rows, tokens of a row and length are rounded
up, what is too much goes where nobody reads it, and a draft's tokens stay on the device until the last one is there.

What lies in a slot beyond a context's own tokens is never looked at and is written over by what comes: cutting a
context back costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AutoModelForCausalLM

from tandem_contracts.recipe import DraftScheme
from tandem_runtime.draft_server.quantized import loading_options
from tandem_runtime.draft_server.ragged import RaggedEngine, Row

ATTENTION = "tandem_slots"
LEAST_LENGTH = 256
MOST_ROWS = 64
WIDTHS = (1, 16)
"""Tokens of a row that are computed by a graph: one of a draft, or what was accepted of the last one and a token."""
PIECE_TOKENS = 512
"""A long context is taken in by pieces of so many tokens, without a graph."""
SHARE_OF_MEMORY = 0.8
AHEAD = 2
"""Passes that the device may be behind: enough for it never to wait, few enough to stop in time."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a pass: all three are powers of two, `length` covers what any of the rows looks at."""

    rows: int
    width: int
    length: int


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the tokens of a pass lie: slots [rows], positions [rows, width]; unseen: see `attended`."""

    slots: torch.Tensor
    positions: torch.Tensor
    unseen: torch.Tensor
    length: int


class _Batch:
    """The memory that the passes of so many rows read and write; all on the device."""

    def __init__(self, rows: int, *, depth: int, device: torch.device) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        self.slots, self.bases = zeros(rows), zeros(rows)
        self.fresh = {width: zeros(rows, width) for width in WIDTHS}
        self.counts = torch.ones(rows, dtype=torch.long, device=device)
        self.at, self.drafts = zeros(1), zeros(rows, depth)


def with_slots(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """A model that `make`, a constructor of Transformers, makes with the attention that `GraphEngine` needs."""
    # Compiled, it would copy the whole cache for what it writes there.
    AttentionInterface.register(ATTENTION, torch.compiler.disable(_attend))
    return make(*arguments, attn_implementation=ATTENTION, **options)


class GraphEngine(RaggedEngine[int]):
    """A `DraftEngine` over any causal model of Transformers. On a device without graphs it computes pass by pass."""

    name = "transformers-graphs"

    def __init__(self, model: Any, *, caches: int, depth: int, tokenizer_hash: str = "", device: str = "cuda") -> None:
        """`model` was loaded with `attn_implementation=ATTENTION`. `depth`: the deepest draft.

        `caches`: contexts whose keys and values are kept; where memory is short, they are shorter than the model's.
        """
        super().__init__(caches=caches)
        self._model: Any = model.to(device).eval()
        self._device, self._depth = torch.device(device), depth
        settings = model.config.get_text_config()
        heads = settings.num_key_value_heads
        size = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
        slots = caches + 1  # of which one is for rows that only fill a batch up
        token_bytes = 2 * settings.num_hidden_layers * heads * size * model.dtype.itemsize
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary: int = settings.vocab_size
        self.context_limit: int = min(
            settings.max_position_embeddings, _memory_bytes(self._device) // (slots * token_bytes) - depth
        )
        self._room: int = self.context_limit + depth  # what is drafted past the end needs a place, too
        shape = (settings.num_hidden_layers, slots, self._room, 2, heads, size)  # 2: keys and values
        self._cache = torch.zeros(shape, dtype=model.dtype, device=device)
        self._free_slots = list(range(caches))
        self._batches: dict[int, _Batch] = {}
        self._graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        self._pool: Any = torch.cuda.graph_pool_handle() if self._device.type == "cuda" else None

    @classmethod
    def of_folder(
        cls,
        folder: Path,
        *,
        caches: int,
        depth: int,
        tokenizer_hash: str,
        device: str,
        scheme: DraftScheme | None = None,
    ) -> GraphEngine:
        """Raises OSError or ValueError for a folder that holds no causal model.

        Kernels that torch.compile has made take 1.6 times less in a graph than Transformers' own (`drafting_gpu`).
        bitsandbytes' are not its to make, and Transformers takes what they quantize for no model to be compiled.
        """
        options = loading_options(folder, scheme, device=device)
        model = with_slots(AutoModelForCausalLM.from_pretrained, folder, local_files_only=True, dtype="auto", **options)
        if device == "cuda" and scheme is None:
            model.model.compile()
        return cls(model, caches=caches, depth=depth, tokenizer_hash=tokenizer_hash, device=device)

    def _new_cache(self) -> int:
        return self._free_slots.pop()

    def _free(self, cache: int) -> None:
        self._free_slots.append(cache)

    def _pass(self, rows: Sequence[Row[int]]) -> list[int]:
        raise NotImplementedError("a whole draft is computed at once: see _run")

    def _run(self, rows: Sequence[Row[int]], is_due: Callable[[], bool]) -> None:
        with torch.inference_mode():
            for begin in range(0, len(rows), MOST_ROWS):
                self._run_batch(rows[begin : begin + MOST_ROWS], is_due)

    def _run_batch(self, rows: Sequence[Row[int]], is_due: Callable[[], bool]) -> None:
        rests = [self._taken_in(row) for row in rows]
        passes = max(max(row.depth - len(row.draft) for row in rows), 1)
        batch, count = self._batch(len(rows)), len(rows)
        width = next(width for width in WIDTHS if width >= max(map(len, rests)))
        bases = [len(row.kept.tokens) + len(row.fresh) - len(rest) for row, rest in zip(rows, rests, strict=True)]
        length = max(base + len(rest) for base, rest in zip(bases, rests, strict=True)) + passes
        self._fill(batch, rows, rests, bases=bases, width=width)
        shape = Shape(len(batch.slots), width, self._length(length))
        computed = self._passes(batch, shape, count=passes, is_due=is_due)
        for row, tokens in zip(rows, batch.drafts[:count, :computed].tolist(), strict=True):
            for token in tokens:
                if not row.is_done:
                    row.computed(token)

    def _taken_in(self, row: Row[int]) -> list[int]:
        """Compute what of the fresh tokens a graph has no room for; the rest of them."""
        base, rest = len(row.kept.tokens), row.fresh
        while len(rest) > WIDTHS[-1]:
            piece = rest[: min(PIECE_TOKENS, len(rest) - 1)]
            end = base + len(piece)
            places = self._places(
                torch.tensor([row.kept.cache], device=self._device),
                torch.tensor([base], device=self._device),
                Shape(1, len(piece), self._length(end)),
            )
            self._hidden(torch.tensor([piece], device=self._device), places)
            base, rest = end, rest[len(piece) :]
        return rest

    def _fill(
        self, batch: _Batch, rows: Sequence[Row[int]], rests: Sequence[list[int]], *, bases: Sequence[int], width: int
    ) -> None:
        """What the first pass reads; rows beyond those that there are write where nobody reads."""
        lacking = len(batch.slots) - len(rows)
        batch.slots.copy_(torch.tensor([row.kept.cache for row in rows] + [self._caches] * lacking))
        batch.bases.copy_(torch.tensor([*bases] + [0] * lacking))
        batch.counts.copy_(torch.tensor([len(rest) for rest in rests] + [1] * lacking))
        batch.fresh[width].copy_(
            torch.tensor([rest + [0] * (width - len(rest)) for rest in rests] + [[0] * width] * lacking)
        )
        batch.at.zero_()

    def _passes(self, batch: _Batch, shape: Shape, *, count: int, is_due: Callable[[], bool]) -> int:
        """Up to so many passes, the first with all fresh tokens; how many there were."""
        behind: list[torch.cuda.Event] = []
        for number in range(count):
            self._replay(batch, shape if number == 0 else Shape(shape.rows, 1, shape.length))
            if self._device.type == "cuda":
                behind.append(torch.cuda.Event())
                behind[-1].record()
                if len(behind) > AHEAD:
                    behind.pop(0).synchronize()
            if is_due():
                return number + 1
        return count

    def _replay(self, batch: _Batch, shape: Shape) -> None:
        if self._device.type != "cuda":
            self._compute(batch, shape)
            return
        if shape not in self._graphs:
            self._graphs[shape] = self._captured(batch, shape)
        self._graphs[shape].replay()

    def _captured(self, batch: _Batch, shape: Shape) -> torch.cuda.CUDAGraph:
        """The pass as a graph. It is computed twice before, as capturing demands, on slots that nobody reads."""
        changed = (batch.slots, batch.bases, batch.counts, batch.at, batch.drafts, batch.fresh[1])
        before = [tensor.clone() for tensor in changed]
        batch.slots.fill_(self._caches)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                batch.at.zero_()
                self._compute(batch, shape)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._compute(batch, shape)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        return graph

    def _compute(self, batch: _Batch, shape: Shape) -> None:
        """One pass, after which the batch holds what the next one reads: one token more for every row."""
        fresh = batch.fresh[shape.width]
        hidden = self._hidden(fresh, self._places(batch.slots, batch.bases, shape))
        last = hidden[torch.arange(shape.rows, device=self._device), batch.counts - 1]
        token = self._model.lm_head(last).argmax(-1)
        batch.bases.add_(batch.counts)
        batch.counts.fill_(1)
        batch.drafts.index_copy_(1, batch.at, token[:, None])
        batch.at.add_(1)
        batch.fresh[1].copy_(token[:, None])

    def _places(self, slots: torch.Tensor, bases: torch.Tensor, shape: Shape) -> _Places:
        positions = bases[:, None] + torch.arange(shape.width, device=self._device)
        positions = positions.clamp(max=self._room - 1)
        unseen = torch.arange(shape.length, device=self._device) > positions[:, None, None, :, None]
        return _Places(slots, positions, unseen, shape.length)

    def _hidden(self, tokens: torch.Tensor, places: _Places) -> torch.Tensor:
        """The last layer's states, [rows, width, size]."""
        output = self._model.model(
            input_ids=tokens,
            position_ids=places.positions,
            use_cache=False,
            places=places,
            kept=self._cache,
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def _length(self, needed: int) -> int:
        return min(_power_of_two(needed, LEAST_LENGTH), self._room)

    def _batch(self, rows: int) -> _Batch:
        size = _power_of_two(rows, 1)
        if size not in self._batches:
            self._batches[size] = _Batch(size, depth=self._depth, device=self._device)
        return self._batches[size]


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    places: _Places,
    kept: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each row to its slot; query, key and value are [rows, heads, width, size]."""
    cache = kept[module.layer_idx]
    cache[places.slots[:, None], places.positions] = torch.stack((key, value), 2).permute(0, 3, 2, 1, 4)
    keys, values = cache[:, : places.length][places.slots].permute(2, 0, 3, 1, 4)
    found = attended(
        query,
        keys,
        values,
        unseen=places.unseen,
        scale=scaling or query.shape[-1] ** -0.5,
    )
    return found.transpose(1, 2), None


def attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, unseen: torch.Tensor, scale: float
) -> torch.Tensor:
    """softmax(scale q k^T) v of what is not `unseen`, [rows, 1, 1, width, length].

    query: [rows, heads, width, size]; keys and values: [rows, heads or a divisor of them, length, size]. In plain
    products, since the fused kernels give all keys of a head to one multiprocessor: with few queries the others idle.
    Heads that share keys stand side by side as queries of one, so that no key is copied for each of them.
    """
    rows, heads, width, size = query.shape
    shared_by = heads // keys.shape[1]
    scores = scale * query.reshape(rows, keys.shape[1], shared_by * width, size) @ keys.transpose(2, 3)
    scores = scores.view(rows, keys.shape[1], shared_by, width, -1).masked_fill(unseen, float("-inf"))
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights.view(rows, keys.shape[1], shared_by * width, -1) @ values).view(rows, heads, width, size)


def _memory_bytes(device: torch.device) -> int:
    """What caches may take: most of what is free after the model was loaded. Elsewhere it is taken as it is filled."""
    if device.type != "cuda":
        return sys.maxsize
    free_bytes: int = torch.cuda.mem_get_info(device)[0]
    return int(SHARE_OF_MEMORY * free_bytes)


def _power_of_two(number: int, least: int) -> int:
    """The smallest that is neither below `number` nor below `least`."""
    power: int = 1 << (number - 1).bit_length()
    return max(least, power)
