"""What is kept of an observed object: the part that anything is read from. Pure.

With thousands of objects the rest is most of the memory: field managers' bookkeeping, and nearly all of a pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from tandem_operator import names
from tandem_operator.facts import PROTECTION_KINDS, Manifest


def kept_of(manifest: Manifest) -> Manifest:
    """The object without what nobody reads; itself is not changed."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    if _COPY in (metadata.get("annotations") or {}):
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != _COPY}
    if manifest["kind"] in PROTECTION_KINDS:
        return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
    if manifest["kind"] == "Deployment" and (writers := _writers_of_replicas(manifest)):
        metadata["managedFields"] = writers
    if manifest["kind"] == names.KIND and (scaled := _scaled_by(manifest)):
        metadata["managedFields"] = scaled
    if manifest["kind"] != "Pod":
        return {**manifest, "metadata": metadata}
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    containers = {
        kind: [_picked(container, _OF_A_CONTAINER) for container in status[kind]]
        for kind in ("initContainerStatuses", "containerStatuses")
        if status.get(kind)
    }
    picked = _picked(metadata, _OF_A_PODS_METADATA)
    if annotations := _picked(metadata.get("annotations") or {}, {names.ANNOTATION_DELETION_COST}):
        picked["annotations"] = annotations
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": "Pod",
        "metadata": picked,
        "spec": _picked(spec, {"nodeName"}),
        "status": {**_picked(status, {"phase", "reason", "message", "podIP", "conditions"}), **containers},
    }


def _writers_of_replicas(manifest: Manifest) -> list[Manifest]:
    """Who has written `spec.replicas` besides us, and when."""
    entries = manifest["metadata"].get("managedFields") or []
    return [
        {"manager": entry.get("manager", ""), "time": entry.get("time") or ""}
        for entry in entries
        if entry.get("manager") != names.FIELD_MANAGER
        and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]


def _scaled_by(manifest: Manifest) -> list[Manifest]:
    """Who has written by the scale subresource."""
    entries = manifest["metadata"].get("managedFields") or []
    kept = {"manager", "subresource", "fieldsV1"}
    return [_picked(entry, kept) for entry in entries if entry.get("subresource") == "scale"]


_COPY = "kubectl.kubernetes.io/last-applied-configuration"
"""All of the object once more, as somebody applied it."""
_OF_A_PODS_METADATA = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels"}
)
_OF_A_CONTAINER = frozenset({"name", "state", "lastState", "ready", "restartCount"})


def _picked(mapping: Mapping[str, Any], keys: Set[str]) -> Manifest:
    return {key: mapping[key] for key in mapping if key in keys}
