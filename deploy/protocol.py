"""`python -m deploy.protocol`: generate the messages of `tandem.draft.v1`; with `--check`, fail when they are stale."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1] / "runtime"
FOLDER = Path("tandem_runtime/drafting/protocol")
GENERATED = ("draft_pb2.py", "draft_pb2.pyi")


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds a file that is not what the compiler makes of the source."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={scratch}", f"--pyi_out={scratch}"]
        subprocess.run([*command, str(FOLDER / "draft.proto")], check=True, cwd=ROOT, timeout=60)
        made = {name: (Path(scratch) / FOLDER / name).read_text(encoding="utf-8") for name in GENERATED}
    if arguments != ["--check"]:
        for name, text in made.items():
            (ROOT / FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    there = {name: (ROOT / FOLDER / name) for name in GENERATED}
    stale = [name for name, path in there.items() if not path.is_file() or path.read_text("utf-8") != made[name]]
    if stale:
        sys.stderr.write(f"{', '.join(stale)} is not what draft.proto says: run `make protocol`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
