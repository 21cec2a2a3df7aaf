"""Looks at a model folder before an engine is started on it, so that the commonest mistakes are named at once."""

import dataclasses
import json
from pathlib import Path

from tandem_contracts.tokenizer import tokenizer_hash_of


class ModelNotFoundError(Exception):
    """There is no folder at the model's path."""


class ModelInvalidError(Exception):
    """The folder at the model's path does not hold a model that can be served."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder that looks like a model. `dtype` is what its weights are kept in, `auto` where it does not say.

    `tokenizer_hash`: see `tandem_contracts.tokenizer`; empty where there is no tokenizer.json that can be read.
    """

    path: Path
    dtype: str
    tokenizer_hash: str


def read_model_folder(path: Path) -> ModelFolder:
    """What the folder says of itself. Raises ModelNotFoundError or ModelInvalidError, both naming the path."""
    try:
        if not path.is_dir():
            what = "is not a folder" if path.exists() else "does not exist"
            raise ModelNotFoundError(f"model path {path} {what}")
        configuration = json.loads((path / "config.json").read_text())
        has_weights = any(path.glob("*.safetensors"))
    except FileNotFoundError:
        raise ModelInvalidError(f"model path {path} has no config.json") from None
    except (OSError, ValueError) as cause:
        raise ModelInvalidError(f"model path {path}: config.json cannot be read: {cause}") from cause
    if not isinstance(configuration, dict) or not isinstance(configuration.get("model_type"), str):
        raise ModelInvalidError(f"model path {path}: config.json has no model_type")
    if not has_weights:
        raise ModelInvalidError(f"model path {path} has no weights (*.safetensors)")
    # Newer configurations say dtype, older ones torch_dtype.
    dtype = configuration.get("dtype") or configuration.get("torch_dtype") or "auto"
    return ModelFolder(path=path, dtype=str(dtype), tokenizer_hash=_tokenizer_hash(path))


def _tokenizer_hash(path: Path) -> str:
    try:
        return tokenizer_hash_of(json.loads((path / "tokenizer.json").read_text()))
    except (OSError, ValueError):
        return ""
