"""`tandem pause` and `tandem resume`: one field is written, and what is said of it is what is so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem_operator import names
from tandem_operator.cli.main import main
from tandem_operator.cli.pausing import PAUSE, RESUME
from tandem_operator.facts import Manifest
from tests.builders import NAME, NAMESPACE, make_body, make_spec
from tests.unit.operator.user_cluster import UserCluster, user_cluster

AUTOSCALING = {"slo": {"timeToFirstToken": "2s"}, "verifier": {"maxReplicas": 4}}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[UserCluster]:
    with user_cluster(tmp_path) as made:
        yield made


def put(cluster: UserCluster, *, scaling: Manifest | None = None, **autoscaling: Any) -> None:
    body = make_body(make_spec(autoscaling={**AUTOSCALING, **autoscaling}))
    cluster.put(names.KIND, {**body, "status": {"scaling": scaling} if scaling else {}})


def autoscaling_of(cluster: UserCluster) -> Any:
    (body,) = cluster.objects.values()
    return body["spec"]["autoscaling"]


def test_pause_writes_one_field_and_says_what_it_keeps_and_what_goes_on(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cluster, scaling={"desiredVerifiers": 3, "desiredDrafts": 1})
    assert main(cluster.options("pause", NAME)) == 0
    assert autoscaling_of(cluster) == {**AUTOSCALING, "paused": True}
    said = capsys.readouterr().out
    assert said.startswith(f"{NAME}: paused: autoscaling keeps 3 verifiers and 1 draft\n")
    assert "not paused: rollouts of a changed spec" in said


def test_pausing_twice_writes_once_and_is_no_error(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    put(cluster, paused=True)
    assert main(cluster.options("pause", NAME)) == 0
    assert cluster.asked("PATCH") == []
    assert capsys.readouterr().out.startswith(f"{NAME}: is paused already: autoscaling keeps replicas as they are\n")


def test_pausing_at_zero_says_that_no_request_wakes_it(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cluster, scaling={"desiredVerifiers": 0})
    assert main(cluster.options("pause", NAME)) == 0
    said = capsys.readouterr().out
    assert "keeps 0 verifiers\n" in said
    assert "no request wakes it" in said


def test_resume_undoes_it_and_does_nothing_where_nothing_is_paused(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cluster, paused=True)
    assert main(cluster.options("resume", NAME)) == 0
    assert autoscaling_of(cluster)["paused"] is False
    assert main(cluster.options("resume", NAME)) == 0
    assert len(cluster.asked("PATCH")) == 1
    assert cluster.writers == {"kubectl-tandem"}, "the API server can say whose it is"
    assert capsys.readouterr().out.splitlines() == [
        f"{NAME}: resumed: autoscaling decides on replicas again",
        f"{NAME}: is not paused: autoscaling decides on replicas",
    ]


def test_resume_says_where_replicas_are_somebody_elses_for_a_while(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cluster, paused=True)
    (path, body), *_ = cluster.objects.items()
    conflict = {"type": "ScalingActive", "status": "False", "reason": "ScalingConflict", "message": "written by hpa"}
    cluster.objects[path] = {**body, "status": {"conditions": [conflict]}}
    for _ in range(2):
        assert main(cluster.options("resume", NAME)) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[1:] == [f"  not yet: somebody else has written them lately; `tandem why {NAME}` says who"]


def document(command: str, cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(cluster.options(command, NAME, "-o", "json")) == 0
    return json.loads(capsys.readouterr().out)


def test_for_programs_it_is_one_document_that_says_what_was_changed(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cluster, scaling={"desiredVerifiers": 3})
    place = {"name": NAME, "namespace": NAMESPACE}
    first, again = document("pause", cluster, capsys), document("pause", cluster, capsys)
    assert first.keys() == PAUSE.keys.keys() == RESUME.keys.keys()
    assert first["notes"][0] == "paused: autoscaling keeps 3 verifiers"
    assert {**first, "notes": []} == {**place, "changed": ["spec.autoscaling.paused"], "notes": []}
    assert {**again, "notes": []} == {**place, "changed": [], "notes": []}
    resumed = ["resumed: autoscaling decides on replicas again"]
    assert document("resume", cluster, capsys) == {**first, "notes": resumed}
    assert document("resume", cluster, capsys)["changed"] == []


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_without_autoscaling_there_is_nothing_to_pause(
    cluster: UserCluster, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.put(names.KIND, make_body())
    assert main(cluster.options(command, NAME)) == 1
    assert cluster.asked("PATCH") == []
    assert "has no spec.autoscaling, so nothing of it can be paused" in capsys.readouterr().err


def test_a_resource_that_is_not_there_is_exit_code_2(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(cluster.options("pause", NAME)) == 2
    assert "not found" in capsys.readouterr().err


def test_without_the_right_the_servers_own_words_are_told(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cluster)
    cluster.forbidden.add(f"llmdeployments/{NAME}")
    assert main(cluster.options("pause", NAME)) == 1
    assert "is forbidden" in capsys.readouterr().err
