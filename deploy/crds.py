"""`python -m deploy.crds`: write the generated CRDs to crds/ and into the chart; `--check` fails on drift instead."""

from __future__ import annotations

import sys
from pathlib import Path

from tandem_operator import names
from tandem_operator.api.crd import crd_yaml

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "crds" / f"{names.PLURAL}.yaml", ROOT / "charts/tandem/files/crds" / f"{names.PLURAL}.yaml")


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds a file that differs from what the models say."""
    wanted = crd_yaml()
    stale = [path for path in FILES if not path.is_file() or path.read_text(encoding="utf-8") != wanted]
    if arguments == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} differs from the models: run `make crds`\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
