"""The last file of a published artifact: what belongs to it, and what it was made from. Pure.

A folder is an artifact only if its manifest can be read and every file that it names has the size that it says; that
is all that a reader has to check, also where a file system cannot rename a folder at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

MANIFEST = "manifest.json"
_VERSION = 1


class InvalidManifestError(ValueError):
    """The text is no manifest; the message says why."""


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """One file: its path relative to the artifact, its size in bytes and the SHA-256 of its content in hex."""

    path: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """`nonce` tells two artifacts of one key apart. `provenance`: JSON values, for people and for later checks."""

    key: str
    nonce: str
    files: tuple[FileEntry, ...]
    provenance: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def content(self) -> str:
        """SHA-256 in hex over paths, sizes and digests of all files: the same for the same files from elsewhere."""
        files = sorted((file.path, file.bytes, file.sha256) for file in self.files)
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 in hex of its own file: of one artifact, and no other, also among those of one key."""
        return hashlib.sha256(self.encode().encode()).hexdigest()

    def encode(self) -> str:
        """Canonical JSON."""
        data = {
            "version": _VERSION,
            "key": self.key,
            "nonce": self.nonce,
            "files": [dataclasses.asdict(file) for file in sorted(self.files, key=lambda file: file.path)],
            "provenance": self.provenance,
        }
        return json.dumps(data, sort_keys=True, indent=1)

    @classmethod
    def decode(cls, text: str) -> Self:
        """The reverse. Raises InvalidManifestError."""
        try:
            data = json.loads(text)
            _require_version(data["version"])
            return cls(
                key=str(data["key"]),
                nonce=str(data["nonce"]),
                files=tuple(FileEntry(str(f["path"]), int(f["bytes"]), str(f["sha256"])) for f in data["files"]),
                provenance=dict(data["provenance"]),
            )
        except InvalidManifestError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidManifestError(f"no manifest of an artifact: {type(error).__name__}: {error}") from error


def _require_version(version: object) -> None:
    if version != _VERSION:
        raise InvalidManifestError(f"version (is {version!r}): must be {_VERSION}")
