"""What the model that Triton serves says of itself: to the Python that runs it, and to whoever asks for drafts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

GRAPH_FILE = "model.onnx"


@dataclass(frozen=True)
class Shape:
    """What one has to know of a model to run its graph. `heads` are those of keys and values."""

    layers: int
    heads: int
    size: int
    vocabulary: int
    context_limit: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the model's configuration says beside tensors. `caches`: contexts whose keys and values are kept."""

    shape: Shape
    caches: int

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Self:
        """Raises KeyError or ValueError for a configuration of another make."""
        layers, heads, size, vocabulary, context_limit = json.loads(given["shape"])
        return cls(shape=Shape(layers, heads, size, vocabulary, context_limit), caches=int(given["caches"]))

    def to_configuration(self) -> str:
        """Lines for config.pbtxt."""
        shape = self.shape
        numbers = [shape.layers, shape.heads, shape.size, shape.vocabulary, shape.context_limit]
        given = {"shape": str(numbers), "caches": str(self.caches)}
        return "".join(
            f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n' for name, value in given.items()
        )
