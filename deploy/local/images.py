"""Brings images to the real node: OCI archives into containerd, and the one that the node itself needs (pause)."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.binaries import Binaries, build_file
from deploy.local.errors import ClusterError
from deploy.local.layout import REPOSITORY, Layout
from deploy.local.oci_archive import Image, write_archive
from deploy.local.progress import Progress

PAUSE_SOURCE = REPOSITORY / "deploy" / "images" / "pause" / "main.go"
IMPORT_LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Archive:
    """An OCI archive on disk and the reference under which it is imported."""

    reference: str
    path: Path


def program_archive(layout: Layout, source: Path, repository: str, *, progress: Progress) -> Archive:
    """The image of one static Go program, built from `source` when its content has changed; tag: 12 hex digits of the
    source's hash.
    """
    content = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    name = source.parent.name
    reference = f"{repository}:{content}"
    folder = layout.cache / "images" / f"{name}-{content}"
    archive = folder / f"{name}.tar"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with progress.step(f"built image {reference}"):
            program = folder / name
            build_file(layout, source, program, progress=progress)
            part = folder / f".{name}.{os.getpid()}.tar"
            write_archive(Image(reference, {name: program.read_bytes()}, [f"/{name}"]), part)
            part.replace(archive)
    return Archive(reference, archive)


def pause_archive(layout: Layout, *, progress: Progress) -> Archive:
    """The sandbox image."""
    return program_archive(layout, PAUSE_SOURCE, "tandem.local/pause", progress=progress)


def containerd_client(binaries: Binaries, entry: Sequence[str]) -> list[str]:
    """The command of containerd's client; `entry` enters the node's namespaces."""
    return [*entry, binaries["ctr"], "--namespace=k8s.io"]


def import_archive(path: Path, *, client: Sequence[str], limit_seconds: float = IMPORT_LIMIT_SECONDS) -> list[str]:
    """Import an OCI archive into containerd; returns the names of its images.

    `client` is `containerd_client`. Raises ClusterError when the file is not an archive or the import takes too
    long.
    """
    if not path.is_file():
        raise ClusterError(
            f"{path} is not a file; expected an OCI archive (`buildah push IMAGE oci-archive:FILE:REFERENCE`)"
        )
    argv = [*client, "images", "import", "--digests=false", str(path.absolute())]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"importing {path} took more than {limit_seconds:.0f} s") from None
    if done.returncode != 0:
        raise ClusterError(f"importing {path} failed: {done.stderr.strip()}")
    # Of what ctr prints, the lines `NAME saved` are the images.
    names = [words[0] for line in done.stdout.splitlines() if (words := line.split())[1:] == ["saved"]]
    if not names:
        raise ClusterError(f"{path} holds no image with a name: push it as `oci-archive:FILE:REFERENCE`")
    return names


def image_references(client: Sequence[str]) -> list[str]:
    """The images that the node has."""
    argv = [*client, "images", "list", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise ClusterError(f"containerd does not list its images: {done.stderr.strip()}")
    return done.stdout.split()
