"""A folder in which the commands of a page can be run: the checkout's own files, and those that the page shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.binaries import Binaries, build
from deploy.local.layout import layout_of
from deploy.local.progress import Progress
from tests.docs.folders import lay_out
from tests.model_folders import make_folder


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """kubectl and Helm; built already, unless this is the first test that ever runs."""
    return build(layout_of(), Progress())


@pytest.fixture
def folder_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Makes the folder of a page, and goes there."""

    def make(page: Path) -> Path:
        lay_out(page, tmp_path)
        (tmp_path / "data.jsonl").write_text('{"text": "one"}\n')
        make_folder(tmp_path / "DIR", 16_060_522_496)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make
