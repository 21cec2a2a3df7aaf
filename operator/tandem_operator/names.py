"""Every name that other programs see: group, labels, annotations, conditions, reasons, child names.

Pure constants and string derivations. Imports nothing of this package; what is written here is API.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from tandem_contracts.launch import Role
from tandem_contracts.termination import Phase

GROUP = "tandem.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"
ARTIFACT_KIND = "ModelArtifact"
ARTIFACT_PLURAL = "modelartifacts"
CLAIM_TEMPLATE_KIND = "ResourceClaimTemplate"

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
LABEL_ARTIFACT = f"{GROUP}/artifact"
"""On what belongs to a ModelArtifact: its Job and that one's pods."""

GATE = "gate"
"""The component that holds requests while a deployment is at zero: no role, it runs no model."""

BENCHMARK = "benchmark"
"""The component of a Job that measures a deployment, and of its pod. Users make such Jobs, by `tandem bench`."""

MANAGED_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

ANNOTATION_APPLIED = f"{GROUP}/applied"
"""Hash of the object that we last wanted; with containment it tells whether an apply is due."""

ANNOTATION_REFRESH = f"{GROUP}/refresh"
"""On the resource, by `tandem refresh`: revisions made before are compared with what the spec resolves to today."""
ANNOTATION_REFRESHED = f"{GROUP}/refreshed"
"""On a ControllerRevision: the last refresh that it has stood, or was made by."""
ANNOTATION_WORDINGS = f"{GROUP}/wordings"
"""On a ControllerRevision: further requests that resolved to it, as JSON."""
ANNOTATION_FAILED = f"{GROUP}/failed"
"""On a ControllerRevision: why its rollout failed. It is not tried again until the spec is another one."""
ANNOTATION_DRAINING = f"{GROUP}/draining-since"
"""On a Deployment whose pods get no new requests any more, since when."""
ANNOTATION_ROLLING = f"{GROUP}/rolling"
"""On the Service while it selects the pods of every revision; its own revision label is the one that it is leaving."""
ANNOTATION_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' own, on a pod: the lower, the sooner its ReplicaSet deletes it. The one that we write."""

NAME_MAX_LENGTH = 40
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


class ConditionType(StrEnum):
    """Condition types of an LLMDeployment, in the order in which status shows them."""

    AVAILABLE = "Available"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ACCEPTED = "Accepted"
    ARTIFACTS_READY = "ArtifactsReady"
    VERIFIER_READY = "VerifierReady"
    DRAFT_READY = "DraftReady"
    DRAFT_TRANSPORT_SECURE = "DraftTransportSecure"
    SPECULATION_EFFECTIVE = "SpeculationEffective"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    LATENCY_TARGET_MET = "LatencyTargetMet"


class Reason(StrEnum):
    """Why a condition has its status. Part of the API: alerts and scripts match on these."""

    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_ACCELERATOR_CLASS = "UnknownAcceleratorClass"
    MIXED_ACCELERATOR_RESOURCES = "MixedAcceleratorResources"
    ENGINE_IMAGE_NOT_ALLOWED = "EngineImageNotAllowed"
    TENSOR_PARALLEL_MISMATCH = "TensorParallelMismatch"
    TOO_MANY_ACCELERATORS = "TooManyAccelerators"
    METHOD_NOT_SUPPORTED = "MethodNotSupported"
    MODEL_NOT_INSPECTED = "ModelNotInspected"
    MODEL_DOES_NOT_FIT = "ModelDoesNotFit"
    PAIR_DOES_NOT_FIT = "PairDoesNotFit"
    DRAFT_TRANSPORT_PLAINTEXT = "DraftTransportPlaintext"
    DRAFT_TRANSPORT_TLS = "DraftTransportTLS"
    DRAFT_KEYS_UNAVAILABLE = "DraftKeysUnavailable"
    NOT_MEASURED = "NotMeasured"
    PREDICTED_SLOWER = "PredictedSlower"
    MEASURED = "Measured"
    NOT_WORTH_IT = "NotWorthIt"
    NO_DRAFTS = "NoDrafts"
    NAME_CONFLICT = "NameConflict"
    PREDECESSOR_GOING = "PredecessorGoing"
    API_REFUSED = "APIRefused"
    API_UNAVAILABLE = "APIUnavailable"
    FAILED_CREATE = "FailedCreate"
    UNSCHEDULABLE = "Unschedulable"
    PODS_FAILING = "PodsFailing"
    PODS_READY = "PodsReady"
    PODS_NOT_READY = "PodsNotReady"
    SCALED_TO_ZERO = "ScaledToZero"
    IDLE = "Idle"
    WAKING = "Waking"
    NOT_USED = "NotUsed"
    ROLLING_OUT = "RollingOut"
    ROLLED_OUT = "RolledOut"
    ROLLOUT_FAILED = "RolloutFailed"
    NO_ROOM_FOR_SURGE = "NoRoomForSurge"
    REVISION_OUTDATED = "RevisionOutdated"
    SERVING = "Serving"
    NO_READY_VERIFIER = "NoReadyVerifier"
    ABSENT = "Absent"
    INSPECTED = "Inspected"
    INSPECTING = "Inspecting"
    INSPECT_FAILED = "InspectFailed"
    FETCHING = "Fetching"
    FETCH_FAILED = "FetchFailed"
    QUANTIZING = "Quantizing"
    QUANTIZE_FAILED = "QuantizeFailed"
    EVALUATING = "Evaluating"
    EVALUATE_FAILED = "EvaluateFailed"
    EVICTING = "Evicting"
    EVICT_FAILED = "EvictFailed"
    PUBLISHED = "Published"
    MEASURED_LOSS = "MeasuredLoss"
    SOURCE_NOT_READY = "SourceNotReady"
    DEADLINE_TOO_SHORT = "DeadlineTooShort"
    SMOKE_TESTING = "SmokeTesting"
    SMOKE_FAILED = "SmokeFailed"
    GATE_PASSED = "GatePassed"
    GATE_FAILED = "GateFailed"
    BELOW_GATE = "BelowGate"
    SERVES_UNQUANTIZED = "ServesUnquantized"
    SCHEME_NOT_SUPPORTED = "SchemeNotSupported"
    QUANTIZED_ALREADY = "QuantizedAlready"
    NOT_QUANTIZED = "NotQuantized"
    UNKNOWN_HUB = "UnknownHub"
    UNKNOWN_STORE = "UnknownStore"
    NO_FACTS = "NoFacts"
    NO_INSPECT_IMAGE = "NoInspectImage"
    NO_JOB_IMAGE = "NoJobImage"
    KEY_MISMATCH = "KeyMismatch"
    SCALING_UP = "ScalingUp"
    DECIDING = "Deciding"
    RESCALED = "Rescaled"
    PAUSED = "Paused"
    SCALING_CONFLICT = "ScalingConflict"
    METRICS_MISSING = "MetricsMissing"
    METRICS_INCOMPLETE = "MetricsIncomplete"
    AT_MINIMUM = "AtMinimum"
    AT_MAXIMUM = "AtMaximum"
    LIMITED_BY_BEHAVIOR = "LimitedByBehavior"
    NOT_LIMITED = "NotLimited"
    TARGET_MET = "TargetMet"
    TARGET_MISSED = "TargetMissed"
    NO_REQUESTS = "NoRequests"


TROUBLES_OF_SCALING = frozenset(
    {Reason.SCALING_CONFLICT, Reason.METRICS_MISSING, Reason.AT_MAXIMUM, Reason.TARGET_MISSED}
)
"""Reasons of scaling's conditions, and of no other, that somebody should look at."""


def role_child_name(deployment: str, role: Role, *, revision: str) -> str:
    """Name of the Deployment and of the ControllerRevision of one revision of a role."""
    return f"{deployment}-{role}-{revision}"


def serving_service_name(deployment: str) -> str:
    """Name of the Service that clients talk to."""
    return deployment


def draft_service_name(deployment: str, verifier_revision: str) -> str:
    """Name of the headless Service at which one verifier revision finds its drafts."""
    return f"{deployment}-draft-{verifier_revision}"


def gate_name(deployment: str) -> str:
    """Name of the Deployment and the NetworkPolicy of the wake gate."""
    return f"{deployment}-{GATE}"


def benchmark_name(deployment: str, ending: str) -> str:
    """Name of a Job that measures a deployment."""
    return f"{deployment}-{BENCHMARK}-{ending}"


def verifiers_service_name(deployment: str) -> str:
    """Name of the headless Service at which the wake gate finds the verifiers, also those that are not Ready yet."""
    return f"{deployment}-{GATE}-verifiers"


def protection_name(deployment: str, role: Role) -> str:
    """Name of the ServiceAccount, the NetworkPolicy, the PodDisruptionBudget and the ConfigMap of a role."""
    return f"{deployment}-{role}"


def scaling_name(deployment: str) -> str:
    """Name of the ConfigMap in which scaling remembers what it has learned."""
    return f"{deployment}-scaling"


def artifact_job_name(artifact: str, phase: Phase, *, texts: str = "", ending: str = "") -> str:
    """Name of the Job of one step of an artifact; `texts`: what an evaluation measures with, where
    that is not what goes without saying.
    """
    digits = hashlib.sha256(texts.encode()).hexdigest()[:8] if texts else ending
    return f"{artifact}-{phase}-{digits}" if digits else f"{artifact}-{phase}"
