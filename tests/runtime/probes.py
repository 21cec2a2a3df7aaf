"""Programs of this folder that run inside an engine's environment and answer in JSON."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from deploy.fixtures.environment import engine_environment
from deploy.local.layout import REPOSITORY

LIMIT_SECONDS = 300


def answers_of(
    probe: str, *arguments: str, python: Path | None = None, limit_seconds: float = LIMIT_SECONDS
) -> dict[str, Any]:
    """What the last line of a probe's output says; fails with its standard error when it fails.

    `python`: of another environment than the engine's.
    """
    finished = subprocess.run(
        [str(python or engine_environment()), str(Path(__file__).parent / probe), *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "runtime")},
        capture_output=True,
        text=True,
        timeout=limit_seconds,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1]))
