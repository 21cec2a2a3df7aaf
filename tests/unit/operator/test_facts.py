"""What is read out of raw objects: missing means what the API server means by it, foreign objects are kept apart."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Facts, Manifest
from tandem_operator.facts_parsing import facts_of
from tandem_operator.objects.revision import revision_object_of
from tandem_operator.objects.service import draft_service_of, serving_service_of
from tandem_operator.objects.workload import workload_of
from tests.builders import NAME, NAMESPACE, UID, make_child, make_revision, make_spec, make_workload

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
VERIFIER, DRAFT = make_revision(make_spec()), make_revision(make_spec(), Role.DRAFT)


def seen(manifest: Manifest, **parts: Any) -> Manifest:
    """A manifest as it comes back from the API server."""
    metadata = {**manifest["metadata"], "uid": "u", "resourceVersion": "5", "generation": 1}
    return {**manifest, "metadata": metadata, **parts}


CHILDREN = [
    seen(revision_object_of(OWNER, VERIFIER)),
    seen(revision_object_of(OWNER, DRAFT)),
    seen(workload_of(OWNER, VERIFIER, replicas=2, progress_deadline_seconds=1800)),
    seen(workload_of(OWNER, DRAFT, replicas=1, progress_deadline_seconds=1800)),
    seen(serving_service_of(OWNER, VERIFIER.revision)),
    seen(draft_service_of(OWNER, verifier_revision=VERIFIER.revision, draft_revision=DRAFT.revision)),
]


def facts(*children: Manifest) -> Facts:
    return facts_of(children, owner_uid=UID)


def workload(status: Manifest | None, **metadata: Any) -> Any:
    child = seen(workload_of(OWNER, VERIFIER, replicas=2, progress_deadline_seconds=1800))
    child["metadata"].update(metadata)
    if status is not None:
        child["status"] = status
    return facts(child).workloads[0]


def test_a_frozen_revision_is_read_back_as_it_was_frozen() -> None:
    read = facts(*CHILDREN)
    for frozen in (VERIFIER, DRAFT):
        (found,) = read.revisions_of(frozen.role)
        assert replace(found, uid="") == frozen
        assert found.uid == "u"


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_children_does_not_matter(shuffle: random.Random) -> None:
    children = CHILDREN.copy()
    shuffle.shuffle(children)
    assert facts(*children) == facts(*CHILDREN)


def test_services_say_which_revision_they_select() -> None:
    read = facts(*CHILDREN)
    serving = read.service(NAME)
    drafts = read.service(names.draft_service_name(NAME, VERIFIER.revision))
    assert serving is not None
    assert (serving.role, serving.selected_revision) == (Role.VERIFIER, VERIFIER.revision)
    assert drafts is not None
    assert (drafts.role, drafts.selected_revision) == (Role.DRAFT, DRAFT.revision)


def test_a_deployment_that_was_just_made_has_no_pods_and_is_not_ready() -> None:
    fresh = workload(None)
    assert (fresh.wanted, fresh.replicas, fresh.ready) == (2, 0, 0)
    assert not fresh.is_observed
    assert not fresh.is_ready


@pytest.mark.parametrize(
    ("status", "generation", "is_ready"),
    [
        ({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2}, 1, True),
        ({"observedGeneration": 1, "replicas": 2, "readyReplicas": 1}, 1, False),
        ({"observedGeneration": 1, "replicas": 2}, 1, False),
        ({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3}, 1, True),
        ({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2}, 2, False),
        ({"observedGeneration": 3, "replicas": 2, "readyReplicas": 2}, 2, True),
        ({}, 1, False),
    ],
)
def test_a_deployment_is_ready_when_its_counters_speak_of_its_present_spec(
    status: Manifest, generation: int, is_ready: bool
) -> None:
    assert workload(status, generation=generation).is_ready is is_ready


def test_what_hinders_a_deployment_is_read_from_its_conditions() -> None:
    conditions = [
        {"type": "Progressing", "status": "False", "message": "too slow."},
        {"type": "ReplicaFailure", "status": "True", "message": "quota exceeded."},
        {"type": "Available", "status": "False", "message": "not told"},
        {"type": "Progressing", "status": "True", "message": "not told either"},
    ]
    read = workload({"conditions": conditions})
    assert (read.message, read.cannot_create) == ("too slow.", "quota exceeded.")


def test_a_deployment_that_is_being_deleted_is_not_ready() -> None:
    status = {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2}
    assert not workload(status, deletionTimestamp="2020-01-01T00:00:00Z").is_ready


def test_an_object_of_another_controller_is_not_taken_for_a_child() -> None:
    for owners in (None, [], [{"uid": "x", "controller": True}], [{"uid": UID, "controller": False}]):
        child = seen(workload_of(OWNER, VERIFIER, replicas=2, progress_deadline_seconds=1800))
        child["metadata"]["ownerReferences"] = owners
        assert facts(child) == Facts()


def test_an_object_of_ours_without_our_labels_is_skipped_until_it_is_applied_again() -> None:
    child = make_child("Deployment", "x")
    child["metadata"]["ownerReferences"] = [{"uid": UID, "controller": True}]
    assert facts(child) == Facts()


def test_revisions_are_ordered_by_their_number_newest_first() -> None:
    numbered = [make_revision(make_spec(servedName=f"n{n}"), number=n) for n in (2, 10, 1)]
    read = facts(*(seen(revision_object_of(OWNER, revision)) for revision in numbered))
    assert [revision.number for revision in read.revisions_of(Role.VERIFIER)] == [10, 2, 1]


def test_looking_up_what_is_not_there_gives_nothing() -> None:
    read = facts(*CHILDREN)
    assert read.revision(Role.VERIFIER, DRAFT.revision) is None
    assert read.workload(Role.DRAFT, VERIFIER.revision) is None
    assert read.service("other") is None
    assert make_workload(Role.VERIFIER, "x", wanted=0, ready=0).is_ready


def test_a_child_whose_labels_tell_of_another_role_or_revision_than_its_name_is_not_counted_as_that() -> None:
    """Somebody overwrote a label: what carries it is applied again, and is never deleted as another revision's."""
    for kind in ("Deployment", "ControllerRevision"):
        child = make_child(kind, "pair-verifier-0123abcd")
        owners = [{"kind": names.KIND, "name": "pair", "uid": "u1", "controller": True}]
        for role, revision in (("verifier", "0123abc0"), ("draft", "0123abcd")):
            labels = {names.LABEL_ROLE: role, names.LABEL_REVISION: revision}
            child["metadata"].update(ownerReferences=owners, labels=labels)
            facts = facts_of([child], owner_uid="u1")
            assert facts.workloads == facts.revisions == ()
