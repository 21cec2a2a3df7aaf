"""The pod template of a role's revision. Rendered once, when the revision is made, and frozen with it."""

from __future__ import annotations

from typing import Any

from tandem_contracts.launch import LAUNCH_MODULE, LaunchOptions, Role, Speculation
from tandem_contracts.ports import HTTP_PORT, HTTP_PORT_NAME, METRICS_PORT, METRICS_PORT_NAME
from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.inputs import RoleInputs
from tandem_operator.objects.ownership import labels_of
from tandem_operator.quantities import multiplied

MODELS = "/models"
UID = 10001
GRACE_SECONDS = 60
ENDPOINT_SECONDS = 5
START_LIMIT_SECONDS = 1800
START_PERIOD_SECONDS = 2


def pod_template_of(owner: Owner, inputs: RoleInputs) -> Manifest:
    """Template of the pods of one revision: one engine container under PodSecurity `restricted`."""
    return {
        "metadata": {"labels": labels_of(owner, inputs.role, revision=inputs.revision)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": UID,
                "runAsGroup": UID,
                "fsGroup": UID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_engine(owner, inputs)],
            "volumes": [
                {
                    "name": "models",
                    "persistentVolumeClaim": {"claimName": inputs.claim_name, "readOnly": True},
                },
                {"name": "tmp", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
            **_placement(inputs.accelerators),
        },
    }


def _engine(owner: Owner, inputs: RoleInputs) -> Manifest:
    requests = {
        inputs.accelerator.resource: multiplied(inputs.accelerator.quantity, inputs.count),
        "memory": multiplied(inputs.accelerator.host_memory, inputs.count),
    }
    # An extended resource needs request = limit. No CPU limit: a throttled engine misses its deadlines.
    limits = {} if inputs.accelerator.is_cpu else {inputs.accelerator.resource: requests[inputs.accelerator.resource]}
    environment = {"HOME": "/tmp", **inputs.accelerator.environment}  # noqa: S108 -- the pod's own emptyDir
    return {
        "name": "engine",
        "image": inputs.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", LAUNCH_MODULE],
        "args": _options(owner, inputs).to_arguments(),
        "env": [{"name": name, "value": environment[name]} for name in sorted(environment)],
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": requests, **({"limits": limits} if limits else {})},
        # Large weights take long to load: until the startup probe has passed, the others do not count.
        "startupProbe": _health(failures=START_LIMIT_SECONDS // START_PERIOD_SECONDS, period=START_PERIOD_SECONDS),
        "readinessProbe": _health(failures=2, period=5),
        "livenessProbe": _health(failures=6, period=10),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # Time for every node to hear that this pod is no endpoint any more, before the engine stops to accept.
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_SECONDS}}},
    }


def _options(owner: Owner, inputs: RoleInputs) -> LaunchOptions:
    address = ""
    if inputs.role is Role.VERIFIER and inputs.speculation is Speculation.REMOTE:
        address = f"{names.draft_service_name(owner.name, inputs.revision)}:{HTTP_PORT}"
    return LaunchOptions(
        role=inputs.role,
        model=f"{MODELS}/{inputs.model_path}",
        served_name=inputs.served_name,
        tensor_parallel=inputs.tensor_parallel,
        speculation=inputs.speculation,
        max_depth=inputs.max_depth,
        draft_address=address,
    )


def _health(*, failures: int, period: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": HTTP_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": failures,
    }


def _placement(accelerators: tuple[AcceleratorClass, ...]) -> Manifest:
    """Node selector for one class; for several, one node affinity that accepts all and prefers the earlier ones."""
    placement: dict[str, Any] = {}
    taints = sorted({taint for accelerator in accelerators for taint in accelerator.tolerated_taints})
    if taints:
        placement["tolerations"] = [{"key": taint, "operator": "Exists", "effect": "NoSchedule"} for taint in taints]
    if len(accelerators) == 1:
        labels = accelerators[0].node_labels
        return {**placement, "nodeSelector": dict(labels)} if labels else placement
    ranked = [(100 - 10 * rank, _term(a)) for rank, a in enumerate(accelerators) if a.node_labels]
    affinity: dict[str, Any] = {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "preference": term} for weight, term in ranked
        ]
    }
    if len(ranked) == len(accelerators):  # a class without labels may be on any node
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term for _, term in ranked]}
    return {**placement, "affinity": {"nodeAffinity": affinity}} if ranked else placement


def _term(accelerator: AcceleratorClass) -> Manifest:
    return {
        "matchExpressions": [
            {"key": label, "operator": "In", "values": [value]}
            for label, value in sorted(accelerator.node_labels.items())
        ]
    }
