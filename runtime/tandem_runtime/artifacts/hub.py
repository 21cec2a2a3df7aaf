"""All contact with the Hugging Face hub: which files a revision has, and each of them, checked.

Whoever calls has the token; no message of an error here has it, nor anything of a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tandem_contracts.model_reader import PICKLES
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError

WANTED_ENDINGS = (".safetensors", ".json", ".jinja", ".model", ".tiktoken", "vocab.txt", "merges.txt")
"""Of files that engines read. Nothing in folders below: those hold other forms of the model."""
ANSWER_LIMIT_SECONDS = 30.0
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """One file of a revision. One of the two digests is known: SHA-256 of large files, git's own of small ones."""

    path: str
    bytes: int
    sha256: str
    git_sha1: str


@dataclass(frozen=True)
class Snapshot:
    """A revision, as a commit, and what of it is wanted."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]
    others: tuple[str, ...]
    """Names of files that are left where they are."""

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Hub:
    """One endpoint, asked with one token or none."""

    def __init__(self, *, endpoint: str = "", token: str = "") -> None:
        self._endpoint, self._token = endpoint or None, token or False
        self._api = HfApi(endpoint=self._endpoint, token=self._token)

    def snapshot(self, repo: str, revision: str) -> Snapshot:
        """Resolve a revision once. Raises RefusedError."""
        try:
            told = self._api.model_info(repo, revision=revision, files_metadata=True, timeout=ANSWER_LIMIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - of several libraries; none of their texts may get out
            raise _refusal(error, f"{repo} at {revision}") from None
        if not told.sha:
            raise RefusedError(Reason.SOURCE_NOT_FOUND, f"{repo} at {revision}: the hub names no commit")
        files, others = [], []
        for each in told.siblings or ():
            if "/" in each.rfilename or not each.rfilename.endswith(WANTED_ENDINGS):
                others.append(each.rfilename)
                continue
            sha256 = each.lfs.sha256 if each.lfs else ""
            files.append(RemoteFile(each.rfilename, each.size or 0, sha256, "" if sha256 else each.blob_id or ""))
        return Snapshot(repo, told.sha, tuple(files), tuple(others))

    def download(self, snapshot: Snapshot, file: RemoteFile, folder: Path) -> Path:
        """One file into `folder`, which is nobody else's; checked. Raises RefusedError, OSError of the folder."""
        for is_last in (False, True):
            try:
                path = Path(
                    hf_hub_download(
                        snapshot.repo,
                        file.path,
                        revision=snapshot.commit,
                        local_dir=folder,
                        token=self._token,
                        endpoint=self._endpoint,
                        force_download=is_last,
                        etag_timeout=ANSWER_LIMIT_SECONDS,
                    )
                )
            except Exception as error:
                if type(error) is OSError or getattr(error, "errno", None) is not None:
                    raise  # of the folder
                raise _refusal(error, f"{snapshot.repo}, {file.path}") from None
            if is_as_told(path, file):
                return path
            path.unlink()
        raise RefusedError(
            Reason.CHECKSUM_MISMATCH, f"{snapshot.repo}, {file.path}: what was downloaded is not what the hub describes"
        )


def require_weights(snapshot: Snapshot) -> None:
    """Before anything is downloaded. Raises RefusedError."""
    if any(file.path.endswith(".safetensors") for file in snapshot.files):
        return
    pickles = [name for name in snapshot.others if name.endswith(PICKLES)]
    if pickles:
        told = f"{snapshot.repo} has its weights only as pickles ({pickles[0]}), which run code when they are loaded"
        raise RefusedError(Reason.PICKLES_ONLY, f"{told}; *.safetensors is needed")
    raise RefusedError(Reason.NO_WEIGHTS, f"{snapshot.repo} has no weights (*.safetensors)")


def is_as_told(path: Path, file: RemoteFile) -> bool:
    """Whether a file has the size and the digest that the hub tells. A digest that it does not tell is not missed."""
    if path.stat().st_size != file.bytes:
        return False
    if file.sha256:
        return _digest(path, "sha256", b"") == file.sha256
    if file.git_sha1:
        return _digest(path, "sha1", f"blob {file.bytes}\0".encode()) == file.git_sha1
    return True


def _digest(path: Path, algorithm: str, before: bytes) -> str:
    content = hashlib.new(algorithm, before, usedforsecurity=False)
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            content.update(block)
    return content.hexdigest()


_REASONS: Sequence[tuple[type[BaseException], Reason, str]] = (
    (GatedRepoError, Reason.SOURCE_DENIED, "access is gated: the token's owner has to accept the model's terms"),
    (DisabledRepoError, Reason.SOURCE_DENIED, "the hub has disabled it"),
    (RevisionNotFoundError, Reason.SOURCE_NOT_FOUND, "there is no such revision"),
    (EntryNotFoundError, Reason.SOURCE_NOT_FOUND, "there is no such file"),
    (HFValidationError, Reason.SOURCE_NOT_FOUND, "that is no name of a repository"),
    (RepositoryNotFoundError, Reason.SOURCE_DENIED, "there is no such repository, or the token may not see it"),
)


def _refusal(error: Exception, what: str) -> RefusedError:
    """In words of our own: an error's own text may have the request's headers, or a page of HTML."""
    for kind, reason, told in _REASONS:
        if isinstance(error, kind):
            return RefusedError(reason, f"{what}: {told}")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in {401, 403}:
            return RefusedError(Reason.SOURCE_DENIED, f"{what}: the hub answers {status}: is the token right?")
        return RefusedError(Reason.NETWORK_FAILED, f"{what}: the hub answers {status}")
    if isinstance(error, httpx.HTTPError | ConnectionError | TimeoutError):
        return RefusedError(Reason.NETWORK_FAILED, f"{what}: the hub cannot be reached: {type(error).__name__}")
    return RefusedError(Reason.NETWORK_FAILED, f"{what}: the download failed: {type(error).__name__}")
