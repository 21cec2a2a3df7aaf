"""What is read of pods, and what is kept of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.facts import Facts, Manifest, PodFacts, Ref
from tandem_operator.facts_parsing import facts_of, pod_of
from tandem_operator.kept import kept_of
from tests.builders import KEY, UID, make_child, make_raw_pod
from tests.unit.operator.listening import Ears

AT = "2030-01-01T00:00:05Z"
REVISION = "7f3a90c1"


def condition(kind: str, status: str, **parts: str) -> Manifest:
    return {"type": kind, "status": status, "lastTransitionTime": AT, **parts}


READY = {
    "phase": "Running",
    "podIP": "10.0.0.7",
    "conditions": [condition("PodScheduled", "True"), condition("Ready", "True")],
}


def read(status: Manifest, **metadata: Any) -> PodFacts:
    raw = make_raw_pod(Role.VERIFIER, REVISION, **status)
    raw["metadata"].update(metadata)
    found = pod_of(raw)
    assert found is not None
    return found


def test_a_ready_pod_is_read_with_its_address_and_revision() -> None:
    pod = read(READY)
    assert (pod.ref, pod.role, pod.revision) == (Ref("Pod", "p"), Role.VERIFIER, REVISION)
    assert (pod.address, pod.is_ready, pod.is_going, pod.is_over, pod.trouble) == ("10.0.0.7", True, False, False, "")
    assert pod.created == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_pod_that_goes_may_still_be_ready_and_one_that_has_ended_is_not() -> None:
    assert read(READY, deletionTimestamp=AT).is_going
    assert read(READY, deletionTimestamp=AT).is_ready
    over = read({**READY, "phase": "Failed", "reason": "Evicted"})
    assert (over.is_ready, over.is_over) == (False, True)


def test_a_pod_without_a_node_says_since_when_and_why() -> None:
    waiting = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes\nare available")
    pod = read({"phase": "Pending", "conditions": [waiting]})
    assert pod.unschedulable == "0/3 nodes are available"
    assert pod.unschedulable_since == datetime(2030, 1, 1, 0, 0, 5, tzinfo=UTC)
    gated = condition("PodScheduled", "False", reason="SchedulingGated", message="waits for a gate")
    assert read({"phase": "Pending", "conditions": [gated]}).unschedulable == ""


def test_a_pod_belongs_to_a_deployment_by_its_labels_whoever_controls_it() -> None:
    raw = make_raw_pod(Role.DRAFT, REVISION, **READY)
    raw["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "r", "uid": "r", "controller": True}]
    facts = facts_of([raw], owner_uid=UID)
    assert [pod.ref.name for pod in facts.pods_of(Role.DRAFT, REVISION)] == ["p"]
    assert facts.pods_of(Role.VERIFIER, REVISION) == facts.pods_of(Role.DRAFT, "other") == ()


@pytest.mark.parametrize("label", [names.LABEL_ROLE, names.LABEL_REVISION])
def test_a_pod_without_our_labels_is_no_pod_of_ours(label: str) -> None:
    raw = make_raw_pod(Role.DRAFT, REVISION, **READY)
    del raw["metadata"]["labels"][label]
    assert facts_of([raw], owner_uid=UID) == Facts()


FULL_STATUS: Manifest = {
    **READY,
    "containerStatuses": [
        {"name": "engine", "image": "i", "imageID": "i@sha256:0", "containerID": "c", "ready": False, "restartCount": 1,
         "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}},
    ],
    "initContainerStatuses": [{"name": "init", "image": "i", "state": {"terminated": {"exitCode": 0}}}],
    "hostIPs": [{"ip": "1.1.1.1"}],
    "qosClass": "Burstable",
}  # fmt: skip


def full_pod(**status: Any) -> Manifest:
    raw = make_raw_pod(Role.VERIFIER, REVISION, **{**FULL_STATUS, **status})
    raw["metadata"] |= {
        "managedFields": [{"fieldsV1": {"f": {}}}] * 9,
        "annotations": {"a": "b"},
        "ownerReferences": [],
    }
    raw["spec"] = {"nodeName": "n", "containers": [{"name": "engine", "env": [{"name": "A", "value": "secret"}]}]}
    return raw


def test_everything_that_is_read_of_a_pod_is_kept_and_hardly_anything_else() -> None:
    raw = full_pod()
    kept = kept_of(raw)
    assert pod_of(kept) == pod_of(raw)
    assert facts_of([kept], owner_uid=UID) == facts_of([raw], owner_uid=UID)
    written = json.dumps(kept)
    for word in ("managedFields", "secret", "sha256", "qosClass", "hostIPs"):
        assert word not in written


def test_of_other_kinds_only_the_bookkeeping_of_field_managers_is_dropped() -> None:
    child = make_child("Deployment", "d", spec={"replicas": 1})
    assert kept_of({**child, "metadata": {**child["metadata"], "managedFields": [{}]}}) == child
    written = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team.example/owner": "chat"}
    copied = {**child, "metadata": {**child["metadata"], "annotations": written}}
    assert kept_of(copied)["metadata"]["annotations"] == {"team.example/owner": "chat"}
    assert copied["metadata"]["annotations"] == written


def passes(*pods: tuple[str, Manifest]) -> int:
    """How many passes a series of a pod's events asks for."""
    ears = Ears()
    for version, (what, manifest) in enumerate(pods, start=1):
        metadata = {**manifest["metadata"], "resourceVersion": str(version)}
        ears.hear("Pod", what, {**manifest, "metadata": metadata})
    assert set(ears.added) <= {KEY}
    return len(ears.added)


def test_only_a_change_of_what_is_read_wakes_the_deployment() -> None:
    first = ("ADDED", full_pod())
    assert passes(first) == 1
    assert passes(first, ("MODIFIED", full_pod(qosClass="Guaranteed"))) == 1
    assert passes(first, ("MODIFIED", full_pod(podIP="10.0.0.8"))) == 2
    assert passes(first, ("MODIFIED", full_pod(phase="Failed"))) == 2
    assert passes(first, ("DELETED", full_pod())) == 2
