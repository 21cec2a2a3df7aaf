"""The options that every program of an artifact Job has."""

from __future__ import annotations

import argparse
from pathlib import Path

from tandem_contracts.artifact_job import VOLUME_FOLDER
from tandem_contracts.launch import TERMINATION_LOG
from tandem_contracts.ports import METRICS_PORT


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the artifact, the volume, and where figures and the last word go; for `python -m MODULE`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--key", required=True, help="name of the artifact")
    parser.add_argument("--volume", type=Path, default=Path(VOLUME_FOLDER), help="the folder of all artifacts")
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT, help="0: no figures of progress")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help=argparse.SUPPRESS)
    return parser
