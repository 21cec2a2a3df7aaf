"""Specs that are huge, refer to what is not there, or alternate between good and bad."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_operator import names
from tests.faults.api import ApiError, Manifest
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
    accepted = served.condition("Accepted")
    assert (accepted["status"], accepted["observedGeneration"]) == ("True", _generation(served))


def _generation(case: Case) -> int:
    return int((case.resource() or {})["metadata"]["generation"])


def _model(**source: Any) -> Manifest:
    return {"verifier": {"model": {"source": source}}}


DIGEST = f"@sha256:{'0' * 64}"
EDITS: dict[str, tuple[Manifest, tuple[str, ...]]] = {
    "an unknown field": ({"replica": 3}, ("unknown field", "spec.replica")),
    "a wrong type": ({"verifier": {"replicas": "two"}}, ("spec.verifier.replicas", "integer")),
    "out of range": ({"verifier": {"replicas": -1}}, ("spec.verifier.replicas", "-1", "0")),
    "a wrong word": ({"speculation": {"method": "Sometimes"}}, ("spec.speculation.method", "Remote")),
    "a draft that is missing": ({"draft": None}, ("spec.draft is required",)),
    "more than there can be": ({"verifier": {"accelerator": {"count": 99}}}, ("accelerator.count", "16")),
    "a count over which the model cannot be split": (
        {"verifier": {"accelerator": {"count": 3}}},
        ("spec.verifier.accelerator.count (is 3)", "can be split over 1, 2, 4, 8"),
    ),
    "a way out of the folder": (
        _model(persistentVolumeClaim={"path": "../../etc"}),
        ("persistentVolumeClaim.path", "../../etc", "must be a path inside the volume"),
    ),
    "a URL with credentials": (
        _model(persistentVolumeClaim=None, image={"reference": f"https://me:secret@reg.example/m:1{DIGEST}"}),
        ("source.image.reference", "must be an image by its digest", "without scheme, credentials or IP address"),
    ),
    "a metadata host": (
        _model(persistentVolumeClaim=None, image={"reference": f"169.254.169.254/latest{DIGEST}"}),
        ("source.image.reference", "must be an image by its digest", "without scheme, credentials or IP address"),
    ),
    "a second line": ({"servedName": "chat\nmodel"}, ("spec.servedName", "must be names of letters, digits")),
    "letters of elsewhere": ({"servedName": "m\u043edel"}, ("spec.servedName", "must be names of letters, digits")),
    "a flag that is not on the list": (
        {"verifier": {"engine": {"args": {"worker-cls": "mine.Worker"}}}},
        ("spec.verifier.engine.args", "the flags that may be set are", 'not ["worker-cls"]'),
    ),
    "a flag out of its range": (
        {"verifier": {"engine": {"args": {"stream-interval": 0}}}},
        ("spec.verifier.engine.args", "stream-interval", "must be", "given: [0]"),
    ),
    "two fields that do not go together": (
        {"rollout": {"surgeWait": "20m", "progressDeadline": "10m"}},
        ("spec.rollout.progressDeadline", "must be longer than surgeWait", "is 10m", "is 20m"),
    ),
    "an image of somebody else": (
        {"verifier": {"engine": {"image": "evil.example/engine:1"}}},
        ("spec.verifier.engine.image", "evil.example", "engineImageAllowList is empty"),
    ),
    "a pod's own field": ({"verifier": {"hostNetwork": True}}, ("unknown field", "spec.verifier.hostNetwork")),
}


@pytest.mark.covers("G1", "G2", "G3", "G7")
def test_bad_edits_of_a_resource_that_serves_are_told_with_path_and_range_and_change_nothing(served: Case) -> None:
    """Refused by the API server, or told in a condition; the pods are the same ones throughout."""
    pods = {pod["metadata"]["uid"] for pod in served.pods()}
    good = (served.resource() or {})["spec"]
    for name, (edit, parts) in EDITS.items():
        told = _told_of(served, edit)
        assert all(part in told for part in parts), f"{name}: {told}"
        assert served.says("Available"), name
        if (served.resource() or {})["spec"] != good:
            back, path = (
                [{"op": "replace", "path": "/spec", "value": good}],
                path_of(names.KIND, served.namespace, NAME),
            )
            served.api.request("PATCH", path, back, content_type="application/json-patch+json")
            served.wait_for("Accepted")
    served.settle()
    assert {pod["metadata"]["uid"] for pod in served.pods()} == pods
    assert served.operator.is_running()


def _told_of(case: Case, edit: Manifest) -> str:
    """What a user of `kubectl apply` learns of an edit that somebody refuses."""
    body, path = {"spec": edit}, path_of(names.KIND, case.namespace, NAME)
    try:
        query = "?fieldValidation=Strict"
        case.api.request("PATCH", path + query, body, content_type="application/merge-patch+json")
    except ApiError as error:
        return str(error)
    return str(case.wait_for("Stalled")["message"])


@pytest.mark.covers("G5")
def test_the_longest_name_is_served_and_a_longer_one_refused(case: Case) -> None:
    case.start()
    made = deployment()
    made["metadata"]["name"] = "n" * 41
    with pytest.raises(ApiError, match="at most 40 characters"):
        case.apply(made)
    made["metadata"]["name"] = longest = "n" * 40
    case.apply(made)
    case.wait(
        lambda: any(
            (c["type"], c["status"]) == ("Ready", "True")
            for c in (case.api.get(names.KIND, case.namespace, longest).get("status") or {}).get("conditions", [])
        ),
        "the one with the longest name Ready",
    )
    assert all(len(child["metadata"]["name"]) <= 63 for child in case.children())
