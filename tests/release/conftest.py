"""Fixtures: krew's own judge of manifests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.binaries import build, module_of
from deploy.local.layout import layout_of
from deploy.local.progress import Progress

PROGRAM = "validate-krew-manifest"
LIMIT_SECONDS = 60

Judge = Callable[[Path], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def judged() -> Judge:
    """What krew's program says of a manifest. It would install it for every platform if it could reach the releases."""
    program = build(layout_of(), Progress(), modules=[module_of(PROGRAM)])[PROGRAM]

    def judge(manifest: Path) -> subprocess.CompletedProcess[str]:
        command = [program, f"-manifest={manifest}", "-skip-install"]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)

    return judge
