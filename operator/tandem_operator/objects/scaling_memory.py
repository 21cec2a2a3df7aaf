"""The ConfigMap in which scaling remembers what it has learned: `<name>-scaling`. Losing it costs time, no pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import metadata_of, sealed


def scaling_memory_of(owner: Owner, remembered: Mapping[Role, Mapping[str, Any]]) -> Manifest:
    """The ConfigMap with what is remembered of each role, as JSON."""
    metadata = metadata_of(owner, names.scaling_name(owner.name), role=Role.VERIFIER)
    del metadata["labels"][names.LABEL_ROLE]  # it stands around no pods, and goes with no role
    data = {role.value: json.dumps(each, separators=(",", ":")) for role, each in remembered.items()}
    return sealed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def as_applied(manifest: Manifest) -> Manifest:
    """What is there, as it was asked for: without what the API server adds."""
    ours = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {key: manifest["metadata"][key] for key in ours if key in manifest["metadata"]}
    return {**{key: manifest[key] for key in ("apiVersion", "kind", "data") if key in manifest}, "metadata": metadata}


def remembered_in(manifest: Manifest | None, role: Role = Role.VERIFIER) -> Mapping[str, Any]:
    """What it holds of a role; nothing where it is not there, or no JSON."""
    text = ((manifest or {}).get("data") or {}).get(role.value, "{}")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
