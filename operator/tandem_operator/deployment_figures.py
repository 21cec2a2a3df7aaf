"""Prometheus metrics of LLMDeployments: what their status says, read from the store when it is asked for.

There is no label for the namespace: an operator has one, which Prometheus knows as the target's.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tandem_contracts.launch import Role
from tandem_operator.names import ConditionType
from tandem_operator.store import Store

_TRUTHS = {"True": 1.0, "False": 0.0}
_KINDS = frozenset(ConditionType)


class DeploymentFigures(Collector):
    """What the deployments of the namespace are, one moment after the other. For any thread."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store, self._namespace = store, namespace

    def collect(self) -> Iterator[Metric]:
        """No label but the deployment's name is anybody's to choose. A condition that is not known has no sample."""
        condition = _gauge("condition", "1 while it is True, 0 while it is False; why is its reason.", "type", "reason")
        replicas = _gauge("replicas", "Pods of the serving revision.", "role")
        ready = _gauge("ready_replicas", "Those of them that are Ready.", "role")
        for deployment in self._store.deployments(self._namespace):
            name, status = deployment["metadata"]["name"], deployment.get("status") or {}
            for told in status.get("conditions") or []:
                if told.get("type") in _KINDS and told.get("status") in _TRUTHS:
                    condition.add_metric([name, told["type"], told.get("reason", "")], _TRUTHS[told["status"]])
            for role in Role:
                if pods := status.get(role.value):
                    replicas.add_metric([name, role.value], pods.get("replicas", 0))
                    ready.add_metric([name, role.value], pods.get("readyReplicas", 0))
        yield from (condition, replicas, ready)


def _gauge(name: str, told: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tandem_deployment_{name}", told, labels=["deployment", *labels])
