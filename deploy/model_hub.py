"""A small hub of models as a pod of a cluster, for the demo and the tests: it stands for the Hugging Face hub."""

from __future__ import annotations

from typing import Any

from deploy import model_volume
from deploy.local.layout import REPOSITORY

PORT = 8080
NAME = "demo"
"""By which LLMDeployments know it."""


def address_in(namespace: str) -> str:
    """Where pods reach it."""
    return f"http://hub.{namespace}.svc:{PORT}"


def objects_of(image: str, *, token_secret: str = "") -> tuple[dict[str, Any], ...]:
    """Its program, a Deployment and a Service; `image` is any with Python. The models are those of the claim `models`.

    `token_secret`: a Secret whose key `token` everybody must show.
    """
    program = REPOSITORY / "deploy/fixtures/hub.py"
    labels = {"app": "hub"}
    token = {"secretKeyRef": {"name": token_secret, "key": "token"}}
    environment = [{"name": "TOKEN", "valueFrom": token}] if token_secret else []
    container = {
        "name": "hub",
        "image": image,
        "command": ["python3", f"/hub/{program.name}", "/models"],
        "env": [{"name": "PORT", "value": str(PORT)}, *environment],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "hub", "mountPath": "/hub"},
            {"name": "models", "mountPath": "/models", "readOnly": True},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "hub", "configMap": {"name": "hub"}},
            {"name": "models", "persistentVolumeClaim": {"claimName": model_volume.CLAIM, "readOnly": True}},
        ],
    }
    metadata = {"name": "hub"}
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {program.name: program.read_text(encoding="utf-8")},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        },
    )
