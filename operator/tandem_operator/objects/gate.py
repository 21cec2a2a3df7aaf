"""The wake gate of a deployment at zero: its Deployment, and who may talk to it. Made when it is needed, not frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tandem_contracts.gate import GATE_MODULE, MEBIBYTE, GateOptions
from tandem_contracts.launch import API_KEY_VARIABLE, Access
from tandem_contracts.ports import HTTP_PORT, HTTP_PORT_NAME, METRICS_PORT, METRICS_PORT_NAME
from tandem_contracts.stopping import StopTimes
from tandem_operator import names
from tandem_operator.api.access import SecretKeyRef
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import gate_labels_of, gate_metadata_of, gate_selector_of, sealed
from tandem_operator.objects.restricted import container_security, pod_security
from tandem_operator.objects.scraping import pod_metadata_of

CPU_REQUEST = "50m"
LEAVING_SECONDS = 30
"""In which another gate is Ready where a node is drained or a pod evicted. Until then proxies go on to send requests to
the one that ends, as long as it is Ready, since the Service has no other."""
FLOOR_MEBIBYTES, HELD_KIBIBYTES = 96, 24
"""The program; each held request's connections, of which benchmarks/wake_gate.py measures 16 KiB; beside the bodies."""


@dataclass(frozen=True)
class GateTerms:
    """What a gate is made of: the user's limits, and the administrator's image."""

    image: str
    served_name: str
    most_held: int
    hold_seconds: int
    api_key: SecretKeyRef | None = None
    pull_secrets: tuple[str, ...] = ()
    scrape_annotations: bool = False
    """Its pod has annotations by which Prometheus finds it."""


def gate_of(owner: Owner, terms: GateTerms, *, left_since: datetime | None = None) -> Manifest:
    """The Deployment. `left_since`: it gets no new requests any more, and goes once it has answered those it has."""
    metadata = gate_metadata_of(owner, names.gate_name(owner.name))
    if left_since:
        metadata["annotations"] = {names.ANNOTATION_DRAINING: left_since.isoformat(timespec="seconds")}
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 0,
                "selector": {"matchLabels": gate_selector_of(owner)},
                # Another image or limit: the new one takes requests before the old one has to answer its last.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": pod_metadata_of(
                        gate_labels_of(owner), scraped_port=METRICS_PORT if terms.scrape_annotations else None
                    ),
                    "spec": _pod(owner, terms),
                },
            },
        }
    )


def _pod(owner: Owner, terms: GateTerms) -> Manifest:
    stop = StopTimes.of_drain(terms.hold_seconds)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": LEAVING_SECONDS + stop.grace_seconds,
        "securityContext": pod_security(),
        "containers": [_container(owner, terms, pre_stop_seconds=stop.pre_stop_seconds)],
        **({"imagePullSecrets": [{"name": name} for name in terms.pull_secrets]} if terms.pull_secrets else {}),
    }


def _container(owner: Owner, terms: GateTerms, *, pre_stop_seconds: int) -> Manifest:
    options = GateOptions(
        served_name=terms.served_name,
        upstream=f"{names.verifiers_service_name(owner.name)}:{HTTP_PORT}",
        hold_seconds=terms.hold_seconds,
        most_held=terms.most_held,
        leaving_seconds=LEAVING_SECONDS,
        drain_seconds=terms.hold_seconds,
        service=names.serving_service_name(owner.name),
        access=Access.API_KEY if terms.api_key else Access.OPEN,
    )
    held = -(-terms.most_held * HELD_KIBIBYTES // 1024)
    memory = f"{FLOOR_MEBIBYTES + held + options.most_held_bytes // MEBIBYTE}Mi"
    health = {"httpGet": {"path": "/health", "port": HTTP_PORT_NAME, "scheme": "HTTP"}, "timeoutSeconds": 5}
    return {
        "name": "gate",
        "image": terms.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", GATE_MODULE],
        "args": options.to_arguments(),
        **_environment(terms.api_key),
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": CPU_REQUEST, "memory": "64Mi"}, "limits": {"memory": memory}},
        "startupProbe": {**health, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": pre_stop_seconds}}},
    }


def _environment(api_key: SecretKeyRef | None) -> Manifest:
    if api_key is None:
        return {}  # the API server drops an empty list
    reference = {"name": api_key.name, "key": api_key.key}
    return {"env": [{"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": reference}}]}
