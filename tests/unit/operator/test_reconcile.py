"""Passes against a fake API server: what is written, what wakes the next pass, and what a user is told of failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem_operator import names
from tandem_operator.cluster import KINDS, Cluster, ClusterError
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.handlers import Shell
from tandem_operator.queue import Queue
from tandem_operator.reconcile import Outcome, Reconciler
from tandem_operator.store import Key, Store
from tests.builders import KEY, NAME, NAMESPACE, make_body, make_child, make_role, make_spec
from tests.unit.operator.fake_api_server import HANG, Answer, FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import now, run

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BODY_PATH = KINDS[names.KIND].path(NAMESPACE, NAME)
ALONE = make_spec(draft=None, speculation={"method": "Off"})
WRITES = {"PATCH", "POST", "PUT", "DELETE"}


class World:
    """A server, and an operator's store and reconciler of it."""

    def __init__(self, server: FakeApiServer, cluster: Cluster) -> None:
        self.server = server
        self.store = Store()
        self.reconciler = Reconciler(cluster, self.store, config=OperatorConfig(), clock=lambda: NOW)

    def user_writes(self, spec: Manifest, *, generation: int = 1, uid: str = "u1") -> None:
        """Somebody applies the resource; nobody has heard of it yet."""
        there = self.server.objects.get(BODY_PATH, {})
        body = {**make_body(spec, generation=generation, uid=uid), "status": there.get("status", {})}
        self.server.put(BODY_PATH, body)

    def write(self, path: str, manifest: Manifest) -> None:
        self.server.put(path, manifest)

    async def run(self) -> Outcome:
        return await self.reconciler.run(KEY)

    async def converge(self) -> int:
        """Fill the store and run passes until one asks for no other; their number."""
        await self.reconciler.fill(NAMESPACE)
        for number in range(1, 20):
            if not (await self.run()).again_after_seconds:
                return number
        raise AssertionError(f"still not converged after 19 passes: {self.writes()[-5:]}")

    def writes(self) -> list[str]:
        return [f"{r.method} {r.path}" for r in self.server.requests if r.method in WRITES]

    def condition(self, kind: str) -> tuple[str, str, str] | None:
        found = [c for c in self.server.objects[BODY_PATH]["status"]["conditions"] if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None

    def paths(self, kind: str) -> list[str]:
        collection = KINDS[kind].path(NAMESPACE)
        return sorted(path for path in self.server.objects if path.startswith(f"{collection}/"))


def play(script: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            await script(World(server, cluster))

    run(main())


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


def test_a_webhook_that_undoes_every_write_is_not_answered_without_end() -> None:
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


def test_a_deletion_is_asked_for_once_however_late_its_event_comes() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        stray = make_child("Deployment", "stray", spec={"replicas": 1})
        owners = [{"kind": names.KIND, "name": NAME, "uid": "u1", "controller": True}]
        labels = {names.LABEL_ROLE: "verifier", names.LABEL_REVISION: "deadbeef"}
        stray["metadata"].update(ownerReferences=owners, labels={**stray["metadata"]["labels"], **labels})
        world.write(f"{KINDS['Deployment'].path(NAMESPACE)}/stray", stray)
        await world.reconciler.resync(NAMESPACE)
        world.server.requests.clear()
        for _ in range(4):
            await world.run()
        assert sum(write.startswith("DELETE") for write in world.writes()) <= 2

    play(script)


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


def test_pods_do_not_start_from_a_template_that_could_not_be_frozen() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        world.server.answer_next("PATCH", Answer(403, '{"message": "exceeded quota"}'))
        await world.run()
        assert "/controllerrevisions/" in world.writes()[0]
        assert world.paths("Deployment") == []
        await world.run()
        assert len(world.paths("ControllerRevision")) == len(world.paths("Deployment")) == 1

    play(script)


def test_a_deployment_that_is_gone_or_going_is_left_to_the_garbage_collector() -> None:
    async def script(world: World) -> None:
        assert await world.run() == Outcome()
        world.server.put(BODY_PATH, make_body(ALONE, deletionTimestamp="2030-01-01T00:00:00Z"))
        assert await world.converge() == 1
        assert world.writes() == []

    play(script)


@pytest.mark.parametrize("status", [400, 403, 422])
def test_what_the_api_server_refuses_is_told_in_its_words_and_tried_again_later(status: int) -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        world.server.answer_next("PATCH", Answer(status, '{"message": "exceeded quota: two pods"}'))
        await world.run()
        ready = world.condition("Ready")
        assert ready is not None
        assert ready[:2] == ("False", "APIRefused")
        assert "exceeded quota: two pods" in ready[2]
        assert world.paths("Service"), "one refused object keeps no other one back"

    play(script)


def test_an_api_server_that_fails_for_good_is_told_too_and_the_pass_is_repeated_with_backoff() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        world.server.answer_next("PATCH", Answer(500, '{"message": "failed calling webhook"}'))
        with pytest.raises(ClusterError, match="failed calling webhook"):
            await world.run()
        ready = world.condition("Ready")
        assert ready is not None
        assert "failed calling webhook" in ready[2]

    play(script)


def test_a_pass_ends_also_when_the_api_server_never_answers() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec())
        await world.reconciler.fill(NAMESPACE)
        for method in ("GET", "PATCH"):
            world.server.answer_always(method, Answer(HANG))
        begun = now()
        with pytest.raises(ClusterError):
            await world.run()
        assert now() - begun <= 8 * 8

    play(script)


def foreign(name: str, **metadata: Any) -> Manifest:
    manifest = make_child("Service", name)
    manifest["metadata"] = {"name": name, "namespace": NAMESPACE, **metadata}
    return manifest


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        ([], "exists and nothing controls it"),
        ([{"kind": "Other", "name": "o", "uid": "x", "controller": True}], "belongs to Other o"),
        ([{"kind": "LLMDeployment", "name": "pair", "uid": "old", "controller": True}], "an earlier LLMDeployment"),
    ],
)
def test_an_object_of_somebody_else_is_never_written_and_its_owner_is_named(owners: list[Manifest], said: str) -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        path = KINDS["Service"].path(NAMESPACE, NAME)
        world.write(path, foreign(NAME, ownerReferences=owners))
        await world.reconciler.fill(NAMESPACE)
        await world.run()
        assert f"PATCH {path}" not in world.writes()
        stalled = world.condition("Stalled")
        assert stalled is not None
        assert stalled[1] == "NameConflict"
        assert said in stalled[2]
        assert (await world.run()).again_after_seconds > 0
        del world.server.objects[path]
        for _ in range(3):
            await world.run()
        assert world.condition("Stalled") is None, "it is gone, and nobody had to say so"

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


def test_a_flipped_condition_becomes_one_event_and_losing_it_loses_nothing_else() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        world.server.answer_next("POST", Answer(500, "{}"))
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


def test_a_resync_fetches_what_was_missed_and_drops_what_is_gone() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        (path,) = world.paths("Deployment")
        del world.server.objects[path]
        world.server.version += 1
        world.user_writes({**ALONE, "verifier": make_role("other")}, generation=2)
        assert await world.reconciler.resync(NAMESPACE) == (KEY,)
        known = world.store.deployment(KEY)
        assert known is not None
        assert known["metadata"]["generation"] == 2
        assert [child["kind"] for child in world.store.children(KEY)] == ["ControllerRevision", "Service"]

    play(script)


# -- watch events ------------------------------------------------------------------------------------------------------


class Keys:
    """The queue's side of the shell: remembers what was added, runs nothing."""

    def __init__(self) -> None:
        self.added: list[Key] = []

    def add(self, key: Key) -> None:
        self.added.append(key)


def heard(*events: tuple[str, str, Manifest]) -> int:
    """How many passes a series of watch events asks for."""
    shell = Shell(namespace=NAMESPACE, identity="me", config=OperatorConfig())
    keys = Keys()
    shell.queue = keys  # type: ignore[assignment]
    for kind, what, manifest in events:
        shell.take_in(kind, {"type": what, "object": manifest})
    assert set(keys.added) <= {KEY}
    return len(keys.added)


def body(version: int, generation: int = 1, **parts: Any) -> Manifest:
    return {**make_body(generation=generation, resourceVersion=str(version)), **parts}


def test_a_new_or_changed_resource_is_news_and_its_status_is_not() -> None:
    first = (names.KIND, "ADDED", body(1))
    assert heard(first) == 1
    assert heard(first, (names.KIND, "MODIFIED", body(2, status={"a": 1}))) == 1
    assert heard(first, (names.KIND, "MODIFIED", body(2, generation=2))) == 2
    assert heard(first, (names.KIND, "DELETED", body(3))) == 2


def test_the_same_event_twice_and_an_older_one_are_no_news() -> None:
    second = (names.KIND, "MODIFIED", body(2, generation=2))
    assert heard(second, second, (names.KIND, "MODIFIED", body(1))) == 1


def test_every_change_of_a_child_is_news_for_its_deployment() -> None:
    child = make_child("Deployment", "x", version=1)
    newer = make_child("Deployment", "x", version=2, status={"readyReplicas": 1})
    assert heard(("Deployment", "ADDED", child), ("Deployment", "MODIFIED", newer)) == 2
    assert heard(("Deployment", "ADDED", child), ("Deployment", "DELETED", newer)) == 2


def test_an_object_that_names_no_deployment_wakes_nobody() -> None:
    assert heard(("Service", "ADDED", foreign("s", resourceVersion="1"))) == 0


def test_before_the_store_is_whole_events_only_fill_it() -> None:
    shell = Shell(namespace=NAMESPACE, identity="me", config=OperatorConfig())
    shell.take_in(names.KIND, {"type": "ADDED", "object": body(1)})
    assert shell.store.keys() == (KEY,)
