"""What lies in the folder that a page's commands are run in: the checkout's files, and those that the page shows."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from deploy.images.__main__ import main as images
from deploy.images.catalogue import BUILT_WITHOUT_REGISTRY
from tests.docs.blocks import ALL, ROOT, Command, commands_of

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
            if command.words[:2] == ("make", "images"):
                write_image_values(command, folder)
            if command.into:
                (folder / command.into).write_text(WRITTEN[command.words[0]])


def write_image_values(command: Command, folder: Path) -> None:
    """The file of values that `make images` leaves, by the program that make runs: nothing is built or pushed."""
    # Below another make it would tell of folders, too.
    argv = ["make", "--no-print-directory", "-n", *command.words[1:]]
    told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    _, *program, verb, registry, option, file = shlex.split(told.stdout.splitlines()[-1])
    assert (program, verb, option) == (["-m", "deploy.images"], "push", "--values")
    asked = ["references", *BUILT_WITHOUT_REGISTRY, "--registry", registry, option, str(folder / file)]
    assert images(asked) == 0
