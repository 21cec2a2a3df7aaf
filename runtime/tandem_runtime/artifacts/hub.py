"""All contact with the Hugging Face hub: which files a revision has, and each of them, checked.

Whoever calls has the token; no message of an error here has it, nor anything of a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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

from tandem_contracts.artifact_job import HubSource
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.origin import RemoteFile, Snapshot, is_as_told, is_wanted

ANSWER_LIMIT_SECONDS = 30.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Hub:
    """A model on the hub, asked for with a token or none."""

    def __init__(self, source: HubSource, *, token: str = "") -> None:
        self._source = source
        self._endpoint, self._token = source.endpoint or None, token or False
        self._api = HfApi(endpoint=self._endpoint, token=self._token)

    def snapshot(self) -> Snapshot:
        """Resolve the revision once. Raises RefusedError."""
        repo, revision = self._source.repo, self._source.revision
        try:
            told = self._api.model_info(repo, revision=revision, files_metadata=True, timeout=ANSWER_LIMIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - of several libraries; none of their texts may get out
            raise _refusal(error, f"{repo} at {revision}") from None
        # Folders are named by it, so it has to be one and no path.
        if not _COMMIT.fullmatch(told.sha or ""):
            raise RefusedError(Reason.SOURCE_NOT_FOUND, f"{repo} at {revision}: the hub names no commit")
        files, others = [], []
        for each in told.siblings or ():
            if not is_wanted(each.rfilename):
                others.append(each.rfilename)
                continue
            sha256 = each.lfs.sha256 if each.lfs else ""
            git_sha1 = "" if sha256 else each.blob_id or ""
            files.append(RemoteFile(path=each.rfilename, bytes=each.size or 0, sha256=sha256, git_sha1=git_sha1))
        return Snapshot(
            name=repo,
            commit=told.sha,
            files=tuple(files),
            others=tuple(others),
            provenance={"repo": repo, "asked for": revision},
        )

    def download(self, snapshot: Snapshot, file: RemoteFile, folder: Path) -> Path:
        """One file into `folder`, which is nobody else's; checked. Raises RefusedError, OSError of the folder."""
        for is_last in (False, True):
            try:
                path = Path(
                    hf_hub_download(
                        self._source.repo,
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
                raise _refusal(error, f"{snapshot.name}, {file.path}") from None
            if is_as_told(path, file):
                return path
            path.unlink()
        raise RefusedError(
            Reason.CHECKSUM_MISMATCH, f"{snapshot.name}, {file.path}: what was downloaded is not what the hub describes"
        )


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
