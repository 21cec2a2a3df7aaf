"""What a rollout remembers lies on the objects: read back as written, and what somebody scribbled there is ignored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.facts_parsing import facts_of
from tandem_operator.objects.revision import revision_object_of
from tandem_operator.objects.service import serving_service_of
from tandem_operator.objects.workload import workload_of
from tests.builders import NAME, NAMESPACE, UID, make_revision

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
VERIFIER = make_revision()
SINCE = datetime(2030, 1, 1, 12, 30, 5, tzinfo=UTC)


def read(manifest: Manifest, **annotations: str) -> Any:
    """The facts of one object, as it comes back from the API server."""
    metadata = {**manifest["metadata"], "uid": "u", "resourceVersion": "5"}
    metadata["annotations"] = {**metadata["annotations"], **annotations}
    return facts_of([{**manifest, "metadata": metadata}], owner_uid=UID)


def test_what_became_of_a_revision_is_read_back() -> None:
    noted = replace(VERIFIER, failed="pod x: out of memory", refreshed="t1", wordings=({"a": 1}, {"b": 2}))
    (found,) = read(revision_object_of(OWNER, noted)).revisions
    assert replace(found, uid="") == noted


@pytest.mark.parametrize("written", ["", "{", "null", "3", '{"a": 1}', '["a", 3]'])
def test_wordings_that_are_none_are_ignored(written: str) -> None:
    (found,) = read(revision_object_of(OWNER, VERIFIER), **{names.ANNOTATION_WORDINGS: written}).revisions
    assert found.wordings == ()


def test_a_deployment_that_drains_says_since_when() -> None:
    draining = workload_of(OWNER, VERIFIER, replicas=1, progress_deadline_seconds=60, draining_since=SINCE)
    (found,) = read(draining).workloads
    assert found.draining_since == SINCE


@pytest.mark.parametrize("written", ["", "yesterday", "12", "2030-01-01T12:00:00"])
def test_a_drain_that_began_at_no_time_begins_anew(written: str) -> None:
    plain = workload_of(OWNER, VERIFIER, replicas=1, progress_deadline_seconds=60)
    (found,) = read(plain, **{names.ANNOTATION_DRAINING: written}).workloads
    assert found.draining_since is None


def test_a_rolling_service_selects_every_revision_and_knows_which_one_it_leaves() -> None:
    rolling = serving_service_of(OWNER, "abc", is_rolling=True)
    assert rolling["spec"]["selector"] == {names.LABEL_DEPLOYMENT: NAME, names.LABEL_ROLE: "verifier"}
    (found,) = read(rolling).services
    assert (found.is_rolling, found.selected_revision) == (True, "abc")
    (found,) = read(serving_service_of(OWNER, "abc")).services
    assert (found.is_rolling, found.selected_revision) == (False, "abc")


@pytest.mark.parametrize(("reason", "is_past"), [("ProgressDeadlineExceeded", True), ("NewReplicaSetAvailable", False)])
def test_a_deployment_says_when_its_deadline_is_over(reason: str, *, is_past: bool) -> None:
    late = {"type": "Progressing", "status": "False" if is_past else "True", "reason": reason, "message": "m"}
    manifest = workload_of(OWNER, VERIFIER, replicas=1, progress_deadline_seconds=60)
    (found,) = read({**manifest, "status": {"conditions": [late]}}).workloads
    assert found.is_past_deadline is is_past
