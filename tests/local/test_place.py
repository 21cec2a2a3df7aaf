"""Whose cluster a command reaches: the context that was current at the start, or ours, and never the one in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.local.cluster import Cluster
from deploy.place import PlaceError, current_place

REPOSITORY = Path(__file__).parents[2]


def _write_kubeconfig(path: Path, *, current: str) -> None:
    contexts = {"production": "https://production.example:6443", "trial": "https://trial.example:6443"}
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in contexts.items()],
        "users": [{"name": name, "user": {"token": f"token-of-{name}"}} for name in contexts],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in contexts],
    }
    path.write_text(yaml.safe_dump(body))


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kubeconfig"
    _write_kubeconfig(path, current="trial")
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def test_the_current_context_is_frozen_and_no_other_one_comes_along(kubeconfig: Path) -> None:
    binaries = Cluster().build()
    place = current_place(kubectl=binaries["kubectl"], helm=binaries["helm4"])
    _write_kubeconfig(kubeconfig, current="production")
    assert place.context == "trial"
    assert json.loads(place.run("config", "view", "-o", "json"))["contexts"] == [
        {"name": "trial", "context": {"cluster": "trial", "user": "trial"}}
    ]
    assert "production" not in place.kubeconfig.read_text()
    assert place.kubeconfig.stat().st_mode & 0o077 == 0


def test_no_current_context_is_an_error_and_not_a_guess(kubeconfig: Path) -> None:
    _write_kubeconfig(kubeconfig, current="")
    binaries = Cluster().build()
    with pytest.raises(PlaceError, match="there is no current context"):
        current_place(kubectl=binaries["kubectl"], helm=binaries["helm4"])


def test_the_demo_on_the_current_context_asks_for_a_registry_before_it_does_anything() -> None:
    command = [sys.executable, "-m", "deploy.demo", "up", "--cluster", "current"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "CLUSTER=current needs REGISTRY=host/repo" in done.stderr
