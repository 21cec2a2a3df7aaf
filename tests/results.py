"""Results of the campaigns, as JSON beside the figures of the benchmarks."""

import json
import subprocess
from collections.abc import Mapping

from deploy.local.layout import REPOSITORY

FOLDER = REPOSITORY / "benchmarks/results"


def commit() -> str:
    """What is tested; empty outside of a checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def write(name: str, results: Mapping[str, object]) -> None:
    """Replace the results of that name."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(json.dumps(results, indent=1) + "\n")
