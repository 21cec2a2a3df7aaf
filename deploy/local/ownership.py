"""Proves that the cluster behind a kubeconfig is the one that `up` made: tests create and delete there without
asking.
"""

from typing import Any

import yaml

from deploy.local.kubeconfig import CONTEXT
from deploy.local.kubectl import Kubectl
from deploy.local.objects import MARKER
from deploy.local.record import Record


def foreign_because(kubectl: Kubectl, record: Record) -> str:
    """Why the cluster of our kubeconfig is not ours; empty when it is.

    Nothing is asked of a server that the file alone gives away.
    """
    try:
        kubeconfig = yaml.safe_load(kubectl.layout.kubeconfig.read_text())
    except FileNotFoundError:
        return f"{kubectl.layout.kubeconfig} is missing"
    if reason := foreign_file_because(kubeconfig, record):
        return reason
    found = kubectl.attempt(
        "get", "configmap", MARKER, "-n", "kube-system", "-o", "jsonpath={.data.id}", "--request-timeout=10s"
    )
    if found.returncode != 0:
        return f"ConfigMap kube-system/{MARKER} cannot be read: {found.stderr.strip()}"
    return (
        ""
        if found.stdout == record.marker
        else f"ConfigMap kube-system/{MARKER} holds another id than {kubectl.layout.record}"
    )


def foreign_file_because(kubeconfig: Any, record: Record) -> str:
    """Why a parsed kubeconfig does not lead to the cluster of `record`; empty when it does."""
    try:
        context = kubeconfig["current-context"]
        servers = [cluster["cluster"]["server"] for cluster in kubeconfig["clusters"]]
    except (TypeError, KeyError):
        return "the kubeconfig has no current-context or no server"
    if context != CONTEXT:
        return f"its context is {context!r}, expected {CONTEXT!r}"
    if servers != [record.server]:
        return f"its server is {', '.join(servers)}, expected {record.server}"
    return ""
