"""Prometheus metrics of LLMDeployments: what their status says, read from the store when it is asked for."""

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
    """What the deployments are, one moment after the other. For any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """No label but the names is anybody's to choose. A condition that is not known has no sample."""
        condition = _gauge("condition", "1 while it is True, 0 while it is False; why is its reason.", "type", "reason")
        replicas = _gauge("replicas", "Pods of the serving revision.", "role")
        ready = _gauge("ready_replicas", "Those of them that are Ready.", "role")
        for deployment in self._store.deployments():
            metadata, status = deployment["metadata"], deployment.get("status") or {}
            name = [metadata["namespace"], metadata["name"]]
            for told in status.get("conditions") or []:
                if told.get("type") in _KINDS and told.get("status") in _TRUTHS:
                    condition.add_metric([*name, told["type"], told.get("reason", "")], _TRUTHS[told["status"]])
            for role in Role:
                if pods := status.get(role.value):
                    replicas.add_metric([*name, role.value], pods.get("replicas", 0))
                    ready.add_metric([*name, role.value], pods.get("readyReplicas", 0))
        yield from (condition, replicas, ready)


def _gauge(name: str, told: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tandem_deployment_{name}", told, labels=["namespace", "deployment", *labels])
