"""What an engine compiled at a start before: brought to where it looks for it, checked file by file.

An engine writes to its cache, and volumes of artifacts are read-only, so the files are copied. Whatever is wrong with
them costs an engine the time to compile, and never its start.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from pathlib import Path, PurePosixPath

from tandem_contracts.manifest import MANIFEST, FileEntry, InvalidManifestError, Manifest

_log = logging.getLogger(__name__)


def restore(published: Path, cache: Path) -> None:
    """Copy a published cache below `cache`; files that are there already stay."""
    if not published.is_dir():
        _log.info("compile cache: none at %s; the engine compiles", published)
        return
    try:
        manifest = Manifest.decode((published / MANIFEST).read_text(encoding="utf-8"))
        for file in manifest.files:
            _copy(published, cache, file)
    except (OSError, InvalidManifestError, UnicodeDecodeError) as error:
        _log.warning("compile cache: %s cannot be used whole (%s); the engine compiles what it lacks", published, error)
    else:
        _log.info("compile cache: %d files, %d bytes from %s", len(manifest.files), manifest.bytes, published)


def _copy(published: Path, cache: Path, file: FileEntry) -> None:
    relative = PurePosixPath(file.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise InvalidManifestError(f"{file.path!r} leads out of the cache")
    target = cache / relative
    if target.exists():
        return
    content = (published / relative).read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InvalidManifestError(f"{file.path} is not what was published")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    partial.write_bytes(content)
    partial.rename(target)
