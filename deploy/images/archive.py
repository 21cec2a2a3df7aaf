"""Writes a stored image as an OCI archive into a pipe, without the blobs that the reader has already.

containerd accepts an archive whose missing blobs are in its content store. So a change of our code costs kilobytes, not
the gigabytes of the layer below it, and nothing is ever written to disk in between.
Format: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Collection
from typing import IO

from deploy.images.errors import ImageError
from deploy.images.storage import Layer, Storage, StoredImage

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_CHUNK_BYTES = 1 << 20


def digest_of(content: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def missing_layers(image: StoredImage, present: Collection[str]) -> list[Layer]:
    """The layers whose digests are not among `present`."""
    return [layer for layer in image.layers if layer.digest not in present]


def write_archive(
    image: StoredImage, reference: str, *, layers: Collection[Layer], storage: Storage, output: IO[bytes]
) -> None:
    """Write `image` under the name `reference`, with `layers` as its only layers.

    Raises ImageError when a layer cannot be read, and OSError when `output` closes early.
    """
    files = metadata_of(image, reference)
    output.writelines(_header(name, len(files[name])) + files[name] + _padding(len(files[name])) for name in files)
    for layer in layers:
        output.write(_header(_blob_name(layer.digest), layer.size))
        _copy(layer, storage=storage, output=output)
        output.write(_padding(layer.size))
    output.write(bytes(2 * tarfile.BLOCKSIZE))


def metadata_of(image: StoredImage, reference: str) -> dict[str, bytes]:
    """The archive's files but for the layers, by their names."""
    manifest = digest_of(image.manifest)
    entry = {
        "mediaType": json.loads(image.manifest)["mediaType"],
        "digest": manifest,
        "size": len(image.manifest),
        "annotations": {
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        },
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [entry]}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        _blob_name(manifest): image.manifest,
        _blob_name(digest_of(image.configuration)): image.configuration,
    }


def _copy(layer: Layer, *, storage: Storage, output: IO[bytes]) -> None:
    with subprocess.Popen(storage.layer_command(layer), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        try:
            counted = _Counted(output)
            shutil.copyfileobj(process.stdout, counted, _CHUNK_BYTES)
        except BaseException:
            process.kill()
            raise
        message = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0 or counted.written != layer.size:
        raise ImageError(
            f"layer {layer.digest}: {counted.written} of {layer.size} bytes, status {process.returncode}: {message}"
        )


class _Counted:
    """Passes on what is written and counts it."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self.written = 0

    def write(self, content: bytes) -> int:
        self.written += len(content)
        return self._output.write(content)


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    # GNU, because a layer may be larger than the 8 GiB that ustar can say.
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
