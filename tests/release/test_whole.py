"""A whole release, and a small image built twice from nothing: minutes each, so in the campaign only."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.images.catalogue import NAMES
from deploy.release.__main__ import CHECKSUMS, HOME, release
from deploy.release.images import release_images
from deploy.release.krew import FILE
from deploy.release.packing import sha256_of
from deploy.release.plugin import PLATFORMS
from tandem_operator import __version__
from tests.release.conftest import Judge

NAME = "operator"


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="building images needs root: chroot and overlay mounts")
def test_the_same_inputs_make_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, archives = [], []
    for storage in ("one", "two"):
        monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / storage))
        folder = tmp_path / f"{storage}-release"
        folder.mkdir()
        release_images(__version__, folder, names=[NAME])
        rows.append(next(row for row in json.loads((folder / "images.json").read_text()) if row["name"] == NAME))
        archives.append(folder / rows[-1]["archive"])
        packages = (folder / f"{NAME}.cdx.json").read_text()
        assert "pkg:deb/debian/python3.11" in packages
        assert "pkg:pypi/kopf" in packages
    assert rows[0] == rows[1]
    assert sha256_of(archives[0]) == sha256_of(archives[1])
    with tarfile.open(archives[0]) as tar:
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
