"""Which engine serves a draft model."""

from __future__ import annotations

from pathlib import Path

from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.draft_server.llama_engine import LlamaEngine
from tandem_runtime.draft_server.transformers_engine import TransformersEngine


def lean_engine_of(folder: Path, *, caches: int, tokenizer_hash: str) -> DraftEngine:
    """Our own loop for a folder: compiled for small drafts of Llama's shape, else over Transformers.

    Raises OSError or ValueError for a folder that holds no such model.
    """
    try:
        return LlamaEngine(folder, caches=caches, tokenizer_hash=tokenizer_hash)
    except ValueError:
        return TransformersEngine(folder, caches=caches, tokenizer_hash=tokenizer_hash)
