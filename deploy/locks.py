"""`python -m deploy.locks`: resolve requirements/*.txt; `--check` fails when a lock does not fit its sources.

One lock for each environment, with hashes and without addresses of package indexes. Pins that still fit are kept:
delete a lock first to move everything to its newest version.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 300
LOCKS = {
    "operator.txt": ["pyproject.toml", "--extra", "operator"],
    "cli.txt": ["pyproject.toml", "--extra", "cli"],
    "dev.txt": ["pyproject.toml", "--extra", "operator", "--extra", "cli", "--extra", "runtime", "--group", "dev"],
    "docs.txt": ["pyproject.toml", "--group", "docs"],
    "engine-cpu.txt": [
        "deploy/images/engine-cpu/requirements.in",
        "--override",
        "deploy/images/engine-cpu/overrides.txt",
    ],
    "artifacts.txt": [
        "deploy/images/artifacts/requirements.in",
        "--override",
        "deploy/images/artifacts/overrides.txt",
        "--excludes",
        "deploy/images/artifacts/excludes.txt",
    ],
    "draft-triton.txt": [
        "deploy/images/draft-triton/requirements.in",
        "--override",
        "deploy/images/draft-triton/overrides.txt",
    ],
    "engine-gpu.txt": ["deploy/images/engine-gpu/requirements.in", "--no-deps"],
    "runtime.txt": ["pyproject.toml", "--extra", "runtime"],
    "go.txt": ["deploy/local/go.in"],
    "checkov.txt": ["tests/chart/checkov.in"],
}


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds a lock that has to be made again."""
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for name, sources in LOCKS.items():
            lock, fresh = ROOT / "requirements" / name, Path(folder) / name
            if lock.is_file():
                shutil.copy(lock, fresh)
            _compile(sources, fresh)
            if not lock.is_file() or lock.read_text(encoding="utf-8") != fresh.read_text(encoding="utf-8"):
                stale.append(name)
                if arguments != ["--check"]:
                    shutil.copy(fresh, lock)
    if arguments == ["--check"] and stale:
        sys.stderr.write(f"requirements/{', '.join(stale)} does not fit its sources: run `make lock`\n")
        return 1
    return 0


def _compile(sources: list[str], output: Path) -> None:
    command = [
        sys.executable, "-m", "uv", "pip", "compile", *sources, "--universal", "--python-version", "3.11",
        "--generate-hashes", "--no-annotate", "--no-header", "--quiet", "--output-file", str(output),
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, timeout=LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
