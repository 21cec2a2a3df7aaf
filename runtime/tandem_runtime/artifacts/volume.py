"""The volume that artifacts are kept on: staged, made durable, and published by one rename that nobody sees half done.

    <root>/<key>/                  an artifact: files 0444, its manifest written last
    <root>/.staging/<key>.<owner>/ being made by one pod, which touches <key>.<owner>.alive beside it
    <root>/.kept/<name>/           files that were fetched and checked, for another try
    <root>/.trash/<key>.<n>/       no artifact any more, about to be deleted
    <root>/.compiled/              a volume of its own in the same way, of what engines have compiled

The first rename wins; whoever comes second has worked in vain and uses what is there. No locks: on shared file systems
`flock` may succeed for everyone. A pod that is killed leaves its staging folder behind; a later one sweeps it away
when it has not been touched for `ABANDONED_SECONDS`, by the clock of the volume.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tandem_contracts import compile_cache
from tandem_contracts.manifest import MANIFEST, FileEntry, InvalidManifestError, Manifest

ABANDONED_SECONDS = 900.0
KEPT_SECONDS = 24 * 3600.0
"""A folder of kept files is deleted when nobody has asked for it, or added to it, for so long."""
HEARTBEAT_SECONDS = 30.0
_STAGING, _TRASH, _KEPT, _ALIVE = ".staging", ".trash", ".kept", ".alive"
_BLOCK_BYTES = 1 << 20
_FULL = ("os error 28", "errno 28")
"""How safetensors says that there is no room: its error has no number, only a text."""


class VolumeFullError(Exception):
    """There is no room; the message has the bytes needed and free."""


class Published(StrEnum):
    """How publishing ended: our files are there, or somebody else's of the same key were before."""

    OURS = "ours"
    THERE_BEFORE = "there before"


@dataclass(frozen=True)
class Space:
    """Of a file system, in bytes; `free` is what users without privileges may still write."""

    capacity: int
    free: int


class Volume:
    """The artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, key: str) -> Manifest | None:
        """The manifest of an artifact that is whole: present, readable, all sizes right. None otherwise."""
        folder = self.folder(key)
        try:
            manifest = Manifest.decode((folder / MANIFEST).read_text(encoding="utf-8"))
            is_whole = all((folder / file.path).stat().st_size == file.bytes for file in manifest.files)
        except (OSError, InvalidManifestError, UnicodeDecodeError):
            return None
        return manifest if is_whole and manifest.key == key else None

    def folder(self, key: str) -> Path:
        """Where an artifact is, or would be."""
        return self._root / key

    def names(self) -> list[str]:
        """Of everything that was published, whole or not."""
        return [folder.name for folder in _folders_in(self._root) if not folder.name.startswith(".")]

    @property
    def compiled(self) -> Volume:
        """The compile caches on the same volume."""
        return Volume(self._root / compile_cache.FOLDER)

    def prepare_compiled(self) -> None:
        """Make the folder of compile caches, so that a pod can mount it alone: the kubelet would make it root's."""
        (self._root / compile_cache.FOLDER).mkdir(exist_ok=True)

    @contextmanager
    def staging(self, key: str, owner: str) -> Iterator[Path]:
        """A folder to make an artifact in, kept alive meanwhile; what another try of the same owner left is gone.

        Raises VolumeFullError where what is made in it finds no room, with what is free before it is deleted.
        """
        self.sweep()
        folder = self._root / _STAGING / f"{key}.{owner}"
        _remove(folder)
        folder.mkdir(parents=True)
        stop = threading.Event()
        beating = threading.Thread(target=_keep_alive, args=(folder, stop), name="heartbeat", daemon=True)
        beating.start()
        try:
            yield folder
        except Exception as error:
            if not is_of_full_volume(error):
                raise
            written, free = _bytes_in(folder), self.space().free
            told = f"the volume is full: more than {written} bytes are needed, which were written, {free} are free"
            raise VolumeFullError(told) from error
        finally:
            stop.set()
            beating.join()
            _alive(folder).unlink(missing_ok=True)
            _remove(folder)  # what was not published

    def publish(self, key: str, staged: Path, provenance: Mapping[str, Any]) -> tuple[Published, Manifest]:
        """Make what is staged the artifact. The staging folder is gone afterwards. Raises OSError."""
        files = tuple(_made_durable(staged, path) for path in _files_of(staged))
        manifest = Manifest(key=key, nonce=secrets.token_hex(8), files=files, provenance=provenance)
        last = staged / MANIFEST
        last.write_text(manifest.encode(), encoding="utf-8")
        last.chmod(0o444)
        _sync(last)
        for folder, _, _ in os.walk(staged, topdown=False):
            # Not 0555 yet: a folder that may not be written to cannot get another parent.
            Path(folder).chmod(0o755)
            _sync(Path(folder))
        for _ in range(2):
            if self._renamed(staged, self.folder(key)):
                self.folder(key).chmod(0o555)
                return Published.OURS, manifest
            there = self.find(key)
            if there is not None:
                _remove(staged)
                # A file server that answers a repeated request may call our own success a failure.
                return (Published.OURS if there.nonce == manifest.nonce else Published.THERE_BEFORE), there
            self.retire(key)
        raise FileExistsError(errno.EEXIST, "what is there is no artifact and cannot be moved away", self.folder(key))

    def kept(self, name: str) -> Path:
        """A folder for files that another try can use. Several tries may put the same files there at once."""
        folder = self._root / _KEPT / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.touch()  # or the sweep before the try's own staging takes what was kept a day ago
        return folder

    def retire(self, key: str) -> None:
        """An artifact is none any more, at once; its files go with the next sweep."""
        trash = self._root / _TRASH / f"{key}.{secrets.token_hex(4)}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder(key).chmod(0o755)
            self.folder(key).rename(trash)
        except FileNotFoundError:
            return
        _sync(self._root)

    def sweep(self) -> tuple[str, ...]:
        """Delete what is in the trash, and what nobody works on any more; the names of what went."""
        gone = []
        for folder in _folders_in(self._root / _TRASH):
            _remove(folder)
            gone.append(folder.name)
        gone += [folder.name for folder in self._abandoned() if _is_removed(folder)]
        return tuple(gone)

    def _abandoned(self) -> list[Path]:
        staging = self._root / _STAGING
        staged = set(_folders_in(staging)) | {path.with_suffix("") for path in staging.glob(f"*{_ALIVE}")}
        kept = _folders_in(self._root / _KEPT)
        if not staged and not kept:
            return []
        now = self._now()
        found = [folder for folder in sorted(staged) if now - _touched(folder) > ABANDONED_SECONDS]
        return found + [folder for folder in kept if now - _touched(folder) > KEPT_SECONDS]

    def space(self) -> Space:
        """Of the file system."""
        told = os.statvfs(self._root)
        return Space(told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize)

    def require(self, needed: int) -> None:
        """Raises VolumeFullError where so many bytes cannot be written."""
        free = self.space().free
        if needed > free:
            raise VolumeFullError(f"the volume is full: {needed} bytes are needed, {free} are free")

    def _now(self) -> float:
        """By the clock of the volume, which may be a server's. Leaves nothing behind, whenever it is killed."""
        folder = self._root / _STAGING
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        return folder.stat().st_mtime

    def _renamed(self, staged: Path, target: Path) -> bool:
        try:
            staged.rename(target)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT}:
                return False
            raise
        _sync(self._root)
        _sync(staged.parent)
        return True


def is_of_full_volume(error: BaseException | None) -> bool:
    """Whether there was no room, here or in what led to it."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or any(word in str(error).lower() for word in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def content_of(folder: Path) -> str:
    """Digest of the content of a published artifact in a folder; empty for any other folder."""
    try:
        return Manifest.decode((folder / MANIFEST).read_text(encoding="utf-8")).content
    except (OSError, InvalidManifestError, UnicodeDecodeError):
        return ""


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _files_of(folder: Path) -> list[str]:
    """Relative paths. Raises OSError for anything that is no regular file, such as a link out of the folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise OSError(errno.EINVAL, "is no regular file, so it cannot be published", str(path))
        if path.is_file() and path.name != MANIFEST:
            found.append(path.relative_to(folder).as_posix())
    return found


def _made_durable(folder: Path, relative: str) -> FileEntry:
    path = folder / relative
    # safetensors writes 0600: a pod with another user could not read the weights.
    path.chmod(0o444)
    content, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            content.update(block)
            size += len(block)
        os.fsync(file.fileno())
    return FileEntry(relative, size, content.hexdigest())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _alive(folder: Path) -> Path:
    return folder.with_name(folder.name + _ALIVE)


def _keep_alive(folder: Path, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(OSError):  # of a volume that is full or gone, which the work itself will tell
            _alive(folder).touch()
        stop.wait(HEARTBEAT_SECONDS)


def _touched(folder: Path) -> float:
    """When somebody last worked in a staging folder; 0 for one that is gone in the meantime."""
    times = [0.0]
    for path in (folder, _alive(folder)):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def _is_removed(folder: Path) -> bool:
    _remove(folder)
    _alive(folder).unlink(missing_ok=True)
    return not folder.exists()


def _folders_in(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _remove(folder: Path) -> None:
    """Delete a folder of ours; another pod may do so at the same time."""
    if not folder.exists():
        return
    for parent, folders, _ in os.walk(folder):
        for name in (".", *folders):
            path = Path(parent) / name
            if path.exists() and not path.is_symlink():
                path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
