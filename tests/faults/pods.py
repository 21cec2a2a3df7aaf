"""What becomes of pods, decided from outside: kwok reads an annotation that an admission policy sets on new ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.local.processes import wait_until
from tests.faults.api import Api, ApiError, Manifest
from tests.faults.case import Case

READY = "kwok.tandem.dev/ready"
_GROUP = "/apis/admissionregistration.k8s.io/v1"


@contextmanager
def pods_that_become(case: Case, ready: str, *, role: str) -> Iterator[None]:
    """New pods of a role: `false` never Ready, `never` stay Pending. They stay so when the block ends."""
    name = f"{case.namespace}-{role}"
    policy, binding = _policy(name, case.namespace, role=role, ready=ready), _binding(name)
    case.api.request("POST", f"{_GROUP}/mutatingadmissionpolicies", policy)
    case.api.request("POST", f"{_GROUP}/mutatingadmissionpolicybindings", binding)
    try:
        _wait_for(case.api, case.namespace, role=role, value=ready)
        yield
    finally:
        case.api.request("DELETE", f"{_GROUP}/mutatingadmissionpolicybindings/{name}")
        case.api.request("DELETE", f"{_GROUP}/mutatingadmissionpolicies/{name}")
    _wait_for(case.api, case.namespace, role=role, value=None)


def _policy(name: str, namespace: str, *, role: str, ready: str) -> Manifest:
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    changed = f'Object{{metadata: Object.metadata{{annotations: {{"{READY}": "{ready}"}}}}}}'
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "objectSelector": {"matchLabels": {"tandem.dev/role": role}},
                "resourceRules": [pods],
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": changed}}],
        },
    }


def _binding(name: str) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }


def _wait_for(api: Api, namespace: str, *, role: str, value: str | None) -> None:
    """The API server takes a moment to act on a policy: ask it what it would make of a pod."""
    restricted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "c",
        "image": "i",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asked-for", "labels": {"tandem.dev/role": role}},
        "spec": {"securityContext": restricted, "containers": [container]},
    }

    def is_effective() -> bool:
        try:
            made = api.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
        except ApiError:
            return False
        return bool((made["metadata"].get("annotations") or {}).get(READY) == value)

    wait_until(is_effective, f"pods of {role} made {value}", limit_seconds=60, poll_seconds=0.2)


def release(case: Case, *, role: str) -> None:
    """Let the pods of a role that is there become Ready."""
    for pod in case.pods(f"tandem.dev/role={role}"):
        patch = {"metadata": {"annotations": {READY: None}}}
        case.api.merge("Pod", case.namespace, pod["metadata"]["name"], patch)
