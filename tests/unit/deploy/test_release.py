"""What of a release is pure: versions, bills of materials, packed files."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclonedx.model.component import ComponentType
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from deploy.images.catalogue import NAMES, Image
from deploy.images.errors import ImageError
from deploy.images.storage import Layer, Storage, StoredImage
from deploy.local.layout import REPOSITORY
from deploy.local.progress import Progress
from deploy.release.__main__ import main, plugin_sbom
from deploy.release.errors import ReleaseError
from deploy.release.images import dpkg_status_of, image_sbom, refuse_unknown, release_images
from deploy.release.packing import EARLIEST, stage, write_tar_gz
from deploy.release.plugin import LOCK, NAME
from deploy.release.sbom import debian_packages_in, environment_of, python_packages_in, sbom_of
from deploy.release.versions import check_version, versions_in
from tandem_operator import __version__
from tests.checkouts import make_checkout

LINUX = environment_of(python="3.11", system="Linux", machine="x86_64")
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 Version: 0 is what a description may say.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""


def test_every_place_says_the_same_version() -> None:
    assert set(versions_in(REPOSITORY).values()) == {__version__}
    check_version(__version__, REPOSITORY)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("v0.1.0", "must be a semantic version without v"),
        ("0.1", "must be a semantic version"),
        ("01.0.0", "must be a semantic version"),
        ("9.9.9", "pyproject.toml, project.version (is "),
    ],
)
def test_a_version_that_nothing_has_is_refused(version: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ReleaseError, match=re.escape(told)):
        check_version(version, REPOSITORY)
    assert main([version, "--images"]) == 1
    assert told in capsys.readouterr().err
    assert not (REPOSITORY / "build/release" / version).exists()


@pytest.mark.parametrize(
    "place", ["pyproject.toml", "charts/tandem/Chart.yaml", "operator/tandem_operator/__init__.py"]
)
def test_one_place_that_says_another_version_is_named(place: str, tmp_path: Path) -> None:
    for file in ("pyproject.toml", "charts/tandem/Chart.yaml", "operator/tandem_operator/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    check_version(__version__, tmp_path)
    text = (tmp_path / place).read_text(encoding="utf-8")
    (tmp_path / place).write_text(re.sub(r'(ersion(?:__)?(?: =|:) "?)' + re.escape(__version__), r"\g<1>7.7.7", text))
    with pytest.raises(ReleaseError, match=rf"{re.escape(place)}, \w+(\.version)? \(is 7\.7\.7\)"):
        check_version(__version__, tmp_path)


def test_a_lock_s_packages_are_those_whose_markers_hold() -> None:
    lock = (
        "one==1.0 \\\n    --hash=sha256:00\n"
        "two==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
        "three==3.0 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n"
        "three==3.1 ; python_full_version >= '3.12' \\\n    --hash=sha256:00\n"
    )
    newer = environment_of(python="3.13", system="Darwin", machine="arm64")
    assert python_packages_in(lock, [LINUX]) == {"pkg:pypi/one@1.0", "pkg:pypi/three@3.0"}
    assert python_packages_in(lock, [LINUX, newer]) == {"pkg:pypi/one@1.0", "pkg:pypi/three@3.0", "pkg:pypi/three@3.1"}


def test_debian_s_packages_are_those_that_are_installed() -> None:
    assert debian_packages_in(STATUS) == {"pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=bookworm"}


@pytest.mark.parametrize("name", [NAME, *NAMES])
def test_every_bill_of_materials_is_valid_and_the_same_twice(name: str) -> None:
    first, second = (
        plugin_sbom(__version__) if name == NAME else image_sbom(Image(name), __version__, dpkg_status=STATUS)
        for _ in range(2)
    )
    assert first == second
    assert make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(first) is None
    document = json.loads(first)
    assert document["metadata"]["component"]["name"] == name
    assert document["components"]


def test_without_building_one_every_image_is_listed(tmp_path: Path) -> None:
    release_images(__version__, tmp_path, names=[])
    rows = json.loads((tmp_path / "images.json").read_text())
    assert rows == [{"name": name, "tag": __version__, "content": Image(name).tag} for name in NAMES]
    assert {file.name for file in tmp_path.glob("*.cdx.json")} == {f"{name}.cdx.json" for name in NAMES}


@dataclass(frozen=True)
class Files(Storage):
    """A storage whose layers are files."""

    def layer_command(self, layer: Layer) -> list[str]:
        return ["cat", str(self.folder / layer.identity)]


def layers_of(folder: Path, *contents: dict[str, str]) -> tuple[Layer, ...]:
    """Layers with these files each."""
    for number, files in enumerate(contents):
        with tarfile.open(folder / str(number), "w") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
    return tuple(Layer(str(number), f"sha256:{number}", 0) for number in range(len(contents)))


def test_what_debian_has_installed_is_what_the_last_layer_with_a_status_says(tmp_path: Path) -> None:
    status = "var/lib/dpkg/status"
    layers = layers_of(tmp_path, {status: "first"}, {"etc/passwd": "", status: "second"}, {"code.py": "third"})
    storage = Files(tmp_path, tmp_path, Progress(io.StringIO()))
    assert dpkg_status_of(StoredImage(b"", b"", layers), storage) == "second"
    assert dpkg_status_of(StoredImage(b"", b"", layers[2:]), storage) == ""
    (tmp_path / "1").write_bytes(b"")
    with pytest.raises(ImageError, match="layer sha256:1 cannot be read"):
        dpkg_status_of(StoredImage(b"", b"", layers), storage)


def test_another_package_is_another_document() -> None:
    def serial_of(*packages: str) -> str:
        text = sbom_of("app", "1.0.0", packages, kind=ComponentType.APPLICATION, made=EARLIEST)
        serial: str = json.loads(text)["serialNumber"]
        return serial

    assert serial_of("pkg:pypi/one@1.0") != serial_of("pkg:pypi/one@1.1")


def test_a_bill_of_materials_says_what_it_does_not_know() -> None:
    remarks = json.loads(image_sbom(Image("engine-gpu"), __version__, dpkg_status=None))["metadata"]["properties"]
    assert [remark["value"].partition(":")[0] for remark in remarks] == [
        "not built here",
        "what its base brings is missing",
    ]


def test_neither_an_engine_nor_the_operator_s_own_libraries_are_in_the_plugin() -> None:
    names = {purl.removeprefix("pkg:pypi/").partition("@")[0] for purl in python_packages_in(LOCK.read_text(), [LINUX])}
    assert {"kubernetes", "pydantic-core"} <= names
    assert not names & {"vllm", "torch", "numpy", "kopf", "grpcio", "cryptography"}


def test_a_folder_of_which_git_knows_nothing_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    make_checkout(tmp_path)
    (tmp_path / "source/code.py").write_text("1\n")
    with pytest.raises(ReleaseError, match="no file that git knows"):
        stage(tmp_path / "source", tmp_path / "copy")


def test_an_unpacked_archive_is_packed_whole(tmp_path: Path) -> None:
    (tmp_path / "source/__pycache__").mkdir(parents=True)
    (tmp_path / "source/code.py").write_text("1\n")
    (tmp_path / "source/__pycache__/code.pyc").write_text("")
    stage(tmp_path / "source", tmp_path / "copy")
    assert [file.name for file in (tmp_path / "copy").iterdir()] == ["code.py"]


def test_an_image_with_a_file_that_git_does_not_know_is_refused(tmp_path: Path) -> None:
    image = Image("app", tmp_path)
    (tmp_path / image.containerfile).parent.mkdir(parents=True)
    (tmp_path / image.containerfile).write_text("FROM scratch\nCOPY code /code\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/main.py").write_text("1\n")
    make_checkout(tmp_path)
    refuse_unknown(image)
    (tmp_path / "code/token").write_text("secret\n")
    with pytest.raises(ReleaseError, match="image app would have code/token, which git does not know"):
        refuse_unknown(image)


def test_archives_do_not_depend_on_time_and_umask(tmp_path: Path) -> None:
    digests = []
    for number, umask in enumerate((0o022, 0o077)):
        source, copy = tmp_path / f"source-{number}", tmp_path / f"copy-{number}"
        before = os.umask(umask)
        try:
            (source / "folder").mkdir(parents=True)
            (source / "folder/code.py").write_text("1\n")
            (source / "program").write_text("#!/bin/sh\n")
            (source / "program").chmod(0o777 & ~umask)
            os.utime(source / "program", (number + 1e9, number + 1e9))
            make_checkout(source)
            (source / "secret.yaml").write_text("password: x\n")
            stage(source, copy)
            archive = tmp_path / f"{number}.tar.gz"
            write_tar_gz(archive, {name: copy / name for name in ("program", "folder/code.py")})
        finally:
            os.umask(before)
        copied = sorted(str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file())
        assert copied == ["folder/code.py", "program"], "and nothing that git does not know"
        digests.append(archive.read_bytes())
    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "0.tar.gz") as tar:
        assert {member.name: (member.mode, member.mtime) for member in tar} == {
            "program": (0o755, EARLIEST),
            "folder/code.py": (0o644, EARLIEST),
        }
