"""Reads a model folder into `ModelFacts`: for the inspect Job, and for `tandem plan --model DIR`.

The one module of this package that reads files, and all it does is read: no network, no import of what is in the
folder, no more memory than its largest table takes. The folder is somebody else's: every file in it has a limit,
has to be a regular one, and may hold anything.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_contracts.model_facts import LARGEST, ModelFacts, model_facts_of
from tandem_contracts.termination import Reason
from tandem_contracts.tokenizer import table_hash_of, tokenizer_hash_of

MIB = 2**20
CONFIG_LIMIT_BYTES = 16 * MIB
TOKENIZER_LIMIT_BYTES = 256 * MIB
HEADER_LIMIT_BYTES = 100_000_000
"""As in the format itself."""
SHARDS_LIMIT = 10_000
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
"""Endings of weight files that run code when they are loaded."""
WEIGHTS_INDEX = "model.safetensors.index.json"
"""Says which weight file has which tensor; weight files that it does not name are another form of the model."""
_TOKENIZER_FILES = ("tokenizer.model", "tekken.json")
_PACKED = frozenset({"U8", "I8", "I32", "F4", "F6_E2M3", "F6_E3M2"})
"""Types in which one element may be several values of the model, or only a part of one."""
_NOT_LINEAR = ("embed", "lm_head", "wte.", "wpe.", ".experts.")
"""In names of matrices that Transformers loads into other modules, or leaves alone when it quantizes."""
_TYPE_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class UnreadableModelError(Exception):
    """The folder holds no model that can be served as it is; the message is the root cause, in one line."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Weights:
    bytes: int
    parameters: int
    """0 where elements are not values."""
    linear_parameters: int
    """Of them in matrices of linear layers."""
    data_type: str
    """Of most values."""


def read_model(folder: Path) -> ModelFacts:
    """The facts of the model in `folder`. Raises UnreadableModelError."""
    _require_folder(folder)
    config = _json(folder, "config.json", reason=Reason.CONFIG_INVALID)
    if config is None:
        raise UnreadableModelError(Reason.CONFIG_INVALID, f"{folder} has no config.json")
    weights = _weights(folder)
    try:
        return model_facts_of(
            config,
            weights_bytes=weights.bytes,
            tokenizer_hash=_tokenizer_hash(folder),
            generation_config=_json(folder, "generation_config.json", reason=Reason.CONFIG_INVALID) or {},
            parameters=weights.parameters,
            linear_parameters=weights.linear_parameters,
            stored_data_type=weights.data_type,
        )
    except ValueError as cause:
        raise UnreadableModelError(Reason.CONFIG_INVALID, f"{folder}/config.json: {cause}") from cause


def _require_folder(folder: Path) -> None:
    try:
        if folder.is_dir():
            return
        what = "is not a folder" if folder.exists() else "does not exist"
    except OSError as cause:
        raise UnreadableModelError(Reason.READ_FAILED, f"{folder} cannot be read: {cause.strerror}") from cause
    raise UnreadableModelError(Reason.MODEL_NOT_FOUND, f"{folder} {what}")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a weight file, as its header describes it. `data_type`: the format's own word, as in BF16."""

    name: str
    data_type: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_linear(self) -> bool:
        """Whether it is the matrix of a linear layer that is neither the embedding, the output nor a routed expert."""
        return len(self.shape) == 2 and not any(part in self.name for part in _NOT_LINEAR)


def tensors_in(folder: Path) -> Iterator[Tensor]:
    """Every tensor of the weight files that an engine would load. Raises UnreadableModelError."""
    for path in _shards(folder):
        yield from _shard(path)[1]


def _weights(folder: Path) -> _Weights:
    total = parameters = linear = 0
    is_counted = True
    by_type: dict[str, int] = {}
    for path in _shards(folder):
        size, tensors = _shard(path)
        total += size
        for tensor in tensors:
            parameters += tensor.elements
            linear += tensor.elements if tensor.is_linear else 0
            by_type[tensor.data_type] = by_type.get(tensor.data_type, 0) + tensor.elements
            is_counted = is_counted and tensor.data_type not in _PACKED
    if max(total, parameters) > LARGEST:
        raise UnreadableModelError(Reason.WEIGHTS_INVALID, f"{folder}: the weights claim to be {total} bytes")
    stored = max(by_type, key=lambda name: (by_type[name], name), default="")
    if not is_counted:
        parameters = linear = 0
    return _Weights(total, parameters, linear, _TYPE_NAMES.get(stored, ""))


def _shards(folder: Path) -> list[Path]:
    """The weight files that an engine would load: those of the index where there is one, else all."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as cause:
        raise UnreadableModelError(Reason.READ_FAILED, f"{folder} cannot be listed: {cause.strerror}") from cause
    there = [name for name in names if name.endswith(".safetensors")]
    if not there:
        pickles = [name for name in names if name.endswith(PICKLES)]
        if pickles:
            message = (
                f"{folder} has its weights only as pickles ({_shown(pickles[0])}), which run code when they are loaded"
            )
            raise UnreadableModelError(Reason.PICKLES_ONLY, f"{message}; *.safetensors is needed")
        raise UnreadableModelError(Reason.NO_WEIGHTS, f"{folder} has no weights (*.safetensors)")
    index = _json(folder, WEIGHTS_INDEX, reason=Reason.WEIGHTS_INVALID) or {}
    listed = index.get("weight_map")
    if isinstance(listed, Mapping) and listed:
        needed = sorted({str(name) for name in listed.values()})
        missing = [name for name in needed if name not in there]
        if missing:
            count = f"{len(missing)} of {len(needed)} weight files" if len(needed) > 1 else "its weight file"
            raise UnreadableModelError(Reason.WEIGHTS_INVALID, f"{folder} lacks {count}: {_shown(missing[0])}")
        there = needed
    if len(there) > SHARDS_LIMIT:
        message = f"{folder} has {len(there)} weight files (allowed: at most {SHARDS_LIMIT})"
        raise UnreadableModelError(Reason.WEIGHTS_INVALID, message)
    return [folder / name for name in there]


def _shard(path: Path) -> tuple[int, list[Tensor]]:
    """Size of a weight file, and type and number of elements of each tensor, by its header."""

    def refused(why: str) -> UnreadableModelError:
        return UnreadableModelError(Reason.WEIGHTS_INVALID, f"{path}: {why}")

    size = _size(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(HEADER_LIMIT_BYTES, size - 8):
                raise refused(f"no safetensors header fits into its {size} bytes: is it cut off, or a pointer to it?")
            header = json.loads(file.read(length))
    except OSError as cause:
        raise UnreadableModelError(Reason.READ_FAILED, f"{path} cannot be read: {cause.strerror}") from cause
    except (ValueError, RecursionError) as cause:
        raise refused("its header is not JSON") from cause
    tensors, end = [], 0
    for name, tensor in header.items() if isinstance(header, dict) else ():
        if name == "__metadata__":
            continue
        try:
            (first, last), shape = tensor["data_offsets"], tensor["shape"]
            if not all(type(number) is int and number >= 0 for number in [first, last, *shape]):
                raise TypeError  # noqa: TRY301 - one place for all that a header can get wrong
            elements = math.prod(shape)
            if elements > 2 * (last - first):  # no type is smaller than half a byte
                raise ValueError  # noqa: TRY301
            tensors.append(Tensor(str(name), str(tensor["dtype"]), tuple(shape), last - first))
            end = max(end, last)
        except (KeyError, TypeError, ValueError):
            raise refused(f"its header describes tensor {_shown(name)} in no valid way") from None
    if not tensors:
        raise refused("its header describes no tensor")
    if size != 8 + length + end:
        raise refused(f"it is {size} bytes, its header tells of {8 + length + end}: is it cut off?")
    return size, tensors


def _tokenizer_hash(folder: Path) -> str:
    """Of tokenizer.json, else of the older files; empty where there is none."""
    try:
        tokenizer = _json(folder, "tokenizer.json", reason=Reason.CONFIG_INVALID, limit_bytes=TOKENIZER_LIMIT_BYTES)
        if tokenizer is not None:
            return tokenizer_hash_of(tokenizer)
        vocabulary = _json(folder, "vocab.json", reason=Reason.CONFIG_INVALID, limit_bytes=TOKENIZER_LIMIT_BYTES)
        if vocabulary is not None:
            added = _json(folder, "added_tokens.json", reason=Reason.CONFIG_INVALID) or {}
            return table_hash_of(dict(_turned({**vocabulary, **added})))
    except ValueError as cause:
        raise UnreadableModelError(Reason.CONFIG_INVALID, f"{folder}: the tokenizer: {cause}") from cause
    for name in _TOKENIZER_FILES:
        content = _content(folder / name, limit_bytes=TOKENIZER_LIMIT_BYTES)
        if content is not None:
            return hashlib.sha256(f"{name}:".encode() + content).hexdigest()
    return ""


def _turned(vocabulary: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for text, number in vocabulary.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"vocab.json: an id (is {_shown(number)}): must be a whole number")  # noqa: TRY004
        yield number, text


def _json(folder: Path, name: str, *, reason: Reason, limit_bytes: int = CONFIG_LIMIT_BYTES) -> dict[str, Any] | None:
    """A JSON object in a file; None where there is no such file."""
    path = folder / name
    content = _content(path, limit_bytes=limit_bytes)
    if content is None:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as cause:
        why = "it is nested too deeply" if isinstance(cause, RecursionError) else _one_line(cause)
        raise UnreadableModelError(reason, f"{path} is not JSON: {why}") from cause
    if not isinstance(value, dict):
        raise UnreadableModelError(reason, f"{path}: must be a JSON object")
    return value


def _content(path: Path, *, limit_bytes: int) -> bytes | None:
    try:
        size = _size(path)
    except FileNotFoundError:
        return None
    if size > limit_bytes:
        message = f"{path} is {size} bytes (allowed: at most {limit_bytes})"
        raise UnreadableModelError(Reason.CONFIG_INVALID, message)
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes + 1)[:limit_bytes]
    except OSError as cause:
        raise UnreadableModelError(Reason.READ_FAILED, f"{path} cannot be read: {cause.strerror}") from cause


def _size(path: Path) -> int:
    """Size of a regular file: opening a pipe or a device would wait for ever. Raises FileNotFoundError too."""
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise UnreadableModelError(Reason.READ_FAILED, f"{path} is a link to nothing") from None
        raise
    except OSError as cause:
        raise UnreadableModelError(Reason.READ_FAILED, f"{path} cannot be read: {cause.strerror}") from cause
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableModelError(Reason.CONFIG_INVALID, f"{path} is not a regular file")
    return found.st_size


def _one_line(cause: Exception) -> str:
    return " ".join(str(cause).split())[:200]


def _shown(value: object) -> str:
    return repr(value)[:80]
