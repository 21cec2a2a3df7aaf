"""Another operator than before: what is served stays as it is, with the artifacts that it was made from."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts import recipe
from tandem_operator import names
from tandem_operator.cluster import KINDS
from tests.builders import NAMESPACE
from tests.unit.operator.artifact_passes import World, play
from tests.unit.operator.artifact_world import Nodes
from tests.unit.operator.artifacts import (
    FETCHED,
    make_texts,
)
from tests.unit.operator.test_artifact_leaving import rolled_away_and_evicted
from tests.unit.operator.test_artifact_serving import LATER, artifacts, key_of, mounted, said, spec_of

NEWER = {"llmcompressor": "9.9", "compressed-tensors": "9.9"}


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What makes an operator of now one with another toolchain."""

    def upgrade(world: World, **settings: Any) -> World:
        monkeypatch.setattr("tandem_operator.artifact_needs.TOOLCHAIN", NEWER)
        config = world.config.model_validate(settings)
        return World(world.server, world.reconciler._cluster, config)

    assert recipe.TOOLCHAIN != NEWER
    return upgrade


NO_W8A8 = {"cpu": {"schemes": ["W4A16"]}}


@pytest.mark.parametrize("settings", [{}, {"accelerators": NO_W8A8}], ids=["toolchain", "table"])
@pytest.mark.parametrize("texts", [None, "mine"])
def test_a_frozen_revision_keeps_its_artifact_under_another_operator(
    upgraded: Any, settings: Any, texts: str | None
) -> None:
    async def script(world: World) -> None:
        nodes, key = Nodes(), key_of()
        gate = {"evaluation": make_texts(texts)} if texts else {}
        world.deploy(spec=spec_of(gate=gate, ttl="1h"))
        await nodes.live(world)
        begun, before = len(nodes.begun), world.paths("Deployment")
        world = upgraded(world, **settings)
        await nodes.live(world)
        world.now = LATER
        await nodes.live(world)
        assert nodes.made[begun:] in ([], [f"{FETCHED.key}-evict"]), "nothing is made again"
        assert key in artifacts(world)
        assert world.paths("Deployment") == before
        assert said(world) == ("True", "RolledOut")
        assert said(world, "ArtifactsReady") == ("True", "GatePassed")

    play(script)


def test_a_changed_gate_under_another_operator_quantizes_nothing(upgraded: Any) -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        begun = len(nodes.made)
        world = upgraded(world)
        world.deploy(spec=spec_of(gate={"minTop1Agreement": "0.5"}, job={"memory": "2Gi"}))
        await nodes.live(world)
        assert nodes.made[begun:] == []
        assert said(world) == ("True", "RolledOut")
        world.deploy(spec=spec_of(gate={"minTop1Agreement": "1"}))
        await nodes.live(world)
        assert said(world, "ArtifactsReady") == ("False", "GateFailed")
        assert len(world.paths("Deployment")) == 1

    play(script)


def test_files_whose_artifact_somebody_deleted_are_served_on_under_another_operator(upgraded: Any) -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        begun, before = len(nodes.begun), world.paths("Deployment")
        del world.server.objects[KINDS[names.ARTIFACT_KIND].path(NAMESPACE, key_of())]
        world = upgraded(world)
        await nodes.live(world)
        assert nodes.made[begun:] == []
        assert world.paths("Deployment") == before
        assert said(world) == ("True", "RolledOut")

    play(script)


def test_going_back_to_a_model_that_was_evicted_gets_todays(upgraded: Any) -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        await rolled_away_and_evicted(world, nodes)
        old = key_of()
        world = upgraded(world)
        world.deploy(spec=spec_of(gate={}, ttl="1h"))
        await nodes.live(world)
        assert old not in str([world.server.objects[path] for path in world.paths("Deployment")])
        world.now = LATER
        await nodes.live(world)
        assert mounted(world) == {key_of()}
        assert said(world) == ("True", "RolledOut")

    play(script)


def test_a_refresh_or_a_new_request_under_another_operator_gets_todays(upgraded: Any) -> None:
    async def script(world: World) -> None:
        nodes, old = Nodes(), key_of()
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        world = upgraded(world)
        await nodes.live(world)
        begun = len(nodes.made)
        path = KINDS[names.KIND].path(NAMESPACE, "pair")
        there = world.server.objects[path]
        annotations = {names.ANNOTATION_REFRESH: "2030-01-01T00:00:00Z"}
        world.server.put(path, {**there, "metadata": {**there["metadata"], "annotations": annotations}})
        await nodes.live(world)
        assert nodes.made[begun:] == [f"{key_of()}-quantize", f"{key_of()}-evaluate"]
        assert key_of() != old
        assert mounted(world) == {key_of()}
        assert said(world) == ("True", "RolledOut")

    play(script)
