"""What PodSecurity `restricted` asks of a pod and its container, and a little more: one place for every pod of ours."""

from __future__ import annotations

from tandem_operator.facts import Manifest

UID = 10001


def pod_security() -> Manifest:
    """`securityContext` of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """`securityContext` of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
