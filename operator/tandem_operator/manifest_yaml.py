"""Manifests as YAML that a person reads: keys in their order, and no anchors. Pure."""

from __future__ import annotations

from typing import Any

import yaml


class _NoAliases(yaml.SafeDumper):
    """Writes shared parts out in full: an anchor in a manifest is legal, and unreadable."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def manifest_yaml(manifest: dict[str, Any]) -> str:
    """One YAML document."""
    return yaml.dump(manifest, Dumper=_NoAliases, sort_keys=False, width=120, allow_unicode=True)
