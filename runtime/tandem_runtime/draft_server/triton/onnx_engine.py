"""Drafts with an exported graph in ONNX Runtime: a batch of ragged rows, padded; KV kept by session.

Knows nothing of Triton, which runs it: it is a draft engine like any other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tandem_runtime.draft_server.ragged import RaggedEngine, Row
from tandem_runtime.draft_server.triton.served_model import GRAPH_FILE, Shape

FIRST_ROOM = 256
TOKENS_OF_A_PASS = 128
"""A long context is taken in piece by piece: what a pass holds besides the caches stays small."""
THREADS_VARIABLE = "OMP_NUM_THREADS"


@dataclass(slots=True)
class _Cache:
    """Keys and values of one context, [layers, 2, heads, room, size], of which the beginning is filled."""

    filled: Any


class OnnxEngine(RaggedEngine[_Cache]):
    """A `DraftEngine`. Raises what ONNX Runtime raises for a graph that it cannot run."""

    name = "onnx"

    def __init__(self, folder: Path, shape: Shape, *, caches: int, tokenizer_hash: str = "") -> None:
        super().__init__(caches=caches)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get(THREADS_VARIABLE, "0"))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = onnxruntime.get_available_providers()
        self._session = onnxruntime.InferenceSession(str(folder / GRAPH_FILE), options, providers=providers)
        self._shape = shape
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary, self.context_limit = shape.vocabulary, shape.context_limit
        layers = range(shape.layers)
        self._kept_names = [(f"keys.{layer}", f"values.{layer}") for layer in layers]
        self._outputs = ["next", *(f"new_{name}" for names in self._kept_names for name in names)]

    def _new_cache(self) -> _Cache:
        return _Cache(self._room_for(FIRST_ROOM))

    def _room_for(self, tokens: int) -> Any:
        shape = self._shape
        return np.zeros((shape.layers, 2, shape.heads, tokens, shape.size), np.float32)

    def _pass(self, rows: Sequence[Row[_Cache]]) -> list[int]:
        begins = [0] * len(rows)
        for at, row in enumerate(rows):  # all but the last piece of a long one, by itself
            while len(row.fresh) - begins[at] > TOKENS_OF_A_PASS:
                end = begins[at] + TOKENS_OF_A_PASS
                self._compute([_Piece(row, begins[at], end)])
                begins[at] = end
        return self._compute([_Piece(row, begin, len(row.fresh)) for row, begin in zip(rows, begins, strict=True)])

    def _compute(self, pieces: Sequence[_Piece]) -> list[int]:
        """One pass; the most likely token after each piece."""
        counts = np.array([piece.end - piece.begin for piece in pieces])
        starts = np.array([piece.start for piece in pieces])
        longest, kept = int(counts.max()), int(starts.max())
        tokens = np.zeros((len(pieces), longest), np.int64)
        before = np.zeros((self._shape.layers, 2, len(pieces), self._shape.heads, kept, self._shape.size), np.float32)
        for at, piece in enumerate(pieces):
            tokens[at, : counts[at]] = piece.row.fresh[piece.begin : piece.end]
            before[:, :, at, :, : starts[at]] = piece.row.kept.cache.filled[:, :, :, : starts[at]]
        steps = np.arange(longest)
        seen_before = np.arange(kept) < starts[:, None]
        seen_now = steps <= steps[:, None]
        mask = np.empty((len(pieces), 1, longest, kept + longest), bool)
        mask[..., :kept], mask[..., kept:] = seen_before[:, None, None], seen_now
        feed = {
            "tokens": tokens,
            "positions": np.minimum(starts[:, None] + steps, self.context_limit - 1),
            "mask": mask,
            "ends": np.arange(len(pieces)) * longest + counts - 1,
        }
        for layer, names in enumerate(self._kept_names):
            for which, name in enumerate(names):
                feed[name] = before[layer, which]
        found, *fresh = self._session.run(self._outputs, feed)
        for at, piece in enumerate(pieces):
            self._keep(piece, [part[at, : counts[at]] for part in fresh])
        answer: list[int] = found.tolist()
        return answer

    def _keep(self, piece: _Piece, fresh: Sequence[Any]) -> None:
        cache, shape = piece.row.kept.cache, self._shape
        start, end = piece.start, piece.start + piece.end - piece.begin
        if end > cache.filled.shape[3]:
            larger = self._room_for(max(end, 2 * cache.filled.shape[3]))
            larger[:, :, :, :start] = cache.filled[:, :, :, :start]
            cache.filled = larger
        new = np.stack(fresh).reshape(shape.layers, 2, end - start, shape.heads, shape.size)
        cache.filled[:, :, :, start:end] = new.transpose(0, 1, 3, 2, 4)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some of the fresh tokens of a row."""

    row: Row[_Cache]
    begin: int
    end: int

    @property
    def start(self) -> int:
        """How many tokens of the context come before."""
        return len(self.row.kept.tokens) + self.begin
