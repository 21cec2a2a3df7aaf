"""What of a model's weights a recipe changes, read from the headers of the files alone."""

from __future__ import annotations

import re
from pathlib import Path

from tandem_contracts.model_reader import Tensor, tensors_in
from tandem_contracts.recipe import Recipe
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError

PREDICTION_PERCENT = 2
"""Farther off, the files are not what the recipe says: W4A8 is written with a byte for each weight, for example."""
_NEVER = ("embed", "norm", "rotary", "router", "mlp.gate.")
"""Parts of names of what is never quantized: embeddings, norms, and what routes tokens to experts."""


def predicted_bytes(folder: Path, recipe: Recipe) -> int:
    """Size of the weight files that the recipe makes of the model in `folder`. Raises UnreadableModelError."""
    total = 0
    for tensor in tensors_in(folder):
        if is_quantized(tensor, recipe):
            rows, columns = tensor.shape
            total += recipe.scheme.stored_bytes(rows, columns, scale_bytes=tensor.bytes // tensor.elements)
        else:
            total += tensor.bytes
    return total


def is_quantized(tensor: Tensor, recipe: Recipe) -> bool:
    """Whether it is the weight of a linear layer that the recipe does not leave out."""
    module = tensor.name.removesuffix(".weight")
    if module == tensor.name or len(tensor.shape) != 2 or any(part in module for part in _NEVER):
        return False
    return not any(_is_named(module, pattern) for pattern in recipe.ignore)


def _is_named(module: str, pattern: str) -> bool:
    """As compressed-tensors does: the whole name, or from its beginning where it is a pattern."""
    if pattern.startswith("re:"):
        return re.match(pattern.removeprefix("re:"), module) is not None
    return module == pattern


def require_predicted(actual: int, predicted: int) -> None:
    """Refuse files of another size than the recipe's. Raises RefusedError with both."""
    if abs(actual - predicted) * 100 > PREDICTION_PERCENT * predicted:
        raise RefusedError(
            Reason.RECIPE_UNSUPPORTED,
            f"the weights take {actual} bytes and {predicted} were predicted: the files are not what the recipe says",
        )
