"""Which of our own loops serves a draft model."""

from __future__ import annotations

from pathlib import Path

import torch

from tandem_contracts.recipe import DraftScheme
from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.draft_server.graph_engine import GraphEngine
from tandem_runtime.draft_server.llama_engine import LlamaEngine
from tandem_runtime.draft_server.transformers_engine import TransformersEngine


def lean_engine_of(
    folder: Path, *, caches: int, depth: int, tokenizer_hash: str, scheme: DraftScheme | None = None
) -> DraftEngine:
    """Our own loop for a folder: graphs where there is a GPU, compiled for small Llamas, else over Transformers.

    `depth`: of the deepest draft. `scheme`: what becomes of the weights; the compiled loop reads plain ones only.
    Raises OSError or ValueError for a folder that holds no such model.
    """
    if torch.cuda.is_available():
        return GraphEngine.of_folder(
            folder, caches=caches, depth=depth, tokenizer_hash=tokenizer_hash, device="cuda", scheme=scheme
        )
    if scheme is not None:
        return TransformersEngine(folder, caches=caches, tokenizer_hash=tokenizer_hash, scheme=scheme)
    try:
        return LlamaEngine(folder, caches=caches, tokenizer_hash=tokenizer_hash)
    except ValueError:
        return TransformersEngine(folder, caches=caches, tokenizer_hash=tokenizer_hash)
