"""`kubectl tandem` as one file a platform, by pex: our sources, and the wheels of requirements/cli.txt.

Wheels are chosen for a platform by its name, so that each file is built on any machine; a wheel that is missing ends
the build. One file holds the wheels of all `PYTHONS`, since what is compiled fits one of them only. What it does not
hold is Python itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.layout import REPOSITORY, cache_of
from deploy.release.errors import ReleaseError
from deploy.release.packing import epoch, stage, write_tar_gz

NAME = "kubectl-tandem"
ENTRY_POINT = "tandem_operator.cli.main:main"
SOURCES = {"tandem_operator": "operator/tandem_operator", "tandem_contracts": "runtime/tandem_contracts"}
LOCK = REPOSITORY / "requirements/cli.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Platform:
    """Operating system and architecture as Kubernetes calls them, and the platform tag of wheels that run there."""

    os: str
    arch: str
    tag: str

    @property
    def archive(self) -> str:
        """The name of the file that krew downloads."""
        return f"{NAME}-{self.os}-{self.arch}.tar.gz"


PLATFORMS = (
    Platform("linux", "amd64", "manylinux2014_x86_64"),
    Platform("linux", "arm64", "manylinux2014_aarch64"),
    Platform("darwin", "amd64", "macosx_11_0_x86_64"),
    Platform("darwin", "arm64", "macosx_11_0_arm64"),
)


def build_plugin(platform: Platform, output: Path, *, pythons: Sequence[str] = PYTHONS) -> None:
    """Write the program to `output`, for these versions of Python. Raises ReleaseError."""
    with tempfile.TemporaryDirectory() as folder:
        for package, source in SOURCES.items():
            stage(REPOSITORY / source, Path(folder) / package)
        versions = [python.replace(".", "") for python in pythons]
        arguments = [
            f"--requirement={LOCK}",
            "--use-pip-config",  # the machine's package index
            "--no-build",
            # Wheels lie in it as they are; the first run unpacks them. Else building takes four times as long.
            "--no-pre-install-wheels",
            "--python-shebang=/usr/bin/env python3",
            *(f"--platform={platform.tag}-cp-{version}-cp{version}" for version in versions),
            *(f"--package={package}@{folder}" for package in SOURCES),
            f"--entry-point={ENTRY_POINT}",
            f"--output-file={output}",
        ]
        environment = {**os.environ, "PEX_ROOT": str(cache_of(os.environ) / "pex"), "SOURCE_DATE_EPOCH": str(epoch())}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pex", *arguments],
                capture_output=True,
                text=True,
                env=environment,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ReleaseError(f"{output.name} for {platform.tag} took more than {LIMIT_SECONDS} s") from None
    if done.returncode != 0:
        raise ReleaseError(f"{output.name} for {platform.tag}: pex ended with {done.returncode}: {done.stderr[-2000:]}")


def pack_plugin(platform: Platform, folder: Path, *, pythons: Sequence[str] = PYTHONS) -> Path:
    """Write the archive with the program and its licence into `folder`; returns its path. Raises ReleaseError."""
    archive = folder / platform.archive
    with tempfile.TemporaryDirectory() as work:
        program = Path(work) / NAME
        build_plugin(platform, program, pythons=pythons)
        write_tar_gz(archive, {NAME: program, "LICENSE": REPOSITORY / "LICENSE"})
    return archive
