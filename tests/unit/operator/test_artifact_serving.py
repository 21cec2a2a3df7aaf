"""A quantized deployment from nothing to Ready and on, by whole passes against a fake API server."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.api.artifact import SMOKES_KEPT
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tests.builders import NAMESPACE
from tests.unit.operator.artifact_passes import NOW, World, play
from tests.unit.operator.artifact_world import Nodes
from tests.unit.operator.artifacts import (
    FETCHED,
    GOOD,
    make_artifact_body,
    make_refusal,
    make_texts,
    need_of,
)

LATER = NOW + timedelta(days=400)


def spec_of(ttl: str | None = None, **quantization: Any) -> Manifest:
    spec: Manifest = make_artifact_body(ttl=ttl, quantization={"scheme": "W8A8", **quantization})["spec"]
    return spec


def key_of(**quantization: Any) -> str:
    return need_of(make_artifact_body(quantization={"scheme": "W8A8", **quantization})).key


def is_bad(key: str) -> Any:
    """Evaluations of this artifact find it wanting."""

    def found(artifact: Manifest) -> Any:
        return GOOD if artifact["metadata"]["name"] != key else replace(GOOD, top1_agreement=0.1)

    return found


def mounted(world: World) -> set[str]:
    """Folders of the models that pods are started with."""
    pods = [world.server.objects[path]["spec"]["template"]["spec"] for path in world.paths("Deployment")]
    return {name for pod in pods for name in (FETCHED.key, key_of(), key_of(scheme="W4A16")) if name in str(pod)}


def artifacts(world: World) -> set[str]:
    return {world.server.objects[path]["metadata"]["name"] for path in world.paths(names.ARTIFACT_KIND)}


def said(world: World, kind: str = "Ready", name: str = "pair") -> tuple[str, str]:
    told = world.of_deployment(kind, name)
    return told[:2] if told else ("", "")


def end_of(world: World) -> dict[str, Any]:
    """What there is, without what differs from one run to the next."""
    return {
        path: (
            each.get("spec"),
            [c["reason"] for c in (each.get("status") or {}).get("conditions", []) if "reason" in c],
        )
        for path, each in world.server.objects.items()
    }


def test_a_model_is_fetched_quantized_measured_and_then_served() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}))
        await world.settle()
        assert world.paths("Deployment") == []
        assert said(world)[0] == "False"
        await nodes.live(world)
        assert nodes.made == [f"{FETCHED.key}-fetch", f"{key_of()}-quantize", f"{key_of()}-evaluate"]
        assert nodes.begun[-1].startswith(f"{key_of()}-smoke-")
        assert len(nodes.begun) == len(nodes.made) + 1
        assert mounted(world) == {key_of()}
        assert said(world) == ("True", "RolledOut")
        assert said(world, "ArtifactsReady") == ("True", "GatePassed")
        world.server.requests.clear()
        await nodes.live(world)
        assert world.writes() == []

    play(script)


def test_engine_after_engine_is_asked_and_the_status_can_still_be_written() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        for length in range(SMOKES_KEPT + 2):
            spec = spec_of(gate={})
            spec["verifier"]["engine"] = {"maxModelLength": 512 + 64 * length}
            world.deploy(spec=spec)
            await nodes.live(world)
            assert said(world) == ("True", "RolledOut")
            world.now += timedelta(hours=1)
        asked = [name for name in nodes.begun if "-smoke-" in name]
        assert len(set(asked)) == SMOKES_KEPT + 2
        assert len(world.artifact(key_of())["status"]["smokes"]) == SMOKES_KEPT

    play(script)


def test_an_operator_that_is_started_anew_after_every_step_comes_to_the_same_end() -> None:
    ends = []

    async def script(world: World, *, restarts: bool) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}))
        for _ in range(20):
            await world.settle()
            nodes.step(world)
            world = World(world.server, world.reconciler._cluster) if restarts else world
        assert said(world) == ("True", "RolledOut")
        assert len(nodes.begun) == 4
        ends.append(end_of(world))

    async def once(world: World) -> None:
        await script(world, restarts=False)

    async def again(world: World) -> None:
        await script(world, restarts=True)

    play(once)
    play(again)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("is_carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(24))
def test_an_operator_that_dies_at_any_write_leaves_nothing_that_the_next_one_cannot_finish(
    number: int, is_carried_out: bool
) -> None:
    class DiedError(Exception):
        pass

    async def script(world: World) -> None:
        nodes, left = Nodes(), number
        world.deploy(spec=spec_of(gate={}, ttl="0s"))
        cluster = world.reconciler._cluster

        def dying(write: Any) -> Any:
            async def written(*args: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left >= 0 or is_carried_out:
                    found = await write(*args, **options)
                if left < 0:
                    raise DiedError
                return found

            return written

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cluster, "_apply", dying(cluster._apply))
            patched.setattr(cluster, "delete", dying(cluster.delete))
            with suppress(DiedError):
                await nodes.live(world)
        again = World(world.server, world.reconciler._cluster)
        await nodes.live(again)
        assert said(again) == ("True", "RolledOut")
        assert artifacts(again) == {key_of()}
        evictions = [name for name in nodes.begun if name.endswith("-evict")]
        assert len(nodes.begun) - len(evictions) == 4, "nothing is made twice"

    play(script)


def test_the_source_goes_once_the_quantized_model_is_made_and_does_not_come_back() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}, ttl="1h"))
        await nodes.live(world)
        world.now = NOW + timedelta(hours=2)
        await nodes.live(world)
        assert nodes.made[3:] == [f"{FETCHED.key}-evict"]
        assert artifacts(world) == {key_of()}
        world.now = LATER
        world.server.requests.clear()
        await nodes.live(world)
        assert artifacts(world) == {key_of()}
        assert said(world) == ("True", "RolledOut")
        assert len(nodes.begun) == 5

    play(script)


def test_a_source_that_is_kept_for_no_time_at_all_is_not_made_again_and_again() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}, ttl="0s"))
        await nodes.live(world)
        assert said(world) == ("True", "RolledOut")
        assert artifacts(world) == {key_of()}
        assert [name for name in nodes.made if not name.endswith("-evict")] == [
            f"{FETCHED.key}-fetch", f"{key_of()}-quantize", f"{key_of()}-evaluate",
        ]  # fmt: skip
        world.server.requests.clear()
        await nodes.live(world)
        assert world.writes() == []

    play(script)


def test_a_source_that_may_have_to_be_served_stays() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={"onFailure": "ServeUnquantized"}, ttl="1h"))
        await nodes.live(world)
        world.now = LATER
        await nodes.live(world)
        assert artifacts(world) == {FETCHED.key, key_of()}

    play(script)


def test_other_texts_fetch_the_source_again_and_measure_once_more_while_the_model_serves_on() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}, ttl="1h"))
        await nodes.live(world)
        world.now = NOW + timedelta(hours=2)
        await nodes.live(world)
        begun = len(nodes.made)
        (before,) = world.paths("Deployment")
        world.deploy(spec=spec_of(gate={"evaluation": make_texts("mine")}, ttl="1h"))
        await nodes.live(world)
        fetch, evaluate = nodes.made[begun:]
        assert fetch == f"{FETCHED.key}-fetch"
        assert evaluate.startswith(f"{key_of()}-evaluate-")
        assert world.paths("Deployment") == [before]
        assert said(world, "ArtifactsReady") == ("True", "GatePassed")

    play(script)


def test_a_recipe_that_fails_its_gate_leaves_the_old_revision_serving() -> None:
    async def script(world: World) -> None:
        bad = key_of(scheme="W4A16")
        nodes = Nodes(is_bad(bad))
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        before = world.paths("Deployment")
        world.deploy(spec=spec_of(scheme="W4A16", gate={}))
        await nodes.live(world)
        assert world.paths("Deployment") == before
        assert mounted(world) == {key_of()}
        assert said(world, "Available")[0] == "True"
        assert said(world) == ("False", "GateFailed")
        assert said(world, "Stalled") == ("True", "GateFailed")
        world.now = LATER
        begun = list(nodes.begun)
        await nodes.live(world)
        assert {key_of(), bad} <= artifacts(world), "the one serves, the other is asked for"
        assert nodes.begun[len(begun) :] in ([], [f"{FETCHED.key}-evict"])

    play(script)


def test_a_gate_that_lets_it_pass_after_all_rolls_it_out_without_a_job() -> None:
    async def script(world: World) -> None:
        nodes = Nodes(is_bad(key_of(scheme="W4A16")))
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        world.deploy(spec=spec_of(scheme="W4A16", gate={}))
        await nodes.live(world)
        begun = len(nodes.made)
        world.deploy(spec=spec_of(scheme="W4A16", gate={"minTop1Agreement": "0.1"}))
        await nodes.live(world)
        world.now += timedelta(hours=1)  # the old pods have drained
        await nodes.live(world)
        assert nodes.made[begun:] == []
        assert mounted(world) == {key_of(scheme="W4A16")}
        assert said(world) == ("True", "RolledOut")

    play(script)


def test_a_source_that_is_served_in_its_place_is_told_and_a_laxer_gate_rolls_to_the_quantized_one() -> None:
    async def script(world: World) -> None:
        nodes = Nodes(is_bad(key_of()))
        world.deploy(spec=spec_of(gate={"onFailure": "ServeUnquantized"}))
        await nodes.live(world)
        assert mounted(world) == {FETCHED.key}
        assert said(world) == ("True", "RolledOut")
        assert said(world, "ArtifactsReady") == ("True", "ServesUnquantized")
        begun = len(nodes.made)
        world.deploy(spec=spec_of(gate={"onFailure": "ServeUnquantized", "minTop1Agreement": "0.1"}))
        await nodes.live(world)
        world.now += timedelta(hours=1)  # the old pods have drained
        await nodes.live(world)
        assert nodes.made[begun:] == []
        assert mounted(world) == {key_of()}
        assert said(world, "ArtifactsReady") == ("True", "GatePassed")

    play(script)


def test_an_artifact_that_is_deleted_by_hand_while_it_serves_is_made_again_and_no_pod_restarts() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        before = {path: world.server.objects[path]["spec"] for path in world.paths("Deployment")}
        del world.server.objects[KINDS[names.ARTIFACT_KIND].path(NAMESPACE, key_of())]
        await nodes.live(world)
        assert {path: world.server.objects[path]["spec"] for path in world.paths("Deployment")} == before
        assert key_of() in artifacts(world)
        assert said(world, "ArtifactsReady") == ("True", "GatePassed")

    play(script)


def test_a_model_whose_files_a_job_does_not_find_any_more_is_made_again() -> None:
    async def script(world: World) -> None:
        nodes, good = Nodes(), Nodes().smoked
        missing = make_refusal(ExitCode.ARTIFACT_MISSING, Phase.SMOKE, Cause.ARTIFACT_MISSING)
        nodes.smoked = missing, int(ExitCode.ARTIFACT_MISSING)
        world.deploy(spec=spec_of(gate={}))
        while not any(f"-{Phase.SMOKE}-" in name for name in nodes.begun):
            await world.settle()
            nodes.step(world)
        nodes.smoked = good
        await nodes.live(world)
        steps = [name.removeprefix(f"{key_of()}-") for name in nodes.made if name.startswith(key_of())]
        assert steps == ["quantize", "evaluate"] * 2
        assert said(world) == ("True", "RolledOut")

    play(script)


def test_a_model_that_cannot_be_fetched_is_a_warning_of_the_deployment_too() -> None:
    async def script(world: World) -> None:
        world.deploy(spec=spec_of(gate={}))
        await world.settle()
        refusal = make_refusal(ExitCode.SOURCE_NOT_FOUND, Phase.FETCH, Cause.SOURCE_NOT_FOUND, "no such repository")
        world.job_says(message=refusal, exit_code=int(ExitCode.SOURCE_NOT_FOUND), path=world.paths("Job")[0])
        await world.settle()
        told = world.of_deployment("Stalled")
        assert told is not None
        assert told[:2] == ("True", "SourceNotFound")
        assert "no such repository" in told[2]

    play(script)
