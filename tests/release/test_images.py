"""A small image, built twice from nothing: half a gigabyte and three minutes each, so in the campaign only."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from deploy.release.images import release_images
from deploy.release.packing import sha256_of
from tandem_operator import __version__

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
