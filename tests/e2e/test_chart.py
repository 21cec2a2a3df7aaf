"""The chart on the real node with both Helms: install, upgrade, rollback, uninstall; what serves is left alone."""

from __future__ import annotations

import pytest

from deploy import chart
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.local.processes import wait_until
from deploy.place import PlaceError, local_place

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(400)]


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_the_chart_installs_upgrades_rolls_back_and_uninstalls(cluster: Cluster, namespace: str, *, helm: str) -> None:
    place = local_place(cluster, helm)
    references = images.provide(["operator"], cluster=cluster)
    values = {**chart.values_of({**references, "engine-cpu": "tandem.local/engine-cpu:none"})}
    place.run("apply", "--server-side", "--force-conflicts", "-f", "crds")
    values |= {"crds": {"install": False}, "admissionPolicy": {"create": True}}
    chart.install(place, namespace, values=values)
    ready = place.get("deployment", "tandem-operator", "-n", namespace)["status"]["readyReplicas"]
    assert ready == 1
    place.apply(_resource(namespace), namespace=namespace)
    place.run("wait", "-n", namespace, "--for=condition=Accepted", "llm/ngram", "--timeout=30s")
    chart.install(place, namespace, values={**values, "args": ["--log-level", "DEBUG"]})
    assert place.get("deployment", "tandem-operator", "-n", namespace)["metadata"]["generation"] == 2
    place.run_helm("rollback", chart.RELEASE, "1", "-n", namespace, "--wait", "--timeout", "60s")
    assert place.get("deployment", "tandem-operator", "-n", namespace)["metadata"]["generation"] == 3
    pods = ("pods", "-n", namespace, "-l", "app.kubernetes.io/managed-by=tandem-operator")
    assert len(place.get(*pods)["items"]) == 2, "a verifier and the Job that looks at its model, let in by the policy"
    chart.uninstall(place, namespace)
    assert (
        place.get("deployments,roles,serviceaccounts", "-n", namespace, "-l", "app.kubernetes.io/name=tandem")["items"]
        == []
    )
    assert len(place.get("llm", "-n", namespace)["items"]) == 1
    assert len(place.get("deployments", "-n", namespace, "-l", "tandem.dev/deployment=ngram")["items"]) == 1


def test_a_wrong_configuration_leaves_the_operator_that_works_at_work(cluster: Cluster, namespace: str) -> None:
    place = local_place(cluster)
    references = images.provide(["operator"], cluster=cluster)
    values = {**chart.values_of({**references, "engine-cpu": "tandem.local/engine-cpu:none"})}
    place.run("apply", "--server-side", "--force-conflicts", "-f", "crds")
    values["crds"] = {"install": False}
    chart.install(place, namespace, values=values)

    def leader() -> str:
        return str(place.get("lease", "tandem-operator", "-n", namespace)["spec"]["holderIdentity"])

    before = leader()
    wrong = {**values, "config": {**values["config"], "accelerators": {"mine": {"memoryGib": 80}}}}
    with pytest.raises(PlaceError):
        chart.install(place, namespace, values=wrong, limit_seconds=10)
    pods = ("pods", "-n", namespace, "-l", "app.kubernetes.io/component=operator")

    def has_told() -> bool:
        states = [pod["status"].get("containerStatuses", [{}])[0] for pod in place.get(*pods)["items"]]
        return any(state.get("restartCount") or "terminated" in state.get("state", {}) for state in states)

    wait_until(has_told, "the end of the new operator", limit_seconds=30, log=cluster.layout.log_of("kubelet"))
    assert place.get("deployment", "tandem-operator", "-n", namespace)["status"]["readyReplicas"] == 1
    assert leader() == before
    chart.install(place, namespace, values=values)
    assert place.get("deployment", "tandem-operator", "-n", namespace)["status"]["readyReplicas"] == 1


def _resource(namespace: str) -> dict[str, object]:
    """A deployment whose pods may stay pending: there is no claim."""
    source = {"persistentVolumeClaim": {"claimName": "absent", "path": "verifier"}}
    verifier = {"model": {"source": source}, "accelerator": {"classes": ["cpu"], "count": 1}}
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "ngram", "namespace": namespace},
        "spec": {"verifier": verifier, "speculation": {"method": "NGram"}},
    }
