"""Passes against a fake API server: what is written, what wakes the next pass, and what a user is told."""

from __future__ import annotations

import asyncio

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tandem_operator.outcome import Outcome
from tandem_operator.queue import Queue
from tandem_operator.reconcile import AGAIN_AFTER_WRITE_SECONDS
from tests.builders import KEY, NAMESPACE, make_body, make_raw_pod, make_role, make_spec
from tests.unit.operator.fake_api_server import Answer
from tests.unit.operator.reconcile_world import ALONE, BODY_PATH, World, play
from tests.unit.operator.virtual_time import now


def test_a_converged_deployment_causes_no_write_also_after_a_restart() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec())
        await world.converge()
        assert len(world.paths("Deployment")) == len(world.paths("Service")) == len(world.paths("ControllerRevision"))
        world.server.requests.clear()
        assert await world.run() == Outcome()
        assert world.server.requests == []
        again = World(world.server, world.reconciler._cluster)
        assert await again.converge() == 1
        assert again.writes() == []

    play(script)


def test_a_pass_that_wrote_asks_for_another_one_since_its_replies_may_hold_news() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        assert (await world.run()).again_after_seconds > 0
        assert not (await world.run()).again_after_seconds

    play(script)


def test_a_webhook_that_undoes_every_write_is_not_answered_without_end_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def rewrite(manifest: Manifest) -> Manifest:
        if manifest["kind"] == "Deployment":
            manifest["spec"]["replicas"] = 9
        return manifest

    async def script(world: World) -> None:
        world.server.admission = rewrite
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        queue = Queue(world.reconciler.run)
        working = asyncio.create_task(queue.run())
        queue.add(KEY)
        await asyncio.sleep(60)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        applies = [write for write in world.writes() if write.startswith("PATCH") and "/deployments/" in write]
        assert 2 <= len(applies) <= 20

    play(script)
    assert caplog.text.count("passes in a row had to write") == 1


def test_a_spec_that_changed_under_the_write_of_a_status_is_not_slept_through() -> None:
    """The reply to our own write brings the new spec into the store, so its watch event is no news any more."""

    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        (path,) = world.paths("Deployment")
        world.server.objects[path]["status"] = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1}
        world.write(path, world.server.objects[path])
        await world.reconciler.resync(NAMESPACE)
        world.user_writes({**ALONE, "verifier": make_role(replicas=3)}, generation=2)
        assert (await world.run()).again_after_seconds > 0, "only the status was written, of generation 1"
        await world.run()
        assert world.server.objects[path]["spec"]["replicas"] == 3

    play(script)


UNKNOWN_CLASS = make_role(classes=("no-such-class",), replicas=2)


def test_a_lost_deployment_comes_back_with_the_replicas_of_a_spec_that_is_refused_for_something_else() -> None:
    async def script(world: World) -> None:
        world.user_writes({**ALONE, "verifier": make_role(replicas=2)})
        await world.converge()
        (path,) = world.paths("Deployment")
        world.user_writes({**ALONE, "verifier": UNKNOWN_CLASS}, generation=2)
        await world.converge()
        del world.server.objects[path]
        await world.converge()
        assert world.server.objects[path]["spec"]["replicas"] == 2

    play(script)


def test_a_refused_class_of_the_draft_does_not_keep_the_verifiers_from_being_scaled() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec())
        await world.converge()
        draft = make_role("draft", ("no-such-class",))
        world.user_writes(make_spec(draft=draft, verifier=make_role(replicas=3)), generation=2)
        await world.converge()
        replicas = {path: world.server.objects[path]["spec"]["replicas"] for path in world.paths("Deployment")}
        assert sorted(replicas.values()) == [1, 3]

    play(script)


def test_a_deployment_that_is_gone_or_going_is_left_to_the_garbage_collector() -> None:
    async def script(world: World) -> None:
        assert await world.run() == Outcome()
        world.server.put(BODY_PATH, make_body(ALONE, deletionTimestamp="2030-01-01T00:00:00Z"))
        assert await world.converge() == 1
        assert world.writes() == []

    play(script)


def test_what_keeps_a_pod_from_coming_up_is_a_condition_within_ten_seconds_and_goes_by_itself() -> None:
    note = 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'

    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        (deployment,) = world.paths("Deployment")
        revision = world.server.objects[deployment]["metadata"]["labels"][names.LABEL_REVISION]
        pod = {**make_raw_pod(Role.VERIFIER, revision, phase="Pending"), "spec": {"nodeName": "gpu-1"}}
        path = KINDS["Pod"].path(NAMESPACE, "p")
        world.write(path, pod)
        told = {
            "type": "Warning",
            "reason": "FailedMount",
            "note": note,
            "deprecatedLastTimestamp": "2030-01-01T00:00:00Z",
        }
        event = {"metadata": {"name": "p.1", "namespace": NAMESPACE}, "regarding": {"kind": "Pod", "uid": "uid-of-p"}}
        world.write(KINDS["Event"].path(NAMESPACE, "p.1"), {**event, **told})
        await world.reconciler.resync(NAMESPACE)
        begun = now()
        while (world.condition("VerifierReady") or ("", ""))[1] != "PodsFailing":
            assert now() - begun < 10
            await asyncio.sleep((await world.run()).again_after_seconds)
        ready = world.condition("Ready")
        assert ready is not None
        assert ready[2].endswith(f": pod p: FailedMount: {note}")
        written = len(world.writes())
        for _ in range(5):
            await asyncio.sleep((await world.run()).again_after_seconds)
        assert len(world.writes()) == written, "the same cause is told once"
        world.write(path, {**pod, "status": {"phase": "Running"}})
        await world.reconciler.resync(NAMESPACE)
        await world.run()
        assert "FailedMount" not in (world.condition("VerifierReady") or ("", "", ""))[2]

    play(script)


def test_what_was_seen_of_the_pods_of_a_deployment_goes_with_it() -> None:
    def pods(*, is_ready: bool) -> list[Manifest]:
        """One that is held up, and one that starts."""
        ready = {"type": "Ready", "status": str(is_ready), "lastTransitionTime": "2030-01-01T00:00:09Z"}
        return [
            {**make_raw_pod(Role.VERIFIER, "7f3a90c1", phase="Pending"), "spec": {"nodeName": "gpu-1"}},
            make_raw_pod(
                Role.VERIFIER, "7f3a90c1", name="q", version=1 + is_ready, phase="Running", conditions=[ready]
            ),
        ]

    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        for is_ready in (False, True):
            for pod in pods(is_ready=is_ready):
                world.store.observe(pod)
            await world.run()
        assert world.server.objects[BODY_PATH]["status"]["coldStart"] == {"pod": "q", "total": "9.0s"}
        assert world.reconciler._mishaps.due_seconds(KEY) > 0
        world.server.objects.clear()
        await world.reconciler.resync(NAMESPACE)
        assert await world.run() == Outcome()
        assert not world.reconciler._mishaps.due_seconds(KEY)
        world.user_writes(ALONE, uid="u2")
        await world.converge()
        assert "coldStart" not in world.server.objects[BODY_PATH]["status"]

    play(script)


def test_a_resource_that_was_made_anew_gets_no_status_of_the_old_one() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE, uid="u1")
        await world.reconciler.fill(NAMESPACE)
        del world.server.objects[BODY_PATH]
        world.user_writes(ALONE, uid="u2")
        await world.run()
        assert world.server.objects[BODY_PATH]["status"] == {}

    play(script)


def test_no_pod_is_taken_away_because_of_a_spec_that_is_not_the_newest_any_more() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec(draft=None, speculation={"method": "Off"}, verifier=make_role(replicas=2)))
        await world.converge()
        (deployment,) = world.paths("Deployment")
        grown = make_spec(draft=None, speculation={"method": "Off"}, verifier=make_role(replicas=4))
        world.user_writes(grown, generation=2)
        there = world.server.objects[deployment]
        world.write(deployment, {**there, "spec": {**there["spec"], "replicas": 4}})
        world.store.observe(world.server.objects[deployment])  # its event came, that of the spec did not
        written = len(world.writes())
        while (await world.run()).again_after_seconds:
            pass
        scaled = [
            r.body["spec"]["replicas"] for r in world.server.requests if r.path == deployment and r.method == "PATCH"
        ]
        assert 2 not in scaled[1:]
        assert world.server.objects[deployment]["spec"]["replicas"] == 4
        assert len(world.writes()) > written, "the status speaks of the newest spec"

    play(script)


def test_a_flipped_condition_becomes_one_event_and_losing_it_loses_nothing_else() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec(verifier=make_role(replicas=-1)))
        world.server.answer_next("POST", Answer(500, "{}"))  # the event that says Stalled=True
        await world.converge()
        assert world.paths("Event") == []
        world.user_writes(ALONE, generation=2)
        await world.reconciler.resync(NAMESPACE)
        await world.converge()
        events = [world.server.objects[path] for path in world.paths("Event")]
        assert [(event["reason"], event["type"]) for event in events] == [("PodsNotReady", "Normal")]
        assert events[0]["regarding"]["uid"] == "u1"
        assert world.condition("Ready") is not None

    play(script)


def test_a_bad_spec_is_told_as_a_warning() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec(verifier=make_role(replicas=-1)))
        await world.converge()
        events = [world.server.objects[path] for path in world.paths("Event")]
        assert ("InvalidSpec", "Warning") in [(event["reason"], event["type"]) for event in events]
        assert all(len(event["note"].encode()) <= 1024 for event in events)

    play(script)


def test_the_wait_after_a_write_is_short_again_once_a_pass_had_nothing_to_write() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        world.user_writes({**ALONE, "verifier": make_role(replicas=3)}, generation=2)
        await world.reconciler.resync(NAMESPACE)
        assert (await world.run()).again_after_seconds == AGAIN_AFTER_WRITE_SECONDS

    play(script)


def test_the_wait_after_a_write_is_short_again_for_a_resource_that_was_made_anew() -> None:
    async def script(world: World) -> None:
        for uid in ("u1", "u2"):
            world.user_writes(ALONE, uid=uid)
            await world.reconciler.resync(NAMESPACE)
            assert (await world.run()).again_after_seconds == AGAIN_AFTER_WRITE_SECONDS
            world.server.objects.clear()
            await world.reconciler.resync(NAMESPACE)
            assert await world.run() == Outcome()

    play(script)
