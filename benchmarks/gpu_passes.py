"""Models with random weights, and how long their passes take: drafts by `GraphEngine`, verifying as a replayed graph.

Apart from `drafting_gpu`, since it needs torch and transformers to be imported at all.
"""

from __future__ import annotations

import random
import statistics
import time
from array import array
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from tandem_runtime.draft_server.engines import Ask
from tandem_runtime.draft_server.graph_engine import GraphEngine, attended, with_slots

Shape = Mapping[str, int]
Times = dict[int, dict[int, float]]
"""Milliseconds by batch and depth."""

WARM_UPS = 5
LONGEST = 1024
TIED_ABOVE = 100_000
"""Small models with a vocabulary above it use their embedding as their head, too."""
DRAWN = 1000
CHECKED_SHAPE = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": DRAWN,
}
CHECKED_LENGTHS = (1, 20, 300)
CHECKED_STEPS = 6
CHECKED_DEPTH = 8


class Launched(GraphEngine):
    """The same passes, each kernel launched by itself."""

    _replay = GraphEngine._compute  # noqa: SLF001 -- what a graph holds, without the graph


def compiled(model: Any, **options: Any) -> GraphEngine:
    """With kernels that torch.compile makes, in graphs of ours."""
    model.model.compile()
    return GraphEngine(model, **options)


WAYS: dict[str, Callable[..., GraphEngine]] = {
    "launched one by one": Launched,
    "graphs": GraphEngine,
    "graphs of compiled kernels": compiled,
}


def model_of(shape: Shape, *, dtype: torch.dtype, device: str, attn_implementation: str) -> Any:
    """A Llama with random weights, made where it will be."""
    config = LlamaConfig(**shape, max_position_embeddings=LONGEST, tie_word_embeddings=shape["vocab_size"] > TIED_ABOVE)
    config._attn_implementation = attn_implementation  # noqa: SLF001 -- from_pretrained does so
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def checked_drafts(device: str) -> tuple[int, int]:
    """How many drafts of a small model in full precision there were, and how many Transformers generates, too."""
    torch.manual_seed(5)
    options = {"dtype": torch.float32, "device": device}
    model = with_slots(model_of, CHECKED_SHAPE, **options)
    reference = model_of(CHECKED_SHAPE, **options, attn_implementation="eager")
    reference.load_state_dict(model.state_dict())
    engine = GraphEngine(model, caches=len(CHECKED_LENGTHS) - 1, depth=CHECKED_DEPTH, device=device)
    chance = random.Random(7)  # noqa: S311 -- the same each time
    contexts = [array("i", (chance.randrange(DRAWN) for _ in range(length))) for length in CHECKED_LENGTHS]
    drafted = same = 0
    for _ in range(CHECKED_STEPS):
        asks = [Ask((0, number), context, CHECKED_DEPTH) for number, context in enumerate(contexts)]
        for context, draft in zip(contexts, engine.draft(asks, is_due=lambda: False), strict=True):
            prompt = torch.tensor([context.tolist()], device=device)
            whole = reference.generate(prompt, max_new_tokens=CHECKED_DEPTH, do_sample=False, eos_token_id=None)
            drafted, same = drafted + 1, same + (draft == whole[0, len(context) :].tolist())
            context.extend([*draft[: chance.randrange(CHECKED_DEPTH + 1)], chance.randrange(DRAWN)])
    return drafted, same


class Drafting:
    """Drafts as a verifier asks for them that accepts some of each: contexts grow and are cut back."""

    def __init__(self, shape: Shape, make: Callable[..., GraphEngine], *, most: int, depth: int, device: str) -> None:
        model = with_slots(model_of, shape, dtype=torch.bfloat16, device=device)
        self._engine = make(model, caches=most, depth=depth, device=device)
        self._chance = random.Random(3)  # noqa: S311 -- the same each time

    def milliseconds(self, batch: int, depth: int, *, context: int, rounds: int) -> float:
        """From the asks to the tokens of all rows, the median of several."""
        contexts = [self._drawn(context) for _ in range(batch)]
        seconds = []
        for number in range(WARM_UPS + rounds):
            for tokens in contexts:
                tokens.extend(self._drawn(1 + self._chance.randrange(depth + 1)))
            asks = [Ask((0, at), tokens, depth) for at, tokens in enumerate(contexts)]
            begun = time.perf_counter()
            drafts = self._engine.draft(asks, is_due=lambda: False)
            if number >= WARM_UPS:
                seconds.append(time.perf_counter() - begun)
            if any(len(draft) != depth for draft in drafts):
                raise RuntimeError(f"{[len(draft) for draft in drafts]} tokens were drafted, {depth} were asked for")
        self._engine.forget([(0, at) for at in range(batch)])
        return 1000 * statistics.median(seconds)

    def _drawn(self, count: int) -> array[int]:
        return array("i", (self._chance.randrange(DRAWN) for _ in range(count)))


class Verifying:
    """Passes over a draft and the token before it, with keys and values in place."""

    def __init__(self, shape: Shape, *, context: int, depth: int, device: str) -> None:
        AttentionInterface.register("in_place", _in_place)
        options = {"dtype": torch.bfloat16, "device": device, "attn_implementation": "in_place"}
        self._model = model_of(shape, **options)
        self._context, self._length, self._device = context, context + depth + 8, device

    def milliseconds(self, batch: int, depth: int, *, rounds: int) -> float:
        """Of one pass for all rows, the median of several."""
        config, device = self._model.config, self._device
        size = config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, 2, batch, config.num_key_value_heads, self._length, size)
        kept = torch.zeros(shape, dtype=torch.bfloat16, device=device)
        tokens = torch.zeros((batch, depth + 1), dtype=torch.long, device=device)
        positions = torch.arange(self._context, self._context + depth + 1, device=device).expand(batch, -1)
        unseen = torch.arange(self._length, device=device) > positions[:, None, None, :, None]
        at = slice(self._context, self._context + depth + 1)

        def verify() -> None:
            output = self._model.model(
                input_ids=tokens, position_ids=positions, use_cache=False, kept=kept, unseen=unseen, at=at
            )
            self._model.lm_head(output.last_hidden_state).argmax(-1)

        with torch.inference_mode():
            replay = _graph_of(verify).replay if device == "cuda" else verify
            return 1000 * statistics.median(_seconds(replay, device) for _ in range(rounds))


def _seconds(compute: Callable[[], object], device: str) -> float:
    begun = time.perf_counter()
    compute()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _graph_of(compute: Callable[[], None]) -> torch.cuda.CUDAGraph:
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        compute()
        compute()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute()
    torch.cuda.synchronize()
    return graph


def _in_place(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    kept: torch.Tensor,
    unseen: torch.Tensor,
    at: slice,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    keys, values = kept[module.layer_idx]
    keys[:, :, at], values[:, :, at] = key, value
    return attended(query, keys, values, unseen=unseen, scale=query.shape[-1] ** -0.5).transpose(1, 2), None
