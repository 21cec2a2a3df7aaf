"""Metadata that every child carries: labels, the controller reference, and the hash of what we wanted."""

from __future__ import annotations

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.inputs import digest


def metadata_of(owner: Owner, name: str, *, role: Role, revision: str) -> Manifest:
    """Name, labels and controller reference of a child."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels_of(owner, role, revision=revision),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def labels_of(owner: Owner, role: Role, *, revision: str) -> dict[str, str]:
    """Labels of a child and of its pods."""
    return {
        names.LABEL_NAME: "llm",
        names.LABEL_INSTANCE: owner.name,
        names.LABEL_COMPONENT: role.value,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_PART_OF: names.PART_OF,
        **selector_of(owner, role, revision=revision),
    }


def selector_of(owner: Owner, role: Role, *, revision: str) -> dict[str, str]:
    """Labels that select the pods of one revision of a role, and no other's."""
    return {
        names.LABEL_DEPLOYMENT: owner.name,
        names.LABEL_ROLE: role.value,
        names.LABEL_REVISION: revision,
    }


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with the hash of itself as annotation `tandem.dev/applied`."""
    annotations = {
        **manifest["metadata"].get("annotations", {}),
        names.ANNOTATION_APPLIED: digest(manifest)[:16],
    }
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
