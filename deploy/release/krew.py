"""The manifest by which krew, kubectl's plugin manager, finds the plugin. Pure.

Format: https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from deploy.release.plugin import NAME, PLATFORMS, Platform

FILE = "tandem.yaml"
"""krew wants it to be named after the plugin."""
_DESCRIPTION = """\
Shows what the Tandem operator makes of an LLMDeployment and why: its
conditions as a tree with causes, why there are as many replicas as there
are, live tokens per second, acceptance and latency, and every object that a
resource would create. Rolls back, refreshes, pauses scaling, and collects
what a report of a fault needs, without secrets.
"""
_CAVEATS = """\
Python 3.11, 3.12, 3.13 or 3.14 has to be on PATH. Words are completed after
  kubectl tandem completion kubectl > kubectl_complete-tandem
with that file executable and on PATH.
"""


def manifest_of(version: str, *, home: str, digests: Mapping[Platform, str]) -> dict[str, Any]:
    """The manifest of a version whose archives `home` has among its releases; `digests`: SHA-256 of each, in hex."""
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": NAME.removeprefix("kubectl-")},
        "spec": {
            "version": f"v{version}",
            "homepage": home,
            "shortDescription": "Look at and steer LLMs served by Tandem",
            "description": _DESCRIPTION,
            "caveats": _CAVEATS,
            "platforms": [
                {
                    "selector": {"matchLabels": {"os": platform.os, "arch": platform.arch}},
                    "uri": f"{home}/releases/download/v{version}/{platform.archive}",
                    "sha256": digests[platform],
                    "files": [{"from": NAME, "to": "."}, {"from": "LICENSE", "to": "."}],
                    "bin": NAME,
                }
                for platform in PLATFORMS
            ],
        },
    }


def text_of(manifest: Mapping[str, Any]) -> str:
    """The manifest's file."""
    return yaml.safe_dump(dict(manifest), sort_keys=False, width=120)
