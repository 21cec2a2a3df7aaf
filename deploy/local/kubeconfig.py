"""Writes kubeconfig files with everything embedded, so that a copy of the file is enough. Text only."""

import base64
from pathlib import Path
from typing import Any

import yaml

from deploy.local.processes import write_whole

CONTEXT = "tandem-local"


def kubeconfig_of(server: str, pki: Path, *, leaf: str) -> dict[str, Any]:
    """A kubeconfig for `server` with the certificate `leaf`.crt of the folder `pki`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {"server": server, "certificate-authority-data": _base64(pki / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": leaf,
                "user": {
                    "client-certificate-data": _base64(pki / f"{leaf}.crt"),
                    "client-key-data": _base64(pki / f"{leaf}.key"),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": leaf}}],
    }


def write_kubeconfig(path: Path, kubeconfig: dict[str, Any]) -> None:
    """Write it readable by its owner only."""
    write_whole(path, yaml.safe_dump(kubeconfig, sort_keys=False))


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
