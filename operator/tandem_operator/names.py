"""Every name that other programs see: group, labels, annotations, conditions, reasons, child names.

Pure constants and string derivations. Imports nothing of this package; what is written here is API.
"""

from __future__ import annotations

from enum import StrEnum

from tandem_contracts.launch import Role

GROUP = "tandem.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"

FIELD_MANAGER = "tandem"
LEASE = "tandem-operator"

MANAGED_BY = "tandem-operator"
PART_OF = "tandem"

LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_ROLE = f"{GROUP}/role"
LABEL_REVISION = f"{GROUP}/revision"

MANAGED_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

ANNOTATION_APPLIED = f"{GROUP}/applied"
"""Hash of the object that we last wanted; with containment it tells whether an apply is due."""

NAME_MAX_LENGTH = 40
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


class ConditionType(StrEnum):
    """Condition types of an LLMDeployment, in the order in which status shows them."""

    AVAILABLE = "Available"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ACCEPTED = "Accepted"
    VERIFIER_READY = "VerifierReady"
    DRAFT_READY = "DraftReady"


class Reason(StrEnum):
    """Why a condition has its status. Part of the API: alerts and scripts match on these."""

    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_ACCELERATOR_CLASS = "UnknownAcceleratorClass"
    MIXED_ACCELERATOR_RESOURCES = "MixedAcceleratorResources"
    ENGINE_IMAGE_NOT_ALLOWED = "EngineImageNotAllowed"
    METHOD_NOT_SUPPORTED = "MethodNotSupported"
    NAME_CONFLICT = "NameConflict"
    API_REFUSED = "APIRefused"
    PODS_READY = "PodsReady"
    PODS_NOT_READY = "PodsNotReady"
    SCALED_TO_ZERO = "ScaledToZero"
    NOT_USED = "NotUsed"
    ROLLING_OUT = "RollingOut"
    ROLLED_OUT = "RolledOut"
    SERVING = "Serving"
    NO_READY_VERIFIER = "NoReadyVerifier"
    ABSENT = "Absent"


def role_child_name(deployment: str, role: Role, *, revision: str) -> str:
    """Name of the Deployment and of the ControllerRevision of one revision of a role."""
    return f"{deployment}-{role}-{revision}"


def serving_service_name(deployment: str) -> str:
    """Name of the Service that clients talk to."""
    return deployment


def draft_service_name(deployment: str, verifier_revision: str) -> str:
    """Name of the headless Service at which one verifier revision finds its drafts."""
    return f"{deployment}-draft-{verifier_revision}"
