"""Whatever users, Jobs and operators do: what anything refers to is neither deleted nor evicted, and all ends well.

A model of who refers to what stands beside the operator: it knows specs and pods, none of the operator's own rules.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from tandem_contracts.quality import Quality
from tandem_operator import names
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tests.builders import NAMESPACE
from tests.unit.operator.artifact_passes import World, play
from tests.unit.operator.artifact_world import Nodes
from tests.unit.operator.artifacts import GOOD, make_artifact_body, make_texts, need_of

STEPS = 24
FORMS: tuple[Manifest | None, ...] = (
    None,
    {"scheme": "W8A8"},
    {"scheme": "W8A8", "gate": {}},
    {"scheme": "W4A16", "gate": {"onFailure": "ServeUnquantized"}},
    {"scheme": "W4A16", "gate": {"evaluation": make_texts("mine")}},
)
TTLS = ("0s", "1h", None)


def referred(world: World) -> set[str]:
    """Names of the artifacts that a spec asks to serve, or that a pod could mount."""
    found = set()
    for path in world.paths(names.KIND):
        need = need_of(world.server.objects[path])
        found.add(need.key)
        if need.gate is not None and need.gate.on_failure == "ServeUnquantized":
            found.add(need.artifact.as_it_is.key)
    text = str([world.server.objects[path]["spec"] for path in world.paths("Deployment")])
    return found | {name for name in _names(world) if name in text}


def _names(world: World) -> set[str]:
    return {path.rpartition("/")[2] for path in world.paths(names.ARTIFACT_KIND)}


def evicting(world: World) -> set[str]:
    return {path.rpartition("/")[2].removesuffix("-evict") for path in world.paths("Job") if path.endswith("-evict")}


async def settle_and_check(world: World) -> None:
    """Passes, and whether what they did away with was nobody's, before and after them."""
    before, going, seen = referred(world), evicting(world), len(world.server.requests)
    await world.settle()
    needed = before & referred(world)
    for request in world.server.requests[seen:]:
        name = request.path.rpartition("/")[2]
        if request.method == "DELETE" and f"/{KINDS[names.ARTIFACT_KIND].plural}/" in request.path:
            assert name not in needed - going, f"{name} is needed and was deleted"
        if request.method == "PATCH" and name.endswith("-evict"):
            assert name.removesuffix("-evict") not in needed, f"{name} was begun, and it is needed"


@pytest.mark.parametrize("seed", range(20))
def test_what_anything_refers_to_is_never_deleted_nor_evicted_and_all_is_ready_in_the_end(seed: int) -> None:
    chance = random.Random(seed)

    def quality(artifact: Manifest) -> Quality:
        return GOOD if artifact["spec"]["quantization"]["scheme"] == "W8A8" else replace(GOOD, top1_agreement=0.1)

    def act(world: World, number: int) -> World:
        name = chance.choice(("one", "two", "three"))
        match chance.choice(("deploy", "deploy", "remove", "wait", "restart", "lose pods", "lose a status", "delete")):
            case "deploy":
                body = make_artifact_body(name, quantization=chance.choice(FORMS), ttl=chance.choice(TTLS))
                world.deploy(name, body["spec"], uid=f"u-{name}-{number}")
            case "remove":
                world.server.objects.pop(KINDS[names.KIND].path(NAMESPACE, name), None)
            case "wait":
                world.now += timedelta(hours=chance.choice((1, 1, 200)))
            case "restart":
                now, world = world.now, World(world.server, world.reconciler._cluster, world.config)
                world.now = now
            case "lose pods":
                for path in world.paths("Pod"):
                    del world.server.objects[path]
            case what:
                for path in world.paths(names.ARTIFACT_KIND)[: chance.choice((0, 1))]:
                    if what == "delete":
                        del world.server.objects[path]
                    else:
                        world.server.put(path, {**world.server.objects[path], "status": {}})
        world.server.version += 1
        return world

    async def script(world: World) -> None:
        nodes = Nodes(quality)
        for number in range(STEPS):
            world = act(world, number)
            await settle_and_check(world)
            if chance.random() < 0.7:
                nodes.step(world)
                await settle_and_check(world)
        world.now += timedelta(hours=1)
        await nodes.live(world)
        world.now += timedelta(hours=1)
        await nodes.live(world)
        for path in world.paths(names.KIND):
            body = world.server.objects[path]
            gate = (body["spec"]["verifier"]["model"].get("quantization") or {}).get("gate") or {}
            fails = "evaluation" in gate
            assert world.condition(path, "ArtifactsReady")[0] == ("False" if fails else "True")  # type: ignore[index]
        world.now += timedelta(days=400)
        await nodes.live(world)
        left = {name for name in _names(world) if name not in referred(world)}
        assert left == set(), "what nobody refers to goes"

    play(script)
