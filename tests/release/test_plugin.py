"""The real plugin for this machine, run where nothing of the checkout is; krew's own judge of its manifest; and that
what is built twice has the same bytes.
"""

from __future__ import annotations

import os
import platform as machine
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deploy.chart_files import CHART
from deploy.local.layout import REPOSITORY
from deploy.release.chart import pack_chart
from deploy.release.krew import FILE, manifest_of, text_of
from deploy.release.packing import sha256_of
from deploy.release.plugin import NAME, PLATFORMS, Platform, pack_plugin
from tandem_operator import __version__
from tests.checkouts import make_checkout
from tests.release.conftest import Judge

LIMIT_SECONDS = 60
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
HERE = next(each for each in PLATFORMS if (each.os, each.arch) == ("linux", ARCHITECTURES[machine.machine()]))
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""For one version of Python building takes a quarter of the time."""
SAMPLE = REPOSITORY / "deploy/samples/gpu-pair.yaml"
HOME = "https://forge.example/tandem"


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_plugin(HERE, tmp_path_factory.mktemp("plugin"), pythons=[PYTHON])


@pytest.fixture(scope="session")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the archive was unpacked to."""
    folder = tmp_path_factory.mktemp("installed")
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [NAME, "LICENSE"]
        tar.extractall(folder, filter="data")
    return folder


def run(program: Path, *arguments: str, home: Path) -> str:
    """What it prints, with a Python on PATH and nothing else."""
    bare = home / "bin"
    bare.mkdir(exist_ok=True)
    for name in ("python3", f"python{PYTHON}"):
        if not (bare / name).exists():
            (bare / name).symlink_to(Path(sys.base_prefix) / f"bin/python{PYTHON}")
    done = subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        env={"PATH": f"{bare}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(home)},
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("plan", "-f", str(SAMPLE)), ("accelerators",), ("completion", "bash")],
    ids=lambda words: words[0],
)
def test_the_file_alone_says_what_the_installed_command_says(
    arguments: tuple[str, ...], installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.getbasetemp()
    here = Path(sys.executable).parent / "kubectl-tandem"
    expected = subprocess.run([here, *arguments], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True)
    assert run(installed / NAME, *arguments, home=home) == expected.stdout


def test_kubectl_s_completion_needs_no_other_program(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.getbasetemp()
    script = home / "kubectl_complete-tandem"
    script.write_text(run(installed / NAME, "completion", "kubectl", home=home))
    script.chmod(0o755)
    (home / "bin" / NAME).symlink_to(installed / NAME)
    *words, end = run(script, "stat", home=home).splitlines()
    assert [word.partition("\t")[0] for word in words if word] == ["status"]
    assert end == ":4"


def test_what_is_built_twice_has_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    again = pack_plugin(HERE, tmp_path, pythons=[PYTHON])
    assert sha256_of(again) == sha256_of(archive)


def test_the_chart_s_package_has_the_same_bytes_from_a_younger_checkout_with_files_of_somebody(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    pack_chart(tmp_path / "one")
    shutil.copytree(CHART, tmp_path / "checkout/tandem", copy_function=shutil.copyfile)  # with the time of now
    make_checkout(tmp_path / "checkout")
    (tmp_path / "checkout/tandem/my-values.secret.yaml").write_text("password: x\n")
    pack_chart(tmp_path / "two", chart=tmp_path / "checkout/tandem")
    package = f"tandem-{__version__}.tgz"
    assert (tmp_path / "one" / package).read_bytes() == (tmp_path / "two" / package).read_bytes()


def digests_with(archive: Path) -> dict[Platform, str]:
    """Of this platform the real one; the others are built by `make release`."""
    return {each: sha256_of(archive) if each == HERE else "0" * 64 for each in PLATFORMS}


def test_krew_takes_the_manifest(archive: Path, judged: Judge, tmp_path: Path) -> None:
    text = text_of(manifest_of(__version__, home=HOME, digests=digests_with(archive)))
    assert sha256_of(archive) in text
    (tmp_path / FILE).write_text(text)
    done = judged(tmp_path / FILE)
    assert done.returncode == 0, done.stderr
    assert f"/releases/download/v{__version__}/{archive.name}" in text


@pytest.mark.parametrize(
    ("ours", "other"),
    [("0" * 64, "0" * 63), ("v0", "0"), ("bin: kubectl-tandem", "bin: ''"), ("arch: arm64", "arch: amd64")],
)
def test_krew_would_refuse_one_with_a_mistake(
    ours: str, other: str, archive: Path, judged: Judge, tmp_path: Path
) -> None:
    text = text_of(manifest_of("0.1.0", home=HOME, digests=digests_with(archive)))
    assert ours in text
    (tmp_path / FILE).write_text(text.replace(ours, other))
    assert judged(tmp_path / FILE).returncode != 0
