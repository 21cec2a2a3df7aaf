"""Copies and archives whose bytes depend on content alone: not on when, by whom or under which umask they were made."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from deploy.release.errors import ReleaseError

EARLIEST = 315532800
"""1980-01-01, before which no zip file can be."""
GIT_LIMIT_SECONDS = 60
_EXECUTABLE = 0o100


def epoch() -> int:
    """The time of everything in a release, seconds since 1970: `SOURCE_DATE_EPOCH`, and `EARLIEST` without it."""
    return max(int(os.environ.get("SOURCE_DATE_EPOCH") or EARLIEST), EARLIEST)


def tracked_files(folder: Path) -> list[Path]:
    """Those below a folder of a checkout that git knows, sorted: what else lies there is nobody's to publish.

    All of them in an unpacked archive, which is no checkout. Raises ReleaseError where git knows none.
    """
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        return sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    # Reading a list is safe in a checkout of whoever else's.
    argv = ["git", "-c", "safe.directory=*", "-C", str(folder), "ls-files", "-z"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=GIT_LIMIT_SECONDS, check=False)
    if not done.stdout:
        raise ReleaseError(f"{folder} has no file that git knows, and a release has no others: {done.stderr.strip()}")
    return sorted(folder / name for name in done.stdout.rstrip("\0").split("\0"))


def stage(source: Path, target: Path) -> None:
    """Copy what git knows of a folder, all with one time and the rights that git knows. Raises ReleaseError."""
    for file in tracked_files(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(_mode_of(file))
        os.utime(copy, (epoch(), epoch()))


def write_tar_gz(path: Path, files: Mapping[str, Path]) -> None:
    """Write an archive of `files`, by their names in it, in that order."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=epoch(), fileobj=raw) as packed:
        _write_tar(packed, files)


def write_tar(path: Path, files: Mapping[str, Path]) -> None:
    """As `write_tar_gz`, not compressed."""
    with path.open("wb") as raw:
        _write_tar(raw, files)


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums_of(folder: Path) -> str:
    """A line for each file, as `sha256sum --check` reads them."""
    return "".join(f"{sha256_of(file)}  {file.name}\n" for file in sorted(folder.iterdir()) if file.is_file())


def _write_tar(output: gzip.GzipFile | io.BufferedWriter, files: Mapping[str, Path]) -> None:
    # GNU, because a layer may be larger than the 8 GiB that ustar can say.
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, file in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = file.stat().st_size, _mode_of(file), epoch()
            with file.open("rb") as content:
                tar.addfile(member, content)


def _mode_of(file: Path) -> int:
    return 0o755 if file.stat().st_mode & _EXECUTABLE else 0o644
