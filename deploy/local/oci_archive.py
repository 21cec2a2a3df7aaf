"""Writes an image of a few files as an OCI archive, in pure Python and byte for byte reproducible. It needs no image
builder.

Meant for images of one static program (pause, the tests' server). Everything else is built in deploy/images.
Format: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIGURATION = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Image:
    """What goes into an image.

    `files` maps a path inside, without a leading slash, to its content; all are executable.
    """

    reference: str
    files: Mapping[str, bytes]
    entrypoint: Sequence[str]
    user: str = "10001:10001"
    architecture: str = "amd64"


def write_archive(image: Image, path: Path) -> None:
    """Write `image` to `path` as an OCI archive; the same image gives the same bytes."""
    layer = _tar({name: (content, 0o755) for name, content in image.files.items()})
    blobs: dict[str, bytes] = {}
    configuration = {
        "architecture": image.architecture,
        "os": "linux",
        "config": {"Entrypoint": list(image.entrypoint), "User": image.user},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _add(blobs, _json(configuration), CONFIGURATION),
        "layers": [_add(blobs, layer, LAYER)],
    }
    entry = _add(blobs, _json(manifest), MANIFEST)
    entry["annotations"] = {
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference.rsplit(":", 1)[-1],
    }
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {f"blobs/sha256/{digest.removeprefix('sha256:')}": blob for digest, blob in blobs.items()}
    path.write_bytes(_tar({name: (content, 0o644) for name, content in files.items()}))


def _add(blobs: dict[str, bytes], content: bytes, media_type: str) -> dict[str, Any]:
    blobs[_digest(content)] = content
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents} - {"."}):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, (content, mode) in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return output.getvalue()
