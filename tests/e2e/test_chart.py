"""The chart on the real node with both Helms: install, upgrade, uninstall; what serves is left alone."""

from __future__ import annotations

import pytest

from deploy import chart
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.place import local_place

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(400)]


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_the_chart_installs_upgrades_and_uninstalls(cluster: Cluster, namespace: str, *, helm: str) -> None:
    place = local_place(cluster, helm)
    references = images.provide(["operator"], cluster=cluster)
    values = {**chart.values_of({**references, "engine-cpu": "tandem.local/engine-cpu:none"})}
    place.run("apply", "--server-side", "--force-conflicts", "-f", "crds")
    values["crds"] = {"install": False}
    chart.install(place, namespace, values=values)
    ready = place.get("deployment", "tandem-operator", "-n", namespace)["status"]["readyReplicas"]
    assert ready == 1
    place.apply(_resource(namespace), namespace=namespace)
    place.run("wait", "-n", namespace, "--for=condition=Accepted", "llm/ngram", "--timeout=30s")
    chart.install(place, namespace, values={**values, "args": ["--log-level", "DEBUG"]})
    assert place.get("deployment", "tandem-operator", "-n", namespace)["metadata"]["generation"] == 2
    chart.uninstall(place, namespace)
    assert (
        place.get("deployments,roles,serviceaccounts", "-n", namespace, "-l", "app.kubernetes.io/name=tandem")["items"]
        == []
    )
    assert len(place.get("llm", "-n", namespace)["items"]) == 1
    assert len(place.get("deployments", "-n", namespace, "-l", "tandem.dev/deployment=ngram")["items"]) == 1


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
