"""A claim `models` with the fixture models, and a claim `cache` for what Jobs make, for the demos and the tests."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from deploy.place import Place, PlaceError

CLAIM = "models"
CACHE_CLAIM = "cache"
SIZE = "1Gi"
COPY_LIMIT_SECONDS = 300


def volume_name(namespace: str, claim: str = CLAIM) -> str:
    """Name of the volume that is made for a namespace's claim; a volume has no namespace itself."""
    return f"{claim}-{namespace}"


def volume_of(namespace: str, folder: Path, *, claim: str = CLAIM) -> dict[str, Any]:
    """A PersistentVolume of the local node's `folder`, for this namespace's claim and no other."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(namespace, claim)},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": [_MODES[claim]],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }


def claim_of(namespace: str, *, claim: str = CLAIM) -> dict[str, Any]:
    """The claim that binds to `volume_of` by name."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {
            "accessModes": [_MODES[claim]],
            "storageClassName": "",
            "volumeName": volume_name(namespace, claim),
            "resources": {"requests": {"storage": SIZE}},
        },
    }


_MODES = {CLAIM: "ReadOnlyMany", CACHE_CLAIM: "ReadWriteMany"}


def provide_cache_on_node(place: Place, namespace: str, *, folder: Path) -> None:
    """On the local cluster: an empty folder of the node that every pod may write to. Raises PlaceError."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)  # a folder of the node has no fsGroup
    place.apply(volume_of(namespace, folder, claim=CACHE_CLAIM), claim_of(namespace, claim=CACHE_CLAIM))


def provide_from_node(place: Place, namespace: str, *, folder: Path) -> None:
    """On the local cluster: the folder itself. Raises PlaceError, also when the claim has other models already."""
    volume = volume_of(namespace, folder)
    name, path = volume["metadata"]["name"], "jsonpath={.spec.hostPath.path}"
    there = place.run("get", "persistentvolume", name, "--ignore-not-found", "-o", path).strip()
    if there not in {"", str(folder)}:
        raise PlaceError(
            f"PersistentVolume {name} has the models of {there}, not of {folder}: take the cluster down first"
        )
    if place.run("get", "persistentvolume", name, "--ignore-not-found", "-o", "jsonpath={.status.phase}") == "Released":
        place.run("delete", "persistentvolume", name)  # its claim is gone, and it would bind to no other one
    place.apply(volume, claim_of(namespace))


def provide_by_copy(place: Place, namespace: str, *, folder: Path, image: str) -> None:
    """On any cluster with a default StorageClass: a claim, filled through a pod that lives as long as the copy.

    Raises PlaceError.
    """
    claim = claim_of(namespace)
    claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}}
    place.apply(claim, copier_of(namespace, image))
    try:
        place.run(
            "wait", "-n", namespace, "pod/model-copy", "--for=condition=Ready", "--timeout=300s", limit_seconds=320
        )
        _copy(place, namespace, folder)
    finally:
        place.run("delete", "-n", namespace, "pod/model-copy", "--ignore-not-found", "--grace-period=1")


def _copy(place: Place, namespace: str, folder: Path) -> None:
    unpack = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/models')"
    command = place.command("-n", namespace, "exec", "-i", "model-copy", "--", "python3", "-c", unpack)
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for entry in sorted(folder.iterdir()):
                tar.add(entry, arcname=entry.name)
        archive.seek(0)
        done = subprocess.run(
            command,
            stdin=archive,
            capture_output=True,
            timeout=COPY_LIMIT_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise PlaceError(
            f"copying the models into claim {CLAIM} failed: {done.stderr.decode(errors='replace').strip()}"
        )


def copier_of(namespace: str, image: str) -> dict[str, Any]:
    """The pod that a copy goes through; it has the claim at /models."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "model-copy", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "copy",
                    "image": image,
                    "command": ["python3", "-c", "import time; time.sleep(3600)"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": CLAIM}}],
        },
    }
