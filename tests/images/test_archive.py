"""The archive that goes to containerd, read back with Python's tarfile. Layers come from plain files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.images.archive import digest_of, missing_layers, write_archive
from deploy.images.errors import ImageError
from deploy.images.storage import Layer, Storage, StoredImage, opened, superfluous
from deploy.local.progress import Progress

REFERENCE = "tandem.local/app:0123456789ab"
CONTENTS = {"one": b"1" * 700, "two": b"2" * 512, "three": b""}


@dataclass(frozen=True)
class Files(Storage):
    """A storage whose layers are files; reading one ends with `status`."""

    status: int = 0

    def layer_command(self, layer: Layer) -> list[str]:
        program = f"import sys; sys.stdout.write(open(sys.argv[1]).read()); sys.exit({self.status})"
        return [sys.executable, "-c", program, str(self.folder / layer.identity)]


def make_storage(folder: Path, *, status: int = 0) -> Files:
    """A storage with the layers of CONTENTS."""
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return Files(folder, folder, Progress(io.StringIO()), status)


def make_image() -> StoredImage:
    """An image of the three layers."""
    layers = tuple(Layer(name, digest_of(content), len(content)) for name, content in CONTENTS.items())
    descriptors = [{"digest": layer.digest, "size": layer.size} for layer in layers]
    manifest = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": descriptors}
    return StoredImage(json.dumps(manifest).encode(), b'{"os":"linux"}', layers)


def written(image: StoredImage, present: set[str], storage: Storage) -> dict[str, bytes]:
    """The files of the archive."""
    output = io.BytesIO()
    write_archive(image, REFERENCE, layers=missing_layers(image, present), storage=storage, output=output)
    assert len(output.getvalue()) % tarfile.BLOCKSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_every_blob_has_the_content_of_its_name(tmp_path: Path) -> None:
    files = written(make_image(), set(), make_storage(tmp_path))
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert len(blobs) == len(CONTENTS) + 2
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def test_the_index_leads_to_the_manifest_under_the_image_s_name(tmp_path: Path) -> None:
    image = make_image()
    files = written(image, set(), make_storage(tmp_path))
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert files["blobs/sha256/" + entry["digest"].removeprefix("sha256:")] == image.manifest
    assert entry["size"] == len(image.manifest)
    assert entry["annotations"]["io.containerd.image.name"] == REFERENCE


def test_layers_that_are_there_are_left_out_and_nothing_else_is(tmp_path: Path) -> None:
    image, storage = make_image(), make_storage(tmp_path)
    everything = written(image, set(), storage)
    some = written(image, {image.layers[0].digest, "sha256:of-something-else"}, storage)
    assert everything.keys() - some.keys() == {f"blobs/sha256/{image.layers[0].digest.removeprefix('sha256:')}"}
    assert some.items() <= everything.items()


def test_a_layer_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="700 of 700 bytes, status 3"):
        written(make_image(), set(), make_storage(tmp_path, status=3))


def test_a_layer_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    storage = make_storage(tmp_path)
    (tmp_path / "two").write_bytes(b"2")
    with pytest.raises(ImageError, match="1 of 512 bytes, status 0"):
        written(make_image(), set(), storage)


def test_only_older_tags_of_the_same_image_are_superfluous() -> None:
    references = ["a/x:3", "a/xy:1", "a/x:2", "docker.io/a/x:1", "a/x:1"]
    assert superfluous(references, "a/x", keep=2) == ["a/x:1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="an image storage needs root: chroot and overlay mounts")
def test_images_are_ordered_by_when_they_came_whatever_time_they_say_that_they_were_made(tmp_path: Path) -> None:
    containerfile = tmp_path / "Containerfile"
    containerfile.write_text("FROM scratch\nLABEL a=b\n")
    with opened(tmp_path / "images", Progress(stream=io.StringIO())) as storage:
        for tag, seconds in (("1", 3_000_000_000), ("2", 0), ("3", 1_000_000_000)):
            options = (f"--timestamp={seconds}", f"--tag=a/x:{tag}", f"--file={containerfile}")
            log = storage.log_of("build")
            storage.buildah("build", *options, str(tmp_path), what=f"a/x:{tag}", limit_seconds=60, log=log)
        assert storage.references() == ["localhost/a/x:3", "localhost/a/x:2", "localhost/a/x:1"]
