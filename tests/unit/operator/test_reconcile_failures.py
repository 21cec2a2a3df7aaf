"""What the API server refuses or fails at, and objects of others: who is told what, and when it is tried again."""

from __future__ import annotations

import pytest

from tandem_operator import names
from tandem_operator.cluster import KINDS, ClusterError
from tandem_operator.facts import Manifest
from tandem_operator.outcome import Outcome
from tandem_operator.reconcile import AGAIN_AFTER_REFUSAL_SECONDS
from tests.builders import NAME, NAMESPACE, make_spec
from tests.unit.operator.fake_api_server import HANG, Answer
from tests.unit.operator.reconcile_world import ALONE, World, foreign, play
from tests.unit.operator.virtual_time import now


def test_pods_do_not_start_from_a_template_that_could_not_be_frozen() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        world.server.answer_next("PATCH", Answer(403, '{"message": "exceeded quota"}'), about="/controllerrevisions/")
        await world.run()
        assert world.paths("Deployment") == []
        await world.run()
        assert len(world.paths("ControllerRevision")) == len(world.paths("Deployment")) == 1

    play(script)


@pytest.mark.parametrize("status", [400, 403, 422])
def test_what_the_api_server_refuses_is_told_in_its_words_and_tried_again_later(status: int) -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        for _ in range(2):
            world.server.answer_next("PATCH", Answer(status, '{"message": "exceeded quota: two pods"}'))
            again = await world.run()
        assert again == Outcome(AGAIN_AFTER_REFUSAL_SECONDS), "with nothing else to do"
        ready = world.condition("Ready")
        assert ready is not None
        assert ready[:2] == ("False", "APIRefused")
        assert "exceeded quota: two pods" in ready[2]
        assert world.paths("Service"), "one refused object keeps no other one back"

    play(script)


def test_an_api_server_that_fails_is_told_from_one_that_refuses() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        world.server.answer_next("PATCH", Answer(503, '{"message": "etcd is down"}'))
        with pytest.raises(ClusterError):
            await world.run()
        ready = world.condition("Ready")
        assert ready is not None
        assert ready[:2] == ("False", "APIUnavailable")
        assert "503: etcd is down" in ready[2]

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
        world.server.requests.clear()
        begun = now()
        with pytest.raises(ClusterError):
            await world.run()
        paths = [request.path for request in world.server.requests]
        assert {request.method for request in world.server.requests} == {"PATCH"}
        assert len(paths) == len(set(paths)), "nothing is asked for twice"
        assert not [path for path in paths if "/deployments/" in path], "no later stage"
        assert now() - begun <= 2 * 8 + 1

    play(script)


@pytest.mark.parametrize("seconds", [(5, 30), (30, 5)])
def test_of_several_failures_the_one_that_asks_for_the_longest_pause_ends_the_pass(seconds: tuple[int, int]) -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        for about, pause in zip(("/serviceaccounts/", "/networkpolicies/"), seconds, strict=True):
            world.server.answer_next("PATCH", Answer(429, "{}", {"Retry-After": str(pause)}), about=about)
        with pytest.raises(ClusterError) as caught:
            await world.run()
        assert caught.value.retry_after_seconds == 30

    play(script)


def test_nothing_selects_pods_before_their_deployment_was_answered_for() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        world.server.answer_next("PATCH", Answer(HANG), about="/deployments/")
        with pytest.raises(ClusterError):
            await world.run()
        assert not [write for write in world.writes() if "/services/" in write]
        await world.run()
        assert len(world.paths("Service")) == 1

    play(script)


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        ([], "exists and nothing controls it"),
        ([{"kind": "Other", "name": "o", "uid": "x", "controller": True}], "belongs to Other o"),
        (
            [{"kind": "LLMDeployment", "name": "other", "uid": "x", "controller": True}],
            "belongs to LLMDeployment other;",
        ),
    ],
)
def test_an_object_of_somebody_else_is_never_written_and_its_owner_is_named(owners: list[Manifest], said: str) -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        path = KINDS["Service"].path(NAMESPACE, NAME)
        world.write(path, foreign(NAME, ownerReferences=owners))
        theirs = world.server.objects[path]
        await world.reconciler.fill(NAMESPACE)
        await world.run()
        assert world.server.objects[path] is theirs
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


def test_what_is_left_of_a_resource_of_the_same_name_is_waited_for_and_stalls_nothing() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        path = KINDS["Service"].path(NAMESPACE, NAME)
        owners = [{"kind": names.KIND, "name": NAME, "uid": "of an earlier one", "controller": True}]
        world.write(path, foreign(NAME, ownerReferences=owners))
        theirs = world.server.objects[path]
        await world.reconciler.fill(NAMESPACE)
        assert (await world.run()).again_after_seconds > 0
        assert world.server.objects[path] is theirs
        assert world.condition("Stalled") is None
        reconciling = world.condition("Reconciling")
        assert reconciling is not None
        assert reconciling[1] == "PredecessorGoing"
        assert "an earlier LLMDeployment pair and is being collected" in reconciling[2]
        del world.server.objects[path]
        await world.run()
        assert world.server.objects[path]["metadata"]["uid"] != theirs["metadata"]["uid"]

    play(script)


def test_a_deployment_whose_revision_is_in_the_hands_of_another_is_not_made() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.converge()
        (path,) = world.paths("ControllerRevision")
        name = path.rpartition("/")[2]
        again = World(world.server, world.reconciler._cluster)
        for deployment in world.paths("Deployment"):
            del world.server.objects[deployment]
        manifest = {**foreign(name), "apiVersion": "apps/v1", "kind": "ControllerRevision"}
        world.server.objects[path] = {}
        world.write(path, manifest)
        await again.converge_to_refusal()
        assert world.paths("Deployment") == []
        assert world.condition("Stalled") == (
            "True",
            "NameConflict",
            f"ControllerRevision {name} exists and nothing controls it; it is left alone",
        )

    play(script)


def test_secrets_and_newlines_in_what_the_api_server_says_do_not_reach_the_status() -> None:
    async def script(world: World) -> None:
        world.user_writes(ALONE)
        await world.reconciler.fill(NAMESPACE)
        refusal = '{"message": "webhook said:\\n\\u001b[31mAuthorization: Bearer abcdefghijkl hf_AbCdEfGhIjKlMnOpQrSt"}'
        world.server.answer_next("PATCH", Answer(403, refusal))
        await world.run()
        ready = world.condition("Ready")
        assert ready is not None
        assert ready[1] == "APIRefused"
        assert "webhook said: Authorization: Bearer *** ***" in ready[2]
        assert "\n" not in ready[2]

    play(script)
