"""Folders of which git knows something."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_checkout(folder: Path) -> None:
    """Git knows all that is there now, and nothing that comes."""
    for words in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", "-C", str(folder), *words], check=True, timeout=60)
