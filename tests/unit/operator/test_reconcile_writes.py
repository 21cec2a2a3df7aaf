"""What a write assumes of what is there, and what happens when that is not so any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tandem_contracts.launch import Role
from tandem_operator.cluster import KINDS, ConflictError
from tandem_operator.facts import Manifest
from tests.builders import NAME, NAMESPACE, make_role
from tests.unit.operator.fake_api_server import Answer
from tests.unit.operator.reconcile_world import ALONE, BODY_PATH, World, make_stray, play

STRAY_DEPLOYMENT = KINDS["Deployment"].path(NAMESPACE, f"{NAME}-verifier-deadbeef")


def all_ready(world: World) -> None:
    """The pods of every Deployment are Ready."""
    for path in world.paths("Deployment"):
        deployment = world.server.objects[path]
        generation, replicas = deployment["metadata"]["generation"], deployment["spec"]["replicas"]
        status = {"observedGeneration": generation, "replicas": replicas, "readyReplicas": replicas}
        world.write(path, {**deployment, "status": status})


def test_a_deletion_is_asked_for_once_however_late_its_event_comes() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        world.write(STRAY_DEPLOYMENT, make_stray("Deployment", Role.VERIFIER))
        await world.reconciler.resync(NAMESPACE)
        world.server.requests.clear()
        for _ in range(4):
            await world.run()
        assert [write for write in world.writes() if write.startswith("DELETE")] == [f"DELETE {STRAY_DEPLOYMENT}"]

    play(script)


@pytest.mark.parametrize("uid", ["", "u2"], ids=["deleted", "deleted and made again"])
def test_the_children_of_a_deployment_whose_own_end_is_not_heard_of_yet_are_not_made_again(uid: str) -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        del world.server.objects[BODY_PATH]
        if uid:
            world.user_writes(ALONE, uid=uid)
        for kind in ("Deployment", "Service"):
            for path in world.paths(kind):
                world.store.forget(world.server.objects.pop(path))
        world.server.requests.clear()
        await world.run()
        assert world.writes() == []
        await world.run()
        assert bool(world.writes()) is bool(uid)

    play(script)


async def while_a_pass_writes(world: World, news: Callable[[], None]) -> None:
    """A pass that repairs the ServiceAccount, which comes first, and what becomes known before the reply is here."""
    (account,) = world.paths("ServiceAccount")
    world.store.observe(
        world.server.put(account, {**world.server.objects[account], "automountServiceAccountToken": True})
    )
    world.server.answer_next("PATCH", Answer(200, after_seconds=2, carries_out=True), about="/serviceaccounts/")
    world.server.requests.clear()
    passing = asyncio.create_task(world.run())
    await asyncio.sleep(1)
    news()
    await passing
    assert world.writes()[0] == f"PATCH {account}"


def test_a_child_that_goes_while_a_pass_is_on_its_way_is_not_made_by_it() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()

        def deleted() -> None:
            del world.server.objects[BODY_PATH]  # its children go
            for kind in ("Deployment", "Service"):
                for path in world.paths(kind):
                    world.store.forget(world.server.objects.pop(path))

        await while_a_pass_writes(world, deleted)
        assert world.paths("Deployment") == []
        assert world.paths("Service") == []

    play(script)


def moved_service(world: World) -> tuple[str, Manifest]:
    """The Service's path, and the Service as if it selected another revision."""
    path = KINDS["Service"].path(NAMESPACE, NAME)
    service = world.server.objects[path]
    selector = {**service["spec"]["selector"], "tandem.dev/revision": "0badcafe"}
    return path, {**service, "spec": {**service["spec"], "selector": selector}}


def test_a_service_that_turns_out_to_have_moved_while_a_pass_is_on_its_way_is_not_moved_back() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        path, moved = moved_service(world)
        await while_a_pass_writes(world, lambda: world.store.observe(world.server.put(path, moved)))
        assert world.server.objects[path]["spec"]["selector"] == moved["spec"]["selector"]
        assert not any(write.endswith(path) for write in world.writes())

    play(script)


def test_an_object_of_ours_that_no_watch_told_of_is_planned_with_before_it_is_written() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        path, moved = moved_service(world)
        world.store.forget(world.server.objects[path])
        world.server.put(path, moved)
        with pytest.raises(ConflictError):
            await world.run()
        assert world.server.objects[path]["spec"]["selector"] == moved["spec"]["selector"]

    play(script)


def test_a_service_moves_only_as_it_was_seen_and_after_a_conflict_as_it_is() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        all_ready(world)
        world.user_writes({**ALONE, "verifier": make_role("other")}, generation=2)
        await world.reconciler.resync(NAMESPACE)
        await world.run()
        all_ready(world)
        await world.reconciler.resync(NAMESPACE)
        path = KINDS["Service"].path(NAMESPACE, NAME)
        seen = world.server.objects[path]
        world.write(path, seen)  # somebody changes it, and nobody has heard of it yet
        world.server.requests.clear()
        with pytest.raises(ConflictError):
            await world.run()
        (move,) = [request for request in world.server.requests if request.method == "PATCH" and request.path == path]
        assert move.body["spec"]["selector"] != seen["spec"]["selector"]
        assert move.body["metadata"]["resourceVersion"] == seen["metadata"]["resourceVersion"]
        assert world.server.objects[path]["spec"]["selector"] == seen["spec"]["selector"]
        await world.run()
        assert world.server.objects[path]["spec"]["selector"] == move.body["spec"]["selector"]

    play(script)


def test_a_service_does_not_move_because_of_a_spec_that_is_not_the_newest_any_more() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        all_ready(world)
        world.user_writes({**ALONE, "verifier": make_role("other")}, generation=2)
        await world.reconciler.resync(NAMESPACE)
        await world.run()
        all_ready(world)
        await world.reconciler.resync(NAMESPACE)
        world.user_writes(ALONE, generation=3)  # the user takes it back, and nobody has heard of it yet
        world.server.requests.clear()
        await world.run()
        assert world.writes() == []

    play(script)


def test_a_deletion_is_of_the_object_that_was_seen_and_after_a_conflict_of_what_it_is() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        path = STRAY_DEPLOYMENT
        world.write(path, make_stray("Deployment", Role.VERIFIER))
        await world.reconciler.resync(NAMESPACE)
        seen = world.server.objects[path]["metadata"]
        world.write(path, world.server.objects[path])  # somebody changes it, and nobody has heard of it yet
        world.server.requests.clear()
        with pytest.raises(ConflictError):
            await world.run()
        (deletion,) = [request for request in world.server.requests if request.method == "DELETE"]
        assert deletion.body["preconditions"] == {"uid": seen["uid"], "resourceVersion": seen["resourceVersion"]}
        assert path in world.server.objects
        await world.run()
        assert path not in world.server.objects

    play(script)


def test_what_is_going_already_is_not_deleted_in_each_pass() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        going = {"deletionTimestamp": "2030-01-01T00:00:00Z", "finalizers": ["somebody/else"]}
        path = KINDS["Service"].path(NAMESPACE, f"{NAME}-draft-deadbeef")
        world.write(path, make_stray("Service", Role.DRAFT, **going))
        await world.reconciler.resync(NAMESPACE)
        world.server.requests.clear()
        await world.run()
        assert world.writes() == []
        world.write(path, make_stray("Service", Role.DRAFT))
        await world.reconciler.resync(NAMESPACE)
        await world.run()
        assert world.writes() == [f"DELETE {path}"], "only that it was going kept it"

    play(script)
