"""Passes over artifacts against a fake API server: who makes what, who is woken, what becomes of what is in the way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_operator import names
from tandem_operator.cluster import KINDS
from tandem_operator.mishaps import FIRST_LOOK_SECONDS
from tandem_operator.outcome import Outcome
from tandem_operator.store import Key
from tests.builders import NAMESPACE, make_body, make_child, make_role, make_spec, make_store
from tests.unit.operator.artifact_passes import (
    ALONE,
    ARTIFACT_PATH,
    DRAFT,
    JOB_PATH,
    NOW,
    VERIFIER,
    World,
    play,
)
from tests.unit.operator.fake_api_server import Answer
from tests.unit.operator.listening import Ears
from tests.unit.operator.test_artifact_plan import MODEL


def test_a_deployment_gets_an_artifact_and_a_job_for_each_of_its_models() -> None:
    async def script(world: World) -> None:
        world.deploy(spec=make_spec())
        await world.settle()
        made = {world.server.objects[path]["metadata"]["name"] for path in world.paths(names.ARTIFACT_KIND)}
        assert made == {VERIFIER.name, DRAFT.name}
        assert len(world.paths("Job")) == 2
        told = world.of_deployment("ArtifactsReady")
        assert told is not None
        assert told[:2] == ("False", "Inspecting")
        assert f"verifier: Job {VERIFIER.name}-inspect looks into claim models, folder verifier" in told[2]

    play(script)


def test_deployments_of_the_same_model_share_one_artifact_and_one_job() -> None:
    async def script(world: World) -> None:
        world.deploy("one")
        world.deploy("two", uid="u2")
        await world.settle()
        assert world.paths(names.ARTIFACT_KIND) == [ARTIFACT_PATH]
        assert world.paths("Job") == [JOB_PATH]
        assert "ownerReferences" not in world.server.objects[ARTIFACT_PATH]["metadata"]
        assert world.writes().count(f"PATCH {ARTIFACT_PATH}") == 1
        assert world.writes().count(f"PATCH {JOB_PATH}") == 1

    play(script)


def test_passes_beside_each_other_make_an_artifact_once() -> None:
    async def script(world: World) -> None:
        world.deploy("one")
        world.deploy("two", uid="u2")
        await world.reconciler.fill(NAMESPACE)
        outcomes = await asyncio.gather(*(world.reconciler.run(Key(NAMESPACE, name)) for name in ("one", "two")))
        assert [outcome.wake for outcome in outcomes].count((VERIFIER,)) == 1
        assert world.writes().count(f"PATCH {ARTIFACT_PATH}") == 1

    play(script)


def test_what_the_job_says_reaches_the_artifact_and_every_deployment_of_it() -> None:
    async def script(world: World) -> None:
        world.deploy("one")
        world.deploy("two", uid="u2")
        await world.settle()
        world.job_says(message=MODEL.encode())
        await world.settle()
        assert world.condition(ARTIFACT_PATH, "Ready") == (
            "True", "Inspected", "LlamaForCausalLM, 8.0B parameters, 16.1 GB, bfloat16"
        )  # fmt: skip
        status = world.server.objects[ARTIFACT_PATH]["status"]
        assert ModelFacts.from_data(status["model"]) == MODEL
        assert status["source"] == "claim models, folder verifier"
        for name in ("one", "two"):
            told = world.of_deployment("ArtifactsReady", name)
            assert told is not None
            assert told[:2] == ("True", "Inspected")

    play(script)


def test_a_settled_artifact_causes_no_write_also_after_a_restart() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        world.job_says(message=MODEL.encode())
        await world.settle()
        world.server.requests.clear()
        await world.settle()
        again = World(world.server, world.reconciler._cluster)
        await again.settle()
        assert world.writes() == []

    play(script)


def test_the_pass_that_learns_something_wakes_the_deployments_that_wait_for_it() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        world.job_says(message=MODEL.encode())
        await world.reconciler.fill(NAMESPACE)
        assert await world.reconciler.run(VERIFIER) == Outcome(wake=(Key(NAMESPACE, "pair"),))
        assert await world.reconciler.run(VERIFIER) == Outcome()

    play(script)


def test_a_deployment_is_ready_with_a_model_that_nobody_could_look_into() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        world.job_says(message="", exit_code=1)
        (path,) = world.paths("Deployment")
        there = world.server.objects[path]
        counters = {"observedGeneration": there["metadata"]["generation"], "replicas": 1, "readyReplicas": 1}
        world.server.put(path, {**there, "status": counters})
        await world.settle()
        told = world.of_deployment("ArtifactsReady")
        assert told is not None
        assert told[:2] == ("False", "InspectFailed")
        ready = world.of_deployment("Ready")
        assert ready is not None
        assert ready[0] == "True"
        assert world.of_deployment("Stalled") is None

    play(script)


def test_a_deployment_serves_although_its_artifact_cannot_be_made() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.reconciler.fill(NAMESPACE)
        await world.reconciler.run(Key(NAMESPACE, "pair"))
        assert len(world.paths("Deployment")) == 1
        del world.server.objects[ARTIFACT_PATH]
        again = World(world.server, world.reconciler._cluster)
        await again.reconciler.fill(NAMESPACE)
        world.server.answer_always("PATCH", Answer(403, '{"message": "forbidden"}'))
        assert (await again.reconciler.run(Key(NAMESPACE, "pair"))).wake == ()
        world.server.recover()
        assert (await again.reconciler.run(Key(NAMESPACE, "pair"))).wake == (VERIFIER,)

    play(script)


def test_an_artifact_that_is_deleted_is_asked_for_again_and_looks_again() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        world.job_says(message="", exit_code=1)
        await world.settle()
        gone = world.server.objects.pop(ARTIFACT_PATH)
        del world.server.objects[JOB_PATH]  # the garbage collector
        version = str(world.server.version + 1)
        world.store.forget({**gone, "metadata": {**gone["metadata"], "resourceVersion": version}})
        world.server.version += 1
        outcome = await world.reconciler.run(VERIFIER)
        assert outcome.wake == (Key(NAMESPACE, "pair"),)
        await world.settle()
        assert ARTIFACT_PATH in world.server.objects
        told = world.condition(ARTIFACT_PATH, "Ready")
        assert told is not None
        assert told[1] == "Inspecting"

    play(script)


def test_a_failed_inspection_is_tried_again_an_hour_later_and_no_sooner() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        world.job_says(message="", exit_code=1)
        await world.settle()
        world.server.requests.clear()
        world.now = NOW + timedelta(minutes=59)
        await world.settle()
        assert world.writes() == []
        world.now = NOW + timedelta(minutes=60)
        await world.settle()
        assert world.writes().count(f"DELETE {JOB_PATH}") == 1
        assert world.writes().count(f"PATCH {JOB_PATH}") == 1

    play(script)


def test_a_job_of_somebody_else_in_the_place_of_ours_is_left_alone() -> None:
    async def script(world: World) -> None:
        theirs = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": JOB_PATH.rpartition("/")[2],
                  "namespace": NAMESPACE, "uid": "theirs"}}  # fmt: skip
        there = world.server.put(JOB_PATH, theirs)
        world.deploy()
        await world.settle()
        assert world.server.objects[JOB_PATH] is there
        told = world.condition(ARTIFACT_PATH, "Ready")
        assert told is not None
        assert told[:2] == ("False", "APIRefused")
        assert "exists and does not belong to the artifact" in told[2]
        del world.server.objects[JOB_PATH]
        await world.settle()
        assert world.server.objects[JOB_PATH]["metadata"]["labels"][names.LABEL_ARTIFACT] == VERIFIER.name

    play(script)


def test_why_a_job_may_make_no_pod_reaches_the_artifact_and_the_deployment_until_it_may() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        job = world.server.objects[JOB_PATH]["metadata"]
        world.server.put(
            KINDS["Event"].path(NAMESPACE, "e"),
            {
                "metadata": {"name": "e", "namespace": NAMESPACE},
                "regarding": {"kind": "Job", "uid": job["uid"]},
                "type": "Warning",
                "reason": "FailedCreate",
                "note": f'Error creating: pods "{job["name"]}-k2x4q" is forbidden: exceeded quota: small',
                "deprecatedLastTimestamp": "2030-01-01T00:00:00Z",
            },
        )
        outcome = await world.reconciler.run(VERIFIER)
        assert 0 < outcome.again_after_seconds <= FIRST_LOOK_SECONDS
        await asyncio.sleep(outcome.again_after_seconds)
        await world.settle()
        quota = f'FailedCreate: Error creating: pods "{job["name"]}-*" is forbidden: exceeded quota: small'
        for told in (world.condition(ARTIFACT_PATH, "Ready"), world.of_deployment("ArtifactsReady")):
            assert told is not None
            assert told[:2] == ("False", "Inspecting")
            assert quota in told[2]
        world.server.put(JOB_PATH, {**world.server.objects[JOB_PATH], "status": {"active": 1}})
        await world.settle()
        told = world.condition(ARTIFACT_PATH, "Ready")
        assert told is not None
        assert "quota" not in told[2]
        assert (await world.reconciler.run(VERIFIER)).again_after_seconds == 0

    play(script)


def test_a_job_that_is_there_and_was_not_seen_yet_is_taken_for_ours() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        again = World(world.server, world.reconciler._cluster)
        there = world.server.objects[JOB_PATH]
        for path in (ARTIFACT_PATH, *world.paths(names.KIND)):
            again.store.observe(world.server.objects[path])
        await again.reconciler.run(VERIFIER)
        assert world.server.objects[JOB_PATH] is there
        assert again.store.children(VERIFIER)[0]["metadata"]["uid"] == there["metadata"]["uid"]

    play(script)


def test_an_artifact_that_nothing_refers_to_goes_after_its_time_by_the_object_that_was_seen() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        world.undeploy()
        await world.settle()
        assert world.server.objects[ARTIFACT_PATH]["status"]["unusedSince"] == "2030-01-01T00:00:00Z"
        world.now = NOW + timedelta(seconds=59)
        await world.settle()
        assert ARTIFACT_PATH in world.server.objects
        world.now = NOW + timedelta(seconds=60)
        await world.settle()
        assert ARTIFACT_PATH not in world.server.objects
        request = next(r for r in world.server.requests if r.method == "DELETE")
        assert set(request.body["preconditions"]) == {"uid", "resourceVersion"}

    play(script, artifactTtlSeconds=60)


@pytest.mark.parametrize("left", ["the spec", "the pods of the revision that serves"])
def test_an_artifact_stays_for_as_long_as_something_refers_to_it(left: str) -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        if left != "the spec":
            world.deploy(spec={**ALONE, "verifier": make_role("other", replicas=0)})  # the old pods still run
        else:
            for path in world.paths("ControllerRevision"):
                del world.server.objects[path]
        world.server.version += 1
        world.now = NOW + timedelta(days=400)
        await world.settle()
        assert ARTIFACT_PATH in world.server.objects

    play(script)


def test_a_source_that_somebody_wrote_wrongly_is_told_with_path_and_value() -> None:
    async def script(world: World) -> None:
        path = KINDS[names.ARTIFACT_KIND].path(NAMESPACE, "mine")
        source = {"persistentVolumeClaim": {"claimName": "models", "path": "../etc"}}
        metadata = {"name": "mine", "namespace": NAMESPACE, "uid": "a1"}
        world.server.put(path, {"metadata": metadata, "kind": names.ARTIFACT_KIND, "spec": {"source": source}})
        await world.settle()
        stalled = world.condition(path, "Stalled")
        assert stalled is not None
        assert stalled[2].startswith("spec.source.persistentVolumeClaim.path (is '../etc'): ")


def test_an_artifact_is_not_kept_by_an_old_revision_that_has_no_pods_any_more() -> None:
    async def script(world: World) -> None:
        world.deploy()
        await world.settle()
        (revision,) = world.paths("ControllerRevision")
        for path in world.paths("Deployment"):
            del world.server.objects[path]
        world.deploy(spec={**ALONE, "verifier": make_role("other")})
        await world.settle()
        world.now = NOW + timedelta(days=400)
        await world.settle()
        assert ARTIFACT_PATH not in world.server.objects
        assert revision in world.server.objects

    play(script)


# -- watch events ------------------------------------------------------------------------------------------------------


def test_news_of_an_artifact_its_job_and_its_pods_wake_its_pass_and_those_of_its_deployments() -> None:
    ears = Ears()

    def heard(kind: str, what: str, version: int, **parts: Any) -> list[Key]:
        ears.added.clear()
        name = VERIFIER.name if kind == names.ARTIFACT_KIND else f"{VERIFIER.name}-{kind.lower()}"
        labels = {names.LABEL_ARTIFACT: VERIFIER.name}
        metadata = {"name": name, "namespace": NAMESPACE, "uid": "x", "resourceVersion": str(version), "labels": labels}
        ears.hear(kind, what, {"metadata": metadata, **parts})
        return sorted(ears.added)

    deployment = Key(NAMESPACE, "pair")
    ears.hear(names.KIND, "ADDED", make_body(ALONE, resourceVersion="1"))
    assert heard(names.ARTIFACT_KIND, "ADDED", 2) == sorted([VERIFIER, deployment])
    assert heard("Job", "ADDED", 3) == [VERIFIER]
    assert heard("Pod", "ADDED", 4) == [VERIFIER]
    assert heard("Pod", "MODIFIED", 5, status={"phase": "Succeeded"}) == [VERIFIER]
    assert heard("Job", "MODIFIED", 3) == []
    assert heard(names.ARTIFACT_KIND, "MODIFIED", 6, status={"model": {}}) == sorted([VERIFIER, deployment])
    assert heard(names.ARTIFACT_KIND, "DELETED", 7) == sorted([VERIFIER, deployment])


def test_a_revision_that_holds_anything_else_than_a_request_names_no_artifact() -> None:
    store = make_store()
    for number, data in enumerate((None, [], "x", {"requested": 3}, {"requested": {"model": {"source": {"a": 1}}}})):
        store.observe(make_child("ControllerRevision", f"r{number}", version=number + 1, data=data))
    assert store.naming(VERIFIER) == ()
    requested = make_role("verifier")
    store.observe(make_child("ControllerRevision", "r", version=9, data={"requested": requested}))
    assert [manifest["metadata"]["name"] for manifest in store.naming(VERIFIER)] == ["r"]
    assert Role.VERIFIER.value == "verifier"
