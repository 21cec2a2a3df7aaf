"""Publishes what an engine has compiled, for those that start after it with the same model, settings and hardware."""

from __future__ import annotations

import logging
import shutil
import stat
from pathlib import Path
from typing import Any

from tandem_contracts.compile_cache import is_of
from tandem_runtime.artifacts.volume import Volume, VolumeFullError

CACHES_KEPT = 8
"""Of one artifact, the newest: one for each image, settings and hardware that it is served with."""
_LEFT_OUT = frozenset({"locks", "assets"})
"""Folders without anything that was compiled."""
_log = logging.getLogger(__name__)


def publish_compile_cache(cache: Path, volume: Volume, name: str, *, artifact: str, owner: str) -> int:
    """Publish what is below `cache` as `name`; the bytes that are there then, 0 where nothing could be published.

    A volume that is full or cannot be written to costs later engines the time to compile, nothing else.
    """
    try:
        files = _compiled_files(cache)
        if not files:
            return 0
        volume.require(sum(path.stat().st_size for path in files))
        with volume.staging(name, owner) as staged:
            for path in files:
                target = staged / path.relative_to(cache)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            _, manifest = volume.publish(name, staged, _PROVENANCE)
        _retire_old(volume, artifact)
    except (OSError, VolumeFullError) as error:
        _log.warning("the compile cache is not published, so every engine compiles for itself: %s", error)
        return 0
    return manifest.bytes


_PROVENANCE: dict[str, Any] = {"kind": "compile cache"}


def _compiled_files(cache: Path) -> list[Path]:
    found = []
    for path in sorted(cache.rglob("*")):
        is_left_out = _LEFT_OUT & set(path.relative_to(cache).parts)
        if not is_left_out and stat.S_ISREG(path.lstat().st_mode):
            found.append(path)
    return found


def _retire_old(volume: Volume, artifact: str) -> None:
    names = [name for name in volume.names() if is_of(name, artifact)]
    newest_first = sorted(names, key=lambda name: volume.folder(name).stat().st_mtime, reverse=True)
    for name in newest_first[CACHES_KEPT:]:
        volume.retire(name)
    volume.sweep()
