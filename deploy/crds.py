"""`python -m deploy.crds`: write the generated CRDs to crds/ and into the chart; `--check` fails on drift instead."""

from __future__ import annotations

import sys
from pathlib import Path

from tandem_operator.api.crd import crd_files

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "crds", ROOT / "charts/tandem/files/crds")


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds a file that differs from what the models say."""
    wanted = {folder / name: text for folder in FOLDERS for name, text in crd_files().items()}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} differs from the models: run `make crds`\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
