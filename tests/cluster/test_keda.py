"""A real KEDA, by a real Prometheus, drives the verifiers through the scale subresource: up, down, to zero and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit import ACCOUNT
from tests.cluster.keda import running_keda
from tests.cluster.scaled import HPA, NAME, log_end, make_deployment, wait_for_replicas, writes
from tests.cluster.world import Manifest, World
from tests.prometheus.exporters import Exporters, serving_pages
from tests.prometheus.server import Prometheus, running_prometheus, scraping

KEDA = "tandem-admin"
"""Whose kubeconfig it has."""


@pytest.fixture
def exporters() -> Iterator[Exporters]:
    with serving_pages() as pages:
        yield pages


@pytest.fixture
def prometheus(tmp_path: Path, exporters: Exporters) -> Iterator[Prometheus]:
    """Scraping one page: of whatever counts requests before the verifiers, which says so also while there are none."""
    with running_prometheus(tmp_path / "prometheus", [scraping("router", exporters.address, "router")]) as server:
        yield server


@pytest.fixture
def keda(tandem: World, tmp_path: Path) -> Iterator[Path]:
    with running_keda(tandem.cluster, tandem.namespace, tmp_path / "keda") as log:
        yield log


def _scaled_object(prometheus: Prometheus) -> Manifest:
    """Ten requests a verifier, none of them without requests, without any hold."""
    trigger = {"serverAddress": prometheus.address, "query": "sum(requests)", "threshold": "10"}
    trigger["ignoreNullValues"] = "false"
    quick = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "theirs"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "tandem.dev/v1alpha1", "kind": "LLMDeployment", "name": NAME},
            "pollingInterval": 1,
            "initialCooldownPeriod": 60,  # else it begins with none, whatever Prometheus says
            "cooldownPeriod": 1,
            "minReplicaCount": 0,
            "maxReplicaCount": 6,
            "triggers": [{"type": "prometheus", "metadata": trigger}],
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": quick}},
        },
    }


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_keda_scales_the_verifiers_by_prometheus_and_the_operator_follows(
    tandem: World, exporters: Exporters, prometheus: Prometheus, keda: Path
) -> None:
    tandem.apply(make_deployment(autoscaling=None))
    tandem.wait_for(NAME, "Ready")
    begin = log_end(tandem)
    numbers = {30: 3, 19: 2, 0: 0, 40: 4}
    exporters.serve("router", "requests 30\n")
    prometheus.wait_for("sum(requests)", 30)
    tandem.apply(_scaled_object(prometheus))
    for requests, verifiers in numbers.items():
        exporters.serve("router", f"requests {requests}\n")
        wait_for_replicas(tandem, verifiers)
    assert tandem.get("scaledobject/theirs")["status"]["scaleTargetGVKR"]["kind"] == "LLMDeployment"
    scalers = writes(tandem, "llmdeployments", begin)
    # KEDA itself turns off and on, from 0 to 1; the HPA that it has made does the rest.
    assert scalers == {(HPA, "scale"): 3, (KEDA, "scale"): 2}
    written = writes(tandem, "deployments", begin)
    assert set(written) == {(ACCOUNT, "")}
    assert len(numbers) <= written.total() <= scalers.total(), "one write a change, or one for two that come at once"
