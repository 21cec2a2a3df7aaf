"""What administrators do: CRDs deleted, operators upgraded or removed, status wiped, backups restored."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from deploy.local.cluster import Cluster
from deploy.place import Place
from tandem_operator import names
from tests.cluster.world import make_place
from tests.faults import actions
from tests.faults.api import Manifest, role_of
from tests.faults.case import NAME, Case
from tests.faults.oracles import reference_of, summary_of
from tests.faults.requests import writes

pytestmark = pytest.mark.timeout(400)
OTHER_MODEL = {"verifier": {"model": {"source": {"persistentVolumeClaim": {"path": "another-model"}}}}}


@pytest.mark.campaign
@pytest.mark.covers("H1")
def test_a_resource_of_a_kind_that_was_deleted_and_made_again_is_served(
    served: Case, cluster: Cluster, place: Place
) -> None:
    crds = ("llmdeployments.tandem.dev", "modelartifacts.tandem.dev")
    place.run("delete", "crd", *crds, "--wait=true", "--timeout=60s")
    served.wait(lambda: not served.pods(), "the pods gone with their resource")
    make_place(cluster, nodes={})
    served.apply()
    _supervised(served, lambda: served.says("Ready"))
    served.settle()


def _supervised(case: Case, condition: Callable[[], bool]) -> None:
    """As a kubelet: an operator that has ended is started again."""

    def holds() -> bool:
        if not case.operator.is_running():
            case.start()
        return condition()

    case.wait(holds, "what is asked for, with the operator started again when it ends")


@pytest.mark.covers("H2")
@pytest.mark.parametrize("write", [1, 2, 3])
def test_an_upgrade_in_the_middle_of_a_rollout_restarts_no_pod_by_itself(served: Case, write: int) -> None:
    served.proxy.add(writes(resource="deployments"), actions.after(served.kill), first=write)
    served.change(OTHER_MODEL)
    served.wait(lambda: not served.operator.is_running(), f"write no. {write} of the rollout")
    begun = {pod["metadata"]["uid"] for pod in served.pods()}
    images = {"cpu": "tandem.local/engine-cpu:other", "gpu": "tandem.local/engine-gpu:other"}
    served.restart(engineImages=images)
    served.settle()
    drafts = {pod["metadata"]["uid"] for pod in served.pods("tandem.dev/role=draft")}
    assert drafts <= begun
    made = [child for child in served.children() if child["kind"] == "ControllerRevision"]
    assert sorted(role_of(revision)[0] for revision in made) == ["draft", "verifier", "verifier"]
    served.served(most_pods=4)


@pytest.mark.covers("H3")
def test_without_the_operator_and_its_rights_pods_serve_on_and_the_resource_can_be_deleted(served: Case) -> None:
    pods = {pod["metadata"]["uid"] for pod in served.pods()}
    served.operator.end(signal.SIGTERM)
    served.uninstall()
    assert {pod["metadata"]["uid"] for pod in served.pods()} == pods
    assert served.api.get("Service", served.namespace, NAME)["spec"]["selector"]
    served.delete()
    served.wait(lambda: served.resource() is None and not served.children() and not served.pods(), "nothing left")


def _wiped_status(case: Case) -> None:
    path = [{"op": "remove", "path": "/status"}]
    at = f"/apis/{names.API_VERSION}/namespaces/{case.namespace}/{names.PLURAL}/{NAME}/status"
    case.api.request("PATCH", at, path, content_type="application/json-patch+json")


def _wiped_annotations(case: Case) -> None:
    for child in case.children():
        patch = {"metadata": {"annotations": dict.fromkeys(child["metadata"].get("annotations") or {})}}
        case.api.merge(child["kind"], case.namespace, child["metadata"]["name"], patch)


def _restored(case: Case) -> None:
    """From a backup that kept status and annotations; the object gets a new uid."""
    saved: Manifest = case.resource() or {}
    case.delete()
    case.wait(lambda: case.resource() is None, "the resource gone")
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        saved["metadata"].pop(key, None)
    case.api.create(case.namespace, saved)
    status = {"status": saved["status"]}
    case.api.merge(names.KIND, case.namespace, NAME, status, subresource="status")


LOSSES = {"status": _wiped_status, "annotations": _wiped_annotations, "backup": _restored}


@pytest.mark.covers("H4")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("is_up", [True, False], ids=["operator-up", "operator-down"])
def test_what_is_lost_but_derived_comes_back_and_leads_to_the_same_end(served: Case, *, loss: str, is_up: bool) -> None:
    reference = reference_of([(served.snapshot(), summary_of([]))])
    if not is_up:
        served.operator.end(signal.SIGKILL)
    LOSSES[loss](served)
    if not is_up:
        served.restart()
    served.settle()
    told = [line for line in reference.differences(served.snapshot()) if "/spec/" in line or line.startswith("pods")]
    assert [line for line in told if "clusterIP" not in line] == []


@pytest.mark.covers("H5")
def test_a_deletion_that_somebody_s_finalizer_holds_up_is_waited_for_in_silence(served: Case) -> None:
    held = {"metadata": {"finalizers": ["team.example/backup"]}}
    served.api.merge(names.KIND, served.namespace, NAME, held)
    served.settle()
    before = served.writes()
    served.delete()
    served.wait_resyncs(3)
    assert served.writes() == before
    served.api.merge(names.KIND, served.namespace, NAME, {"metadata": {"finalizers": None}})
    served.wait(lambda: served.resource() is None and not served.children() and not served.pods(), "nothing left")
