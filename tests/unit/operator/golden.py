"""Compares manifests with the reviewed files under golden/; `TANDEM_UPDATE_GOLDEN=1` rewrites these instead."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "golden"


class _NoAliases(yaml.SafeDumper):
    """Writes shared parts out in full, so that a diff shows one change once."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def golden_difference(name: str, manifests: list[dict[str, object]]) -> str:
    """A unified diff between golden/NAME.yaml and `manifests`; empty when they are equal."""
    path = FOLDER / f"{name}.yaml"
    text = "---\n".join(yaml.dump(m, Dumper=_NoAliases, sort_keys=False, width=120) for m in manifests)
    if os.environ.get("TANDEM_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    known = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = difflib.unified_diff(known.splitlines(), text.splitlines(), f"golden/{name}.yaml", "now", lineterm="")
    return "\n".join(lines)
