"""Metadata that every child carries: labels, the controller reference, and the hash of what we wanted."""

from __future__ import annotations

from dataclasses import dataclass

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.role_inputs import digest


def metadata_of(owner: Owner, name: str, *, role: Role, revision: str = "") -> Manifest:
    """Name, labels and controller reference of a child; without a revision one of the whole role."""
    return _metadata(owner, name, labels_of(owner, role, revision=revision))


def gate_metadata_of(owner: Owner, name: str) -> Manifest:
    """The same of what belongs to the wake gate."""
    return _metadata(owner, name, gate_labels_of(owner))


def benchmark_metadata_of(owner: Owner, name: str, *, revision: str) -> Manifest:
    """The same of a benchmark's Job. The revision is not on its pod, which is none of it. A user makes it: to block the
    deletion of a deployment wants a right on it that not everybody has who may measure it.
    """
    labels = {**benchmark_labels_of(owner), names.LABEL_REVISION: revision}
    return _metadata(owner, name, labels, blocks_deletion=False)


def _metadata(owner: Owner, name: str, labels: dict[str, str], *, blocks_deletion: bool = True) -> Manifest:
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": blocks_deletion,
            }
        ],
    }


@dataclass(frozen=True)
class Conflict:
    """An object of a name that ours should have, and that is not ours."""

    message: str
    passes: bool
    """It belongs to an earlier resource of the same name, and the garbage collector is about to take it."""


def conflict_of(there: Manifest, owner: Owner) -> Conflict | None:
    """Whether what is there under the name of a child is not the owner's, and whose it is then."""
    owners = there["metadata"].get("ownerReferences") or []
    controller: Manifest = next((reference for reference in owners if reference.get("controller")), {})
    if controller.get("uid") == owner.uid:
        return None
    what = f"{there['kind']} {there['metadata']['name']}"
    if not controller:
        return Conflict(f"{what} exists and nothing controls it; it is left alone", passes=False)
    if (controller["kind"], controller["name"]) == (names.KIND, owner.name):
        message = f"{what} still belongs to an earlier {names.KIND} {owner.name} and is being collected"
        return Conflict(message, passes=True)
    return Conflict(f"{what} belongs to {controller['kind']} {controller['name']}; it is left alone", passes=False)


def labels_of(owner: Owner, role: Role, *, revision: str = "") -> dict[str, str]:
    """Labels of a child and of its pods."""
    return {**_common(owner, role.value), **selector_of(owner, role, revision=revision)}


def gate_labels_of(owner: Owner) -> dict[str, str]:
    """Labels of what belongs to the wake gate."""
    return {**_common(owner, names.GATE), **gate_selector_of(owner)}


def benchmark_labels_of(owner: Owner) -> dict[str, str]:
    """Labels of a Job that measures the deployment, and of its pod."""
    return {**_common(owner, names.BENCHMARK), **benchmark_selector_of(owner)}


def _common(owner: Owner, component: str) -> dict[str, str]:
    return {
        names.LABEL_NAME: "llm",
        names.LABEL_INSTANCE: owner.name,
        names.LABEL_COMPONENT: component,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_PART_OF: names.PART_OF,
    }


def selector_of(owner: Owner, role: Role, *, revision: str = "") -> dict[str, str]:
    """Labels that select the pods of one revision of a role, and no other's; without a revision, of all of them."""
    selector = {names.LABEL_DEPLOYMENT: owner.name, names.LABEL_ROLE: role.value}
    return {**selector, names.LABEL_REVISION: revision} if revision else selector


def gate_selector_of(owner: Owner) -> dict[str, str]:
    """Labels that select the wake gate's pods."""
    return {names.LABEL_DEPLOYMENT: owner.name, names.LABEL_COMPONENT: names.GATE}


def benchmark_selector_of(owner: Owner) -> dict[str, str]:
    """Labels that select the pods that measure it."""
    return {names.LABEL_DEPLOYMENT: owner.name, names.LABEL_COMPONENT: names.BENCHMARK}


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with the hash of itself as annotation `tandem.dev/applied`."""
    annotations = {
        **manifest["metadata"].get("annotations", {}),
        names.ANNOTATION_APPLIED: digest(manifest)[:16],
    }
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
