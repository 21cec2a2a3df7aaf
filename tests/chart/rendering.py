"""The chart rendered by Helm, and the values that the tests render it with: every branch of every template."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
CHART = Path(__file__).parents[2] / "charts" / "tandem"
HELMS = ("helm3", "helm4")
OLDEST_KUBERNETES = "1.30.0"
DIGEST = f"sha256:{'a' * 64}"
NAMESPACE = "chat"
LIMIT_SECONDS = 60
_RENDERED: dict[tuple[str, str], str] = {}
NOT_BESIDE_ANOTHER: Manifest = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
}

VALUES: dict[str, Manifest] = {
    "defaults": {},
    "stopped": {"replicas": 0},
    "by digest": {"image": {"repository": "registry.example/tandem/operator", "tag": "1", "digest": DIGEST}},
    "without crds": {"crds": {"install": False}},
    "with claims": {"rbac": {"create": True, "resourceClaims": True}},
    "with issuer discovery": {"rbac": {"create": True, "issuerDiscovery": True}},
    "crds that go": {"crds": {"keep": False}},
    "foreign account": {"serviceAccount": {"create": False, "name": "ours"}, "rbac": {"create": False}},
    "placed": {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": [{"name": "pull"}],
    },
    "named": {"fullnameOverride": "pairs", "commonLabels": {"team": "inference"}, "args": ["--log-level=DEBUG"]},
    "configured": {
        "config": {
            "engineImages": {"cpu": "registry.example/engine@" + DIGEST},
            "accelerators": {"mine": {"resource": "example.com/npu", "quantity": "1", "hostMemory": "17179869184"}},
            "resyncSeconds": 1000000,
            "prometheus": {
                "address": "https://prometheus.example:9090",
                "abovePods": 0,
                "caFile": "/etc/prometheus-access/ca.crt",
            },
        },
        "prometheusSecretName": "prometheus",
    },
    "two operators": {"replicas": 2},
    "two operators, evicted together": {"replicas": 2, "podDisruptionBudget": {"create": False}},
    "two operators, placed": {
        "replicas": 2,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NOT_BESIDE_ANOTHER]}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"},
            {
                "maxSkew": 2,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"team": "inference"}},
            },
        ],
    },
    "without network policies": {"networkPolicy": {"create": False}},
    "watched": {
        "replicas": 2,
        "config": {
            "prometheusNamespaces": ["monitoring"],
            "prometheus": {"address": "http://prometheus.monitoring.svc"},
        },
        "metrics": {
            "podMonitor": {"create": True, "labels": {"release": "prometheus"}},
            "serviceMonitor": {"create": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"create": True, "labels": {"release": "prometheus"}},
            "dashboards": {"create": True},
        },
    },
    "watched by the Grafana operator": {"metrics": {"grafanaDashboards": {"create": True}}},
    "watched by annotations": {"metrics": {"scrapeAnnotations": True}},
    "guarded": {"admissionPolicy": {"create": True}},
    "with roles for users": {"rbac": {"create": True, "aggregatedRoles": True}},
    "a way out to the API server": {"networkPolicy": {"create": True, "apiServerPorts": [443, 6443]}},
    "of the whole cluster": {
        "replicas": 2,
        "config": {"scope": "Cluster", "prometheusNamespaces": ["monitoring"]},
        "admissionPolicy": {"create": True},
        "metrics": {"podMonitor": {"create": True}, "serviceMonitor": {"create": True}},
        "networkPolicy": {"create": True, "apiServerPorts": [6443]},
    },
    "as a dependency": {"global": {"anything": True}},
}


def run(
    helm: str, values: Manifest, folder: Path, *, release: str = "release", namespace: str = NAMESPACE
) -> subprocess.CompletedProcess[str]:
    """Render the chart; the exit status is not checked."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    argv = [helm, "template", release, str(CHART), "--namespace", namespace, "--values", str(file)]
    argv += ["--kube-version", OLDEST_KUBERNETES]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


def rendered(helm: str, values: Manifest, folder: Path, *, release: str = "release", namespace: str = NAMESPACE) -> str:
    """The chart's manifests as text."""
    done = run(helm, values, folder, release=release, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(helm: str, values: Manifest, folder: Path) -> list[Manifest]:
    """The chart's objects, rendered once for the same values."""
    key = helm, json.dumps(values, sort_keys=True)
    if key not in _RENDERED:
        _RENDERED[key] = rendered(helm, values, folder)
    return objects_in(_RENDERED[key])


def objects_in(text: str) -> list[Manifest]:
    """The objects of manifests. By the loader in C: the CRDs alone take the other one a quarter of a second."""
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def one(found: list[Manifest], kind: str) -> Manifest:
    """The only object of a kind."""
    (match,) = [o for o in found if o["kind"] == kind]
    return match


def merged(*parts: Manifest) -> Manifest:
    """Values over values, as Helm lays one file over another: objects key by key, everything else whole."""
    result: Manifest = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


EVERYTHING = merged(
    *(VALUES[name] for name in ("watched", "watched by the Grafana operator", "guarded", "with roles for users")),
    *(VALUES[name] for name in ("with issuer discovery", "with claims", "of the whole cluster")),
    {"rbac": {"issuerDiscovery": True, "aggregatedRoles": True}},
)
"""Every kind of object that the chart has, at once."""
