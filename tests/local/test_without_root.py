"""Without root: the control plane and fake nodes come up, and the demo says what a real node would need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LIMIT_SECONDS = 90

pytestmark = pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to give up root")


def _run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A user namespace without a mapping: nobody there, yet able to read the cache of whoever runs the tests.
    command = ["unshare", "--user", sys.executable, "-m", *arguments]
    environment = {**os.environ, "TANDEM_STATE": str(state), "KUBECONFIG": str(state / "no such file")}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cluster"
    yield folder
    assert _run(folder, "deploy.local", "down").returncode == 0


def test_the_demo_says_what_it_lacks_and_leaves_a_control_plane_with_fake_nodes(state: Path) -> None:
    demo = _run(state, "deploy.demo", "up")
    assert demo.returncode == 1
    assert "not root" in demo.stderr
    assert "Run it as root" in demo.stderr
    seen = _run(state, "deploy.local", "kubectl", "get", "nodes", "--no-headers")
    assert [line.split()[:2] for line in seen.stdout.splitlines()] == [
        ["nvidia-h100-80gb-1", "Ready"],
        ["nvidia-h100-80gb-2", "Ready"],
    ]


def test_another_cluster_is_not_touched_before_it_is_known_that_images_can_be_built(state: Path) -> None:
    demo = _run(state, "deploy.demo", "up", "--cluster", "current", "--registry", "registry.example/tandem")
    assert (demo.returncode, demo.stdout) == (1, "")
    assert demo.stderr.startswith("demo: not root")
