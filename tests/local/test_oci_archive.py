"""The archive writer: what it writes is a valid image, and always the same bytes."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from deploy.local.oci_archive import Image, write_archive

IMAGE = Image("tandem.local/x:1", {"bin/x": b"program", "y": b"data"}, ["/bin/x", "run"])


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    content = files["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(content) == descriptor["size"]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    return content


def test_index_manifest_configuration_and_layer_fit_together(tmp_path: Path) -> None:
    write_archive(IMAGE, tmp_path / "a.tar")
    files = read(tmp_path / "a.tar")
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == IMAGE.reference
    manifest = json.loads(blob(files, entry))
    configuration = json.loads(blob(files, manifest["config"]))
    (layer,) = [blob(files, descriptor) for descriptor in manifest["layers"]]
    assert configuration["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert configuration["config"] == {"Entrypoint": ["/bin/x", "run"], "User": "10001:10001"}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert {m.name: oct(m.mode) for m in tar} == {"bin": "0o755", "bin/x": "0o755", "y": "0o755"}


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    write_archive(IMAGE, tmp_path / "a.tar")
    write_archive(IMAGE, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
