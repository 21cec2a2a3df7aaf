"""Specs that are huge, refer to what is not there, or alternate between good and bad."""

from __future__ import annotations

import pytest

from tandem_operator import names
from tests.faults.api import ApiError
from tests.faults.case import NAME, Case, deployment, path_of
from tests.faults.oracles import reference_of, summary_of

pytestmark = pytest.mark.timeout(400)
BAD = {"verifier": {"accelerator": {"classes": ["nvidia-h1000"]}}}
GOOD = {"verifier": {"accelerator": {"classes": ["nvidia-h100-80gb"]}}}


@pytest.mark.covers("G4")
def test_a_resource_of_a_mebibyte_is_refused_and_the_service_goes_on(served: Case) -> None:
    huge = "x" * 2**20
    for spec in ({"servedName": huge}, {"verifier": {"model": {"source": {"persistentVolumeClaim": {"path": huge}}}}}):
        with pytest.raises(ApiError) as refused:
            served.change(spec)
        assert refused.value.status in {400, 413, 422}
    assert served.says("Ready")


@pytest.mark.covers("G4")
def test_a_resource_with_annotations_up_to_the_limit_is_served_and_can_be_deleted(case: Case) -> None:
    made = deployment()
    made["metadata"]["annotations"] = {"team.example/notes": "x" * 250_000}
    case.start()
    case.apply(made)
    case.settle()
    case.delete()
    case.wait(lambda: case.resource() is None and not case.children(), "nothing left")


@pytest.mark.covers("G6")
def test_a_claim_that_is_missing_is_told_of_and_its_appearance_noticed(case: Case) -> None:
    claim = case.api.get("PersistentVolumeClaim", case.namespace, "models")
    case.api.delete("PersistentVolumeClaim", case.namespace, "models")
    case.wait(lambda: case.api.find("PersistentVolumeClaim", case.namespace, "models") is None, "the claim gone")
    case.start()
    case.apply()
    case.wait_for("Ready", "False")
    case.wait(lambda: len(case.pods()) == 3, "pods that wait for the claim")
    volume = f"/api/v1/persistentvolumes/models-{case.namespace}"
    unbound = [{"op": "remove", "path": "/spec/claimRef"}]
    case.api.request("PATCH", volume, unbound, content_type="application/json-patch+json")
    spec = {key: claim["spec"][key] for key in ("accessModes", "resources", "storageClassName", "volumeName")}
    case.api.create(case.namespace, {"kind": claim["kind"], "metadata": {"name": "models"}, "spec": spec})
    case.settle(limit_seconds=240)


@pytest.mark.covers("G10")
def test_bad_and_good_in_turn_end_good_without_a_child_too_many(served: Case, pytestconfig: pytest.Config) -> None:
    reference = reference_of([(served.snapshot(), summary_of([]))])
    pods = {pod["metadata"]["uid"] for pod in served.pods()}
    for _ in range(20 if pytestconfig.getoption("--campaign") else 4):
        served.change(BAD)
        served.wait_for("Stalled", reason="UnknownAcceleratorClass")
        assert served.says("Available")
        served.change(GOOD)
        served.wait_for("Ready")
    served.settle()
    assert {pod["metadata"]["uid"] for pod in served.pods()} == pods
    told = [line for line in reference.differences(served.snapshot()) if not line.startswith(names.KIND)]
    assert told == []


@pytest.mark.covers("G10")
def test_edits_faster_than_the_operator_end_at_the_last_one(served: Case) -> None:
    for _ in range(10):
        served.change(BAD)
        served.change(GOOD)
    served.settle()
    assert path_of(names.KIND, served.namespace, NAME)
