"""What lies in the folder that a page's commands are run in: the checkout's files, and those that the page shows."""

from __future__ import annotations

from pathlib import Path

from tests.docs.blocks import ALL, ROOT, commands_of

SHOWN = ("deploy", "charts", "crds", "docs")
WRITTEN = {"kubectl": (ROOT / "deploy/samples/cpu-pair.yaml").read_text(), "helm": "{}\n"}
"""What stands for the output of a command that a page has go into a file."""


def lay_out(page: Path, folder: Path) -> None:
    """Put them there."""
    for name in SHOWN:
        (folder / name).symlink_to(ROOT / name)
    for block in ALL:
        if block.page == page and block.title:
            (folder / block.title).write_text(block.text)
        for command in commands_of(block) if block.page == page and block.language == "console" else ():
            if command.into:
                (folder / command.into).write_text(WRITTEN[command.words[0]])
