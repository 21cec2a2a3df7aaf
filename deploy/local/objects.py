"""The few objects that the cluster itself needs: the mark that says whose it is, and what coredns may read."""

from typing import Any

from deploy.local.controlplane import USERS
from deploy.local.record import Record

MARKER = "tandem-local"


def cluster_objects(record: Record) -> list[dict[str, Any]]:
    """All of them, ready to be applied again and again."""
    return [_marker(record), *_dns_rights()]


def _marker(record: Record) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": MARKER, "namespace": "kube-system"},
        "data": {"id": record.marker},
    }


def _dns_rights() -> list[dict[str, Any]]:
    name = "tandem-local-dns"
    rules = [
        {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": USERS["coredns"][0]}],
    }
    return [role, binding]
