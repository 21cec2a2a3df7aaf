"""The oracles themselves: each finds what it is for, and nothing where nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.oracles import Seen, reference_of, snapshot_of, summary_of, unexpected_writes, violations

OWNER = {"kind": "LLMDeployment", "metadata": {"name": "a", "uid": "uid-of-a", "namespace": "chat"}, "spec": {"x": 1}}


def _child(*, uid: str = "uid-of-a", stamp: str = "1", replicas: int = 2) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "a-verifier-0123abcd", "ownerReferences": [{"uid": uid}], "resourceVersion": stamp},
        "spec": {"replicas": replicas},
        "status": {"replicas": 2, "conditions": [{"type": "Progressing"}]},
    }


def _snapshot(**child: Any) -> Any:
    return snapshot_of(OWNER, [_child(**child)], [], namespace="chat")


NOTHING = summary_of([])


def test_what_differs_between_clean_runs_is_masked_and_all_else_compared() -> None:
    reference = reference_of([(_snapshot(stamp=stamp), NOTHING) for stamp in "123"])
    assert reference.differences(_snapshot(stamp="9")) == []
    (difference,) = reference.differences(_snapshot(replicas=3))
    assert difference == "Deployment a-verifier-0123abcd/spec/replicas: 3, expected 2"


def test_a_child_of_an_earlier_owner_and_a_missing_one_are_differences() -> None:
    reference = reference_of([(_snapshot(), NOTHING)])
    (difference,) = reference.differences(_snapshot(uid="another-uid"))
    assert "ownerReferences/0/uid: 'another-uid', expected '<owner>'" in difference
    gone = reference.differences(snapshot_of(OWNER, [], [], namespace="chat"))
    assert all("nothing, expected" in difference for difference in gone)
    assert gone


def _artifact(*, uid: str = "uid-1", unused: str = "", model: str = "Llama") -> list[dict[str, Any]]:
    since = {"unusedSince": unused} if unused else {}
    owner = [{"kind": "ModelArtifact", "name": "v1-x", "uid": uid}]
    return [
        {
            "kind": "ModelArtifact",
            "metadata": {"name": "v1-x", "uid": uid},
            "status": {"model": {"architecture": model}, **since},
        },
        {
            "kind": "Job",
            "metadata": {"name": "v1-x-inspect", "uid": f"job-{uid}", "ownerReferences": owner},
            "status": {"succeeded": 1, "completionTime": unused},
        },
    ]


SHARED = [
    (_artifact(uid="uid-2"), ""),
    (
        _artifact(uid="uid-2", unused="2026-11-26T03:00:00Z"),
        "ModelArtifact v1-x/status/unusedSince: True, expected False",
    ),
    (_artifact(model=""), "ModelArtifact v1-x/status/model/architecture: '', expected 'Llama'"),
    (_artifact()[:1], "Job v1-x-inspect/kind: nothing, expected 'Job'"),
    ([*_artifact()[:1], *_artifact(uid="uid-2")[1:]], "uid: 'uid-2', expected '<ModelArtifact v1-x>'"),
]


@pytest.mark.parametrize(("shared", "found"), SHARED)
def test_artifacts_and_jobs_that_are_missing_unknown_or_of_another_are_differences(
    *, shared: list[dict[str, Any]], found: str
) -> None:
    def snapshot(shared: list[dict[str, Any]]) -> Any:
        return snapshot_of(OWNER, [], [], namespace="chat", shared=shared)

    told = reference_of([(snapshot(_artifact()), NOTHING)]).differences(snapshot(shared))
    assert [line for line in told if found in line] if found else not told


def _write(verb: str, resource: str, name: str, code: int, *, subresource: str = "") -> dict[str, Any]:
    return {
        "verb": verb,
        "objectRef": {"resource": resource, "name": name, "subresource": subresource},
        "responseStatus": {"code": code},
    }


CLEAN = [
    _write("patch", "services", "a", 201),
    _write("patch", "deployments", "a-verifier-0123abcd", 201),
    _write("patch", "deployments", "a-verifier-0123abcd", 200),
    _write("patch", "llmdeployments", "a", 200, subresource="status"),
]
WRITES = [
    (CLEAN, ""),
    ([*CLEAN, _write("patch", "deployments", "a-verifier-0123abcd", 200)], ""),
    ([*CLEAN, *2 * [_write("patch", "deployments", "a-verifier-0123abcd", 200)]], "changed deployments 3 times"),
    ([*CLEAN, _write("patch", "services", "a", 201)], "made 1 deployments/a-verifier-*, 2 services/a"),
    ([*CLEAN, _write("delete", "services", "a", 200)], "deleted 1 services/a, expected nothing"),
    ([*CLEAN, *9 * [_write("create", "events", "a.1", 201)]], "10 status writes and events, expected at most 8"),
]


@pytest.mark.parametrize(("written", "found"), WRITES)
def test_a_write_too_many_is_found(*, written: list[dict[str, Any]], found: str) -> None:
    reference = reference_of([({}, summary_of(CLEAN))])
    told = unexpected_writes(summary_of(written), reference)
    assert [found in line for line in told] == ([True] if found else [])


def _pod(version: int, name: str, revision: str, *, ready: bool, gone: bool = False) -> Seen:
    labels = {"tandem.dev/deployment": "a", "tandem.dev/role": "verifier", "tandem.dev/revision": revision}
    metadata = {"name": name, "labels": labels}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return Seen(version, "Pod", {"metadata": metadata, "status": {"conditions": conditions}}, gone)


def _service(version: int, revision: str) -> Seen:
    selector = {"tandem.dev/role": "verifier", "tandem.dev/revision": revision}
    return Seen(version, "Service", {"metadata": {"name": "a"}, "spec": {"selector": selector}}, is_gone=False)


STARTED = [_service(1, "old"), _pod(2, "p1", "old", ready=False), _pod(3, "p1", "old", ready=True)]
SWITCHED = [_pod(4, "p2", "new", ready=True), _service(5, "new"), _pod(6, "p1", "old", ready=True, gone=True)]
SERVICE = [
    ([*STARTED, *SWITCHED], ""),
    ([*SWITCHED[::-1], *STARTED], ""),
    ([*STARTED, _service(4, "new")], "at 4 the Service selects no Ready pod, while Ready ones of old are there"),
    ([*STARTED, _pod(4, "p1", "old", ready=True, gone=True)], "and there is none of another"),
    ([*STARTED, *SWITCHED[:1], _pod(7, "p3", "new", ready=False)], "at 7 there are 3 verifier pods, at most 2 may"),
]


@pytest.mark.parametrize(("seen", "found"), SERVICE)
def test_service_that_breaks_is_found_in_the_order_of_the_api_server(*, seen: list[Seen], found: str) -> None:
    told = violations(seen, service="a", most_pods=2)
    assert [found in line for line in told] == ([True] if found else [])


def test_pods_that_somebody_else_takes_away_are_not_the_operator_s_fault_and_its_own_moves_are() -> None:
    lost = [*STARTED, _pod(4, "p1", "old", ready=False)]
    assert violations(lost, service="a", most_pods=2, keeps_serving=False) == []
    moved = [*STARTED, _service(4, "new")]
    assert len(violations(moved, service="a", most_pods=2, keeps_serving=False)) == 1
