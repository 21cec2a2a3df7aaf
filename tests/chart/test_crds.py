"""The CRDs as the chart brings them, with both Helms, on a cluster of its own that no other test shares."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import chart
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout, layout_of
from deploy.place import Place, PlaceError, local_place
from tests.cluster.world import IMAGES, REPOSITORY

NAMESPACE = "chat"
CRD = "llmdeployments.tandem.dev"
CRDS = (CRD, "modelartifacts.tandem.dev")
GOING_SECONDS = 330.0
"""The API server deletes a CRD's instances first. If it cannot list them, because their storage is just starting, it
may look again only with its resync, five minutes later; `_install` has them listed before, so that this is a limit and
no expectation."""

pytestmark = pytest.mark.timeout(2 * GOING_SECONDS)


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """Short of pods, which none of this needs; in a folder of its own, since CRDs belong to the whole cluster."""
    folder = Path(tempfile.mkdtemp(prefix="tandem-crds-"))
    cluster = Cluster(layout=Layout(folder / "cluster", layout_of().cache))
    cluster.up()
    yield cluster
    cluster.down()
    shutil.rmtree(folder)


@pytest.fixture(params=["helm3", "helm4"])
def place(own_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Place]:
    found = local_place(own_cluster, request.param)
    found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    yield found
    found.run("delete", "crd", *CRDS, "--ignore-not-found", "--wait=false")
    _wait_until_gone(found)
    found.run("delete", "namespace", NAMESPACE, "--wait=true")


def _wait_until_gone(place: Place) -> None:
    for crd in CRDS:
        try:
            limit = f"--timeout={GOING_SECONDS:.0f}s"
            place.run("wait", "--for=delete", f"crd/{crd}", limit, limit_seconds=GOING_SECONDS + 10)
        except PlaceError as error:
            raise PlaceError(f"{error}; it says: {place.get('crd', crd).get('status', {}).get('conditions')}") from None


def _install(place: Place, *, keep: bool) -> None:
    crds = {"install": True, "keep": keep}
    chart.install(place, NAMESPACE, values={**chart.values_of(IMAGES, replicas=0), "crds": crds})
    for crd in CRDS:
        place.run("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=30s")
        place.get(crd, "--all-namespaces")
    place.apply(yaml.safe_load((REPOSITORY / "deploy/samples/ngram.yaml").read_text()), namespace=NAMESPACE)


def test_an_uninstall_leaves_crd_and_resources_and_a_second_install_takes_them_up(place: Place) -> None:
    _install(place, keep=True)
    chart.uninstall(place, NAMESPACE)
    assert [item["metadata"]["name"] for item in place.get(CRD, "-n", NAMESPACE)["items"]] == ["ngram"]
    _install(place, keep=True)


def earlier_chart(folder: Path) -> Path:
    """The chart of an earlier version, whose LLMDeployment had no autoscaling."""
    made = Path(shutil.copytree(chart.CHART, folder / "earlier"))
    file = made / "files/crds/llmdeployments.yaml"
    crd = yaml.safe_load(file.read_text())
    for version in crd["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        del schema["properties"]["spec"]["properties"]["autoscaling"]
        for at in (schema, schema["properties"]["spec"]):  # rules that speak of it
            rules = at.get("x-kubernetes-validations", [])
            at["x-kubernetes-validations"] = [rule for rule in rules if "autoscaling" not in rule["rule"]]
    file.write_text(yaml.safe_dump(crd))
    return made


def test_an_upgrade_brings_new_fields_to_the_crd_and_leaves_resources_alone(place: Place, tmp_path: Path) -> None:
    def fields() -> Any:
        schema = place.get("crd", CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return schema["properties"]["spec"]["properties"].keys()

    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(chart.values_of(IMAGES, replicas=0)))
    release = (chart.RELEASE, "-n", NAMESPACE)
    place.run_helm("install", chart.RELEASE, str(earlier_chart(tmp_path)), "-n", NAMESPACE, "-f", str(values), "--wait")
    place.run("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")
    assert "autoscaling" not in fields()
    place.apply(yaml.safe_load((REPOSITORY / "deploy/samples/ngram.yaml").read_text()), namespace=NAMESPACE)
    before = place.get("llm", "ngram", "-n", NAMESPACE)["metadata"]
    chart.install(place, NAMESPACE, values=chart.values_of(IMAGES, replicas=0))
    assert "autoscaling" in fields()
    after = place.get("llm", "ngram", "-n", NAMESPACE)["metadata"]
    assert (after["uid"], after["generation"]) == (before["uid"], before["generation"])
    place.run_helm("rollback", *release, "1", "--wait")
    assert place.get("llm", "ngram", "-n", NAMESPACE)["metadata"]["uid"] == before["uid"]


def test_a_crd_that_is_not_to_be_kept_goes_with_the_release(place: Place) -> None:
    _install(place, keep=False)
    chart.uninstall(place, NAMESPACE)
    _wait_until_gone(place)
