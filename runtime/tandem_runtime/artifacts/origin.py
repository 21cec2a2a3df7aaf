"""What is asked of a place that models are fetched from, and what is refused whatever the place.

Every place tells a snapshot first, of sizes and digests; what is downloaded is compared with it. No network here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tandem_contracts.model_reader import PICKLES
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError

_WANTED_ENDINGS = (".safetensors", ".json", ".jinja", ".model", ".tiktoken", "vocab.txt", "merges.txt")
_CONFIGURATIONS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json"),
)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a snapshot, with the digests in hex that its place tells; it tells one, or with bad luck none."""

    path: str
    bytes: int
    sha256: str = ""
    git_sha1: str = ""
    """Git's own, of small files on the hub."""
    md5: str = ""
    """Of a store that has nothing better."""
    tag: str = ""
    """What a store calls this content, and what it can be asked to send nothing else but."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A model as it was at one moment, and what of it is wanted."""

    name: str
    """For a person."""
    commit: str
    """The same for the same content only; a name that a folder can have."""
    files: tuple[RemoteFile, ...]
    others: tuple[str, ...]
    """Names of files that are left where they are."""
    provenance: Mapping[str, str]
    """Where it is from, for the manifest."""

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Origin(Protocol):
    """One model in one place."""

    def snapshot(self) -> Snapshot:
        """What is there now. Raises RefusedError."""

    def download(self, snapshot: Snapshot, file: RemoteFile, folder: Path) -> Path:
        """One file into `folder`, which is nobody else's; checked. Raises RefusedError, OSError of the folder."""


def is_wanted(path: str) -> bool:
    """Whether engines read it. Nothing in folders below: those hold other forms of the model."""
    return "/" not in path and path.endswith(_WANTED_ENDINGS)


def require_weights(snapshot: Snapshot) -> None:
    """Before anything is downloaded. Raises RefusedError."""
    if any(file.path.endswith(".safetensors") for file in snapshot.files):
        return
    pickles = [name for name in snapshot.others if name.endswith(PICKLES)]
    if pickles:
        told = f"{snapshot.name} has its weights only as pickles ({pickles[0]}), which run code when they are loaded"
        raise RefusedError(Reason.PICKLES_ONLY, f"{told}; *.safetensors is needed")
    raise RefusedError(Reason.NO_WEIGHTS, f"{snapshot.name} has no weights (*.safetensors)")


def files_of_engines(files: Sequence[RemoteFile], index: Path) -> tuple[RemoteFile, ...]:
    """Without weights in another form, such as consolidated.safetensors beside what `index` names, or beside
    model.safetensors where there is no index. Whether the index is a good one is not said here.
    """
    single = index.name.removesuffix(".index.json")
    named = {single} if any(file.path == single for file in files) else set[str]()
    with suppress(FileNotFoundError, ValueError, AttributeError, KeyError, TypeError):
        named = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    weights = {file.path for file in files if file.path.endswith(".safetensors")}
    others = weights - named if named & weights else set[str]()
    return tuple(file for file in files if file.path not in others)


def require_no_code_in(folder: Path) -> None:
    """The same as `require_no_code` of each file in a folder."""
    for name in _CONFIGURATIONS:
        if (folder / name).is_file():
            require_no_code(folder / name)


def leave_wanted(folder: Path) -> None:
    """Delete from a folder what no engine reads, such as pickles and code that lay beside the weights."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not is_wanted(path.name):
            path.unlink()


def require_no_code(path: Path) -> None:
    """Refuse a configuration that names classes of the model's own: they are code that would have to be run.

    Other files pass. Raises RefusedError.
    """
    if path.name not in _CONFIGURATIONS:
        return
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise RefusedError(Reason.CONFIG_INVALID, f"{path.name} is not JSON: {error}") from error
    if isinstance(data, dict) and data.get("auto_map"):
        raise RefusedError(
            Reason.SOURCE_UNSAFE, f"{path.name} has auto_map: the model needs code of its own, which is never run"
        )


def is_as_told(path: Path, file: RemoteFile) -> bool:
    """Whether a file has the size and the digest that its place tells. A digest that it does not tell is not missed."""
    if path.stat().st_size != file.bytes:
        return False
    if file.sha256:
        return _digest(path, "sha256", b"") == file.sha256
    if file.git_sha1:
        return _digest(path, "sha1", f"blob {file.bytes}\0".encode()) == file.git_sha1
    if file.md5:
        return _digest(path, "md5", b"") == file.md5
    return True


def _digest(path: Path, algorithm: str, before: bytes) -> str:
    content = hashlib.new(algorithm, before, usedforsecurity=False)
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            content.update(block)
    return content.hexdigest()
