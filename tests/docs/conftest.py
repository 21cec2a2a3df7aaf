"""A folder in which the commands of a page can be run: the checkout's own files, and those that the page shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.binaries import Binaries, build
from deploy.local.layout import layout_of
from deploy.local.progress import Progress
from tests.docs.blocks import ALL, ROOT, commands_of
from tests.model_folders import make_folder

SHOWN = ("deploy", "charts", "crds", "docs")
WRITTEN = {"kubectl": (ROOT / "deploy/samples/cpu-pair.yaml").read_text(), "helm": "{}\n"}
"""What stands for the output of a command that a page has go into a file."""


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """kubectl and Helm; built already, unless this is the first test that ever runs."""
    return build(layout_of(), Progress())


@pytest.fixture
def folder_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Makes the folder of a page, and goes there."""

    def make(page: Path) -> Path:
        for name in SHOWN:
            (tmp_path / name).symlink_to(ROOT / name)
        for block in ALL:
            if block.page == page and block.title:
                (tmp_path / block.title).write_text(block.text)
            for command in commands_of(block) if block.page == page and block.language == "console" else ():
                if command.into:
                    (tmp_path / command.into).write_text(WRITTEN[command.words[0]])
        (tmp_path / "data.jsonl").write_text('{"text": "one"}\n')
        make_folder(tmp_path / "DIR", 16_060_522_496)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make
