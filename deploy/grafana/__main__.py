"""`python -m deploy.grafana`: write dashboards and rules into the chart; `--check` fails on drift instead."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from deploy.grafana.rules import rule_groups
from deploy.grafana.written import DASHBOARDS, written

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts/tandem/files"


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds a file that differs from what the code says."""
    wanted = {FOLDER / f"dashboards/{each.uid}.json": written(each) for each in DASHBOARDS}
    wanted[FOLDER / "rules.yaml"] = yaml.safe_dump({"groups": rule_groups()}, sort_keys=False, width=100)
    there = set((FOLDER / "dashboards").glob("*.json"))
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    left = sorted(there - wanted.keys())
    if arguments == ["--check"]:
        for path in (*stale, *left):
            sys.stderr.write(f"{path.relative_to(ROOT)} differs from deploy/grafana: run `make dashboards`\n")
        return 1 if stale or left else 0
    for path in left:
        path.unlink()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
