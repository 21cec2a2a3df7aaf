"""What wakes a pass: watch events, and the resync for those that never came."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_operator import names
from tandem_operator.cluster import KINDS, WATCHED
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.handlers import Shell
from tests.builders import KEY, NAME, NAMESPACE, make_body, make_child, make_role
from tests.unit.operator.benchmarks import ended, make_job, make_job_pod
from tests.unit.operator.fake_api_server import Answer
from tests.unit.operator.listening import Ears
from tests.unit.operator.reconcile_world import ALONE, BODY_PATH, World, foreign, play


def test_a_resync_fetches_what_was_missed_and_drops_what_is_gone() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        (path,) = world.paths("Deployment")
        del world.server.objects[path]
        world.server.version += 1
        world.user_writes({**ALONE, "verifier": make_role("other")}, generation=2)
        assert KEY in await world.reconciler.resync(NAMESPACE)
        known = world.store.deployment(KEY)
        assert known is not None
        assert known["metadata"]["generation"] == 2
        kinds = {child["kind"] for child in world.store.children(KEY)}
        assert {"ControllerRevision", "Service"} <= kinds
        assert "Deployment" not in kinds

    play(script)


def heard(*events: tuple[str, str, Manifest]) -> int:
    """How many passes a series of watch events asks for."""
    ears = Ears()
    for event in events:
        ears.hear(*event)
    assert set(ears.added) <= {KEY}
    return len(ears.added)


def body(version: int, generation: int = 1, **parts: Any) -> Manifest:
    return {**make_body(generation=generation, resourceVersion=str(version)), **parts}


def test_a_new_or_changed_resource_is_news_and_its_status_is_not() -> None:
    first = (names.KIND, "ADDED", body(1))
    assert heard(first) == 1
    assert heard(first, (names.KIND, "MODIFIED", body(2, status={"a": 1}))) == 1
    assert heard(first, (names.KIND, "MODIFIED", body(2, generation=2))) == 2
    assert heard(first, (names.KIND, "DELETED", body(3))) == 2


def test_what_the_pod_of_a_benchmark_has_said_is_news_whichever_of_pod_and_job_is_heard_of_first() -> None:
    job, running, over = make_job(), make_job_pod(phase="Running"), make_job_pod(**ended())
    over["metadata"]["resourceVersion"] = "2"
    assert heard(("Pod", "ADDED", running), ("Job", "ADDED", job), ("Pod", "MODIFIED", over)) == 3

    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        uid = world.server.objects[BODY_PATH]["metadata"]["uid"]
        complete = [{"type": "Complete", "status": "True"}]
        for manifest in (make_job(owner_uid=uid, conditions=complete), over):
            world.write(KINDS[manifest["kind"]].path(NAMESPACE, manifest["metadata"]["name"]), manifest)
        await world.converge()
        told = world.server.objects[BODY_PATH]["status"]["benchmark"]
        assert (told["job"], told["timeToFirstToken"]["p95"]) == (job["metadata"]["name"], "200ms")
        for kind in ("Job", "Pod"):
            for path in [path for path in world.paths(kind) if "benchmark" in path]:
                del world.server.objects[path]
        world.server.version += 1
        await world.converge()
        assert world.server.objects[BODY_PATH]["status"]["benchmark"] == told, "its time to live is over"

    play(script)


def test_only_events_of_the_resource_itself_are_somebodys_wish() -> None:
    ears = Ears()
    ears.hear(names.KIND, "ADDED", body(1))
    assert ears.asked == [KEY]
    ears.hear("Service", "ADDED", make_child("Service", f"{NAME}-service", version=2))
    assert (ears.added, ears.asked) == ([KEY, KEY], [KEY])


def test_the_same_event_twice_and_an_older_one_are_no_news() -> None:
    second = (names.KIND, "MODIFIED", body(2, generation=2))
    assert heard(second, second, (names.KIND, "MODIFIED", body(1))) == 1


def test_every_change_of_a_child_is_news_for_its_deployment() -> None:
    child = make_child("Deployment", "x", version=1)
    newer = make_child("Deployment", "x", version=2, status={"readyReplicas": 1})
    assert heard(("Deployment", "ADDED", child), ("Deployment", "MODIFIED", newer)) == 2
    assert heard(("Deployment", "ADDED", child), ("Deployment", "DELETED", newer)) == 2


def test_what_a_budget_counts_is_no_news_and_what_somebody_writes_into_it_is() -> None:
    def budget(version: int, **parts: Any) -> tuple[str, str, Manifest]:
        made = make_child("PodDisruptionBudget", "b", version=version, **{"spec": {"maxUnavailable": 1}, **parts})
        return ("PodDisruptionBudget", "MODIFIED", made)

    assert heard(budget(1), budget(2, status={"disruptionsAllowed": 1}), budget(3, status={})) == 1
    assert heard(budget(1), budget(2, spec={"maxUnavailable": 2})) == 2
    assert heard(budget(1), ("PodDisruptionBudget", "DELETED", budget(2)[2])) == 2


def test_an_object_that_names_no_deployment_wakes_nobody() -> None:
    assert heard(("Service", "ADDED", foreign("s", resourceVersion="1"))) == 0


def test_before_the_store_is_whole_events_only_fill_it() -> None:
    shell = Shell(namespace=NAMESPACE, identity="me", config=OperatorConfig())
    shell.is_leading = True
    shell.take_in(names.KIND, {"type": "ADDED", "object": body(1)})
    assert shell.store.keys() == (KEY,)


def test_an_operator_that_waits_for_the_lease_keeps_nothing() -> None:
    shell = Shell(namespace=NAMESPACE, identity="me", config=OperatorConfig())
    shell.take_in(names.KIND, {"type": "ADDED", "object": body(1)})
    shell.take_in(names.KIND, {"type": "DELETED", "object": body(2)})
    assert not shell.store._objects
    assert not shell.store._tombstones


def test_a_resync_lists_only_metadata_and_gets_only_what_was_missed() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        world.user_writes({**ALONE, "verifier": make_role("other")}, generation=2)
        world.server.requests.clear()
        await world.reconciler.resync(NAMESPACE)
        listings = [request for request in world.server.requests if "limit" in request.query]
        assert len(listings) == len(WATCHED)
        assert all("as=PartialObjectMetadataList" in request.headers["accept"] for request in listings)
        assert [r.path for r in world.server.requests if r not in listings] == [BODY_PATH]

    play(script)


def test_what_is_deleted_between_a_listing_and_its_reading_ends_no_resync() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        world.server.answer_next("GET", Answer(404, "{}"), about=f"/{KINDS[names.KIND].plural}/{NAME}")
        assert await world.reconciler.resync(NAMESPACE) == ()
        assert await world.reconciler.resync(NAMESPACE) == (KEY,)

    play(script)


@pytest.mark.parametrize(
    "read",
    [
        {"labels": {"team": "a"}},
        {"uid": "of one that was made anew"},
        {"deletionTimestamp": "2030-01-01T00:00:00Z"},
        {"annotations": {names.ANNOTATION_REFRESH: "2030-01-01T00:00:00Z"}},
    ],
    ids=lambda read: next(iter(read)),
)
def test_of_a_resource_whatever_a_pass_reads_is_news(read: dict[str, Any]) -> None:
    unread = make_body(resourceVersion="2", managedFields=[{"manager": "m"}], annotations={"note": "x"})
    assert heard((names.KIND, "ADDED", body(1)), (names.KIND, "MODIFIED", unread)) == 1
    changed = make_body(resourceVersion="2", **read)
    assert heard((names.KIND, "ADDED", body(1)), (names.KIND, "MODIFIED", changed)) == 2
