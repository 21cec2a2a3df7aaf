"""The Services: the one that clients talk to, and the headless ones at which verifiers find their drafts, and the wake
gate the verifiers."""

from __future__ import annotations

from tandem_contracts.launch import Role
from tandem_contracts.ports import GRPC_PORT, GRPC_PORT_NAME, HTTP_PORT, HTTP_PORT_NAME
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import gate_metadata_of, gate_selector_of, metadata_of, sealed, selector_of


def serving_service_of(owner: Owner, revision: str, *, is_rolling: bool = False, is_at_gate: bool = False) -> Manifest:
    """Service `<name>`: the verifiers of the revision that serves; of every one while a rollout is rolling; the wake
    gate at zero.
    """
    name = names.serving_service_name(owner.name)
    metadata = metadata_of(owner, name, role=Role.VERIFIER, revision=revision)
    selector = selector_of(owner, Role.VERIFIER, revision=revision)
    if is_at_gate:
        selector = gate_selector_of(owner)
    elif is_rolling:
        metadata["annotations"] = {names.ANNOTATION_ROLLING: "true"}
        del selector[names.LABEL_REVISION]
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "ClusterIP", "selector": selector, "ports": [_port(HTTP_PORT_NAME, 80)]},
        }
    )


def draft_service_of(owner: Owner, *, verifier_revision: str, draft_revision: str) -> Manifest:
    """Headless Service of one verifier revision; its name is in that revision's template, so it never moves.

    What moves is the selector: to another draft revision once that one is Ready.
    """
    name = names.draft_service_name(owner.name, verifier_revision)
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata_of(owner, name, role=Role.DRAFT, revision=draft_revision),
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "None",
                "selector": selector_of(owner, Role.DRAFT, revision=draft_revision),
                "ports": [_port(GRPC_PORT_NAME, GRPC_PORT)],
            },
        }
    )


def verifiers_service_of(owner: Owner) -> Manifest:
    """Headless Service of all verifiers, for the wake gate. It asks each for its health itself: what has to be Ready
    first would be found later.
    """
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": gate_metadata_of(owner, names.verifiers_service_name(owner.name)),
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": selector_of(owner, Role.VERIFIER),
                "ports": [_port(HTTP_PORT_NAME, HTTP_PORT)],
            },
        }
    )


def _port(name: str, port: int) -> Manifest:
    return {"name": name, "port": port, "protocol": "TCP", "targetPort": name}
