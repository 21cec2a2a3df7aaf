"""Images of a release: archives of the small ones, a list of all with their digests, and what is in them.

They are built by deploy/images, and come out of its storage. An archive has compressed layers, and the digest that a
registry has after `skopeo copy --preserve-digests`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cyclonedx.model.component import ComponentType

from deploy.images import build as building
from deploy.images.archive import digest_of
from deploy.images.catalogue import NAMES, REPOSITORY, Image, images_of
from deploy.images.errors import ImageError
from deploy.images.storage import Storage, StoredImage, opened
from deploy.local.layout import cache_of
from deploy.local.progress import Progress
from deploy.release.errors import ReleaseError
from deploy.release.packing import epoch, tracked_files, write_tar
from deploy.release.sbom import debian_packages_in, environment_of, python_packages_in, sbom_of

ARCHIVE_LIMIT_BYTES = 1_000_000_000
"""Uncompressed. Engines are several times that: they are pushed from the storage, and listed here."""
PUSH_LIMIT_SECONDS = 900
_PYTHON = environment_of(python="3.11", system="Linux", machine="x86_64")
_STATUS = "var/lib/dpkg/status"


def release_images(version: str, folder: Path, *, names: Collection[str]) -> None:
    """Write images.json, the named images' archives and every image's bill of materials into `folder`.

    Builds the named images where they are missing. Raises ReleaseError where git does not know what would be in one,
    ImageError, and ClusterError when a Debian package cannot be installed.
    """
    found: dict[str, dict[str, Any]] = {}
    statuses: dict[str, str] = {}
    if names:
        images = images_of(sorted(names))
        for image in images:
            refuse_unknown(image)
        with opened(cache_of(os.environ) / "images", Progress()) as storage:
            for name, reference in building.build(images, storage).items():
                stored = storage.image(reference)
                found[name] = _described(name, reference, version, stored=stored, storage=storage, folder=folder)
                statuses[name] = dpkg_status_of(stored, storage)
    rows = [{"name": name, "tag": version, **found.get(name, {"content": Image(name).tag})} for name in NAMES]
    (folder / "images.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for name in NAMES:
        text = image_sbom(Image(name), version, dpkg_status=statuses.get(name))
        (folder / f"{name}.cdx.json").write_text(text, encoding="utf-8")


def refuse_unknown(image: Image) -> None:
    """An image's tag is the hash of its files: none may be left out. Raises ReleaseError for one that git has not."""
    known = set(tracked_files(image.repository))
    unknown = [str(path) for path in image.inputs() if image.repository / path not in known]
    if unknown:
        raise ReleaseError(f"image {image.name} would have {unknown[0]}, which git does not know: add or remove it")


def image_sbom(image: Image, version: str, *, dpkg_status: str | None) -> str:
    """Its bill of materials. Without the built image's dpkg status it names Python packages alone, and says so."""
    packages: set[str] = set()
    for lock in (path for path in image.inputs() if path.parts[0] == "requirements"):
        packages |= python_packages_in((REPOSITORY / lock).read_text(encoding="utf-8"), [_PYTHON])
    remarks = []
    if dpkg_status is None:
        remarks.append("not built here: packages of Debian are missing")
    else:
        packages |= debian_packages_in(dpkg_status)
    if not image.is_on_our_base:
        remarks.append("what its base brings is missing: see the bill of materials of the base")
    return sbom_of(image.name, version, packages, kind=ComponentType.CONTAINER, made=epoch(), remarks=remarks)


def archive(reference: str, tag: str, path: Path, *, storage: Storage) -> str:
    """Write a stored image as an OCI archive to `path`; returns the digest of its manifest. Raises ImageError."""
    with storage.work_folder() as folder:
        layout = folder / "layout"
        what = f"the archive of {reference}"
        log = storage.log_of("archive")
        target = ("push", reference, f"oci:{layout}:{tag}")
        storage.buildah(*target, what=what, limit_seconds=PUSH_LIMIT_SECONDS, log=log)
        files = {str(file.relative_to(layout)): file for file in sorted(layout.rglob("*")) if file.is_file()}
        write_tar(path, files)
        (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    digest: str = manifest["digest"]
    return digest


def dpkg_status_of(image: StoredImage, storage: Storage) -> str:
    """The file as the image has it: of the last layer with one. Empty for an image without dpkg. Raises ImageError."""
    for layer in reversed(image.layers):
        with subprocess.Popen(storage.layer_command(layer), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                    for member in tar:
                        if member.name.removeprefix("./") == _STATUS and (file := tar.extractfile(member)):
                            return file.read().decode()
            except tarfile.TarError as error:
                raise ImageError(f"layer {layer.digest} cannot be read: {error}") from error
            finally:
                process.kill()
    return ""


def _described(
    name: str, reference: str, version: str, *, stored: StoredImage, storage: Storage, folder: Path
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "content": reference.rpartition(":")[2],
        "stored": digest_of(stored.manifest),
        "bytes": sum(layer.size for layer in stored.layers),
    }
    if row["bytes"] <= ARCHIVE_LIMIT_BYTES:
        file = f"{name}-{version}.oci.tar"
        row |= {"archive": file, "digest": archive(reference, version, folder / file, storage=storage)}
    return row
