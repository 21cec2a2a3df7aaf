"""What the operator exports of its deployments: what their status says, and nothing of what is gone."""

from __future__ import annotations

from typing import Any

from tandem_operator.deployment_figures import DeploymentFigures
from tandem_operator.store import Store
from tests.builders import NAME, NAMESPACE, make_body

STATUS = {
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "NoReadyVerifier"},
        {"type": "LatencyTargetMet", "status": "Unknown", "reason": "NoRequests"},
        {"type": "Available", "status": "True", "reason": "Serving"},
        {"type": "Somebodys", "status": "True", "reason": "Else"},
    ],
    "verifier": {"replicas": 2, "readyReplicas": 1},
}


def figures_of(store: Store) -> dict[tuple[str, ...], float]:
    """By the metric's name and its labels' values."""
    families = DeploymentFigures(store).collect()
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def make_stored(**changes: Any) -> Store:
    store = Store()
    store.observe({**make_body(), **changes})
    return store


def test_conditions_that_are_known_and_pods_are_told() -> None:
    assert figures_of(make_stored(status=STATUS)) == {
        ("tandem_deployment_condition", NAMESPACE, NAME, "Ready", "NoReadyVerifier"): 0,
        ("tandem_deployment_condition", NAMESPACE, NAME, "Available", "Serving"): 1,
        ("tandem_deployment_replicas", NAMESPACE, NAME, "verifier"): 2,
        ("tandem_deployment_ready_replicas", NAMESPACE, NAME, "verifier"): 1,
    }


def test_nothing_is_told_of_a_deployment_that_is_new_or_gone() -> None:
    assert figures_of(make_stored()) == {}
    store = make_stored(status=STATUS)
    store.forget(make_body())
    assert figures_of(store) == {}


def test_deployments_of_one_name_are_told_apart_by_their_namespaces() -> None:
    store = make_stored(status=STATUS)
    metadata = {**make_body()["metadata"], "namespace": "elsewhere"}
    store.observe({**make_body(), "metadata": metadata, "status": {"verifier": {"replicas": 7, "readyReplicas": 6}}})
    told = figures_of(store)
    assert [told["tandem_deployment_replicas", of, NAME, "verifier"] for of in (NAMESPACE, "elsewhere")] == [2, 7]
