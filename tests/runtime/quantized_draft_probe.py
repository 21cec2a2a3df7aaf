"""Runs inside the engine environment: drafts in each form beside those of the plain model, and the memory of each.

Arguments: a model folder and a file with prompts, one JSON object a line. JSON by form, plain for the model as it is:
`engine` that serves it, `bytes` of weights, scales and buffers, tokens `drafted`, how many of them are the `same` as
the plain model's, and `in_graphs` those of the loop for GPUs, which computes pass by pass here; the `pass_ms` of one
token for one context on one thread, the median.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from tandem_contracts.recipe import DraftScheme
from tandem_runtime.draft_server.choice import lean_engine_of
from tandem_runtime.draft_server.engines import Ask, DraftEngine, warm_up
from tandem_runtime.draft_server.graph_engine import GraphEngine
from tandem_runtime.draft_server.transformers_engine import TransformersEngine

CONTEXTS = 32
DEPTH = 4
TIMED_PASSES = 60


def bytes_of(model: Any) -> int:
    """What the model occupies; `get_memory_footprint` knows nothing of the scales of quantized weights."""
    scales = 0
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        scale = getattr(module, "state", None) and (module.weight.SCB if module.state.SCB is None else module.state.SCB)
        scales += state.absmax.nbytes if state is not None else 0
        scales += scale.nbytes if scale is not None else 0
    return int(model.get_memory_footprint()) + scales


def drafted(engine: DraftEngine, contexts: list[array[int]]) -> list[list[int]]:
    asks = [Ask((0, number), context, DEPTH) for number, context in enumerate(contexts)]
    return engine.draft(asks, is_due=lambda: False)


def same(drafts: list[list[int]], others: list[list[int]]) -> int:
    """Tokens at the same place of both."""
    pairs = zip(drafts, others, strict=True)
    return sum(token == other for pair in pairs for token, other in zip(*pair, strict=True))


def pass_ms(engine: DraftEngine, context: array[int]) -> float:
    """Of one token after another, as a draft is made."""
    growing, times = array("i", context), []
    for _ in range(TIMED_PASSES):
        begun = time.perf_counter()
        growing.extend(engine.draft([Ask((1, 0), growing, 1)], is_due=lambda: False)[0])
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def main(folder: Path, prompts: Path) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()[:CONTEXTS]]
    contexts = [array("i", tokenizer(text)["input_ids"]) for text in texts]
    found: dict[str, dict[str, Any]] = {}
    plain: list[list[int]] = []
    for scheme in (None, *DraftScheme):
        engine = lean_engine_of(folder, caches=CONTEXTS + 1, depth=DEPTH, tokenizer_hash="", scheme=scheme)
        loaded = engine if isinstance(engine, TransformersEngine) else TransformersEngine(folder, caches=1)
        size = bytes_of(loaded._model)
        warm_up(engine)
        drafts = drafted(engine, contexts)
        plain = plain or drafts
        graphs = GraphEngine.of_folder(
            folder, caches=CONTEXTS, depth=DEPTH, tokenizer_hash="", device="cpu", scheme=scheme
        )
        found[scheme or "plain"] = {
            "engine": engine.name,
            "bytes": size,
            "drafted": sum(map(len, drafts)),
            "same": same(drafts, plain),
            "in_graphs": same(drafted(graphs, contexts), plain),
            "pass_ms": pass_ms(engine, contexts[0]),
        }
    sys.stdout.write(json.dumps(found) + "\n")


main(Path(sys.argv[1]), Path(sys.argv[2]))
