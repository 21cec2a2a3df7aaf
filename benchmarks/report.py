"""How a benchmark reports: a table for people, `name=value` lines for scripts, JSON for the repository."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def options_of(name: str, description: str | None) -> argparse.Namespace:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="where the results are written")
    return parser.parse_args()


def report(name: str, figures: Mapping[str, float], *, table: str, path: Path) -> None:
    """Print the table and the figures, and write them with the machine that they were measured on."""
    print(table)
    print()
    for key, value in figures.items():
        print(f"{key}={value:.3f}")
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    written = {"benchmark": name, "at": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": machine, **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
