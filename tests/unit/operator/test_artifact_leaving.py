"""Artifacts that nobody refers to any more, and those on a volume that is getting full: by whole passes."""

from __future__ import annotations

from datetime import timedelta

from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.cluster import KINDS
from tandem_operator.store import Key
from tests.builders import NAMESPACE
from tests.unit.operator.artifact_passes import World, play
from tests.unit.operator.artifact_world import Nodes
from tests.unit.operator.artifacts import (
    FETCHED,
    MADE,
    make_artifact_body,
    make_refusal,
    need_of,
)
from tests.unit.operator.test_artifact_serving import artifacts, key_of, mounted, said, spec_of


def test_an_artifact_is_kept_for_as_long_as_a_pod_of_an_old_revision_is_there() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}, ttl="0s"))
        await nodes.live(world)
        (path,) = world.paths("Deployment")
        template = world.server.objects[path]["spec"]["template"]
        metadata = {**template["metadata"], "name": "pair-verifier-x", "namespace": NAMESPACE}
        metadata["deletionTimestamp"] = "2030-01-01T00:00:00Z"
        pod = KINDS["Pod"].path(NAMESPACE, "pair-verifier-x")
        world.server.put(pod, {"kind": "Pod", "metadata": metadata, "status": {}})
        world.deploy(spec=spec_of(scheme="W4A16", gate={}, ttl="0s"))
        await nodes.live(world)
        world.now += timedelta(hours=1)
        await nodes.live(world)
        assert path not in world.paths("Deployment")
        assert key_of() in artifacts(world)
        del world.server.objects[pod]
        await nodes.live(world)
        assert key_of() not in artifacts(world)
        assert f"{key_of()}-evict" in nodes.begun

    play(script)


def test_nothing_is_fetched_for_a_model_that_nobody_asks_for_any_more() -> None:
    async def script(world: World) -> None:
        world.deploy(spec=spec_of(gate={}))
        await world.settle()
        for path in [*world.paths(names.KIND), *world.paths("Job"), *world.paths(names.ARTIFACT_KIND)]:
            if FETCHED.key in path or names.KIND in world.server.objects[path]["kind"]:
                del world.server.objects[path]
        world.server.version += 1
        nodes = Nodes()
        await nodes.live(world)
        assert artifacts(world) == {key_of()}
        assert nodes.begun == []

    play(script)


def test_an_artifact_that_somebody_makes_by_hand_at_the_same_time_stays_theirs() -> None:
    async def script(world: World) -> None:
        world.deploy(spec=spec_of())
        await world.reconciler.fill(NAMESPACE)
        path = KINDS[names.ARTIFACT_KIND].path(NAMESPACE, key_of())
        need = need_of(make_artifact_body(quantization={"scheme": "W8A8"}))
        metadata = {"name": need.key, "namespace": NAMESPACE}
        theirs = {"kind": names.ARTIFACT_KIND, "metadata": metadata, "spec": need.artifact.to_data()}
        world.server.put(path, theirs)
        await world.reconciler.run(Key(NAMESPACE, "pair"))
        assert "labels" not in world.server.objects[path]["metadata"]
        await Nodes().live(world)
        assert said(world) == ("True", "RolledOut")

    play(script)


async def rolled_away_and_evicted(world: World, nodes: Nodes) -> None:
    """W8A8 was served, W4A16 is served now, and the files of before are gone."""
    world.deploy(spec=spec_of(gate={}, ttl="1h"))
    await nodes.live(world)
    world.deploy(spec=spec_of(scheme="W4A16", gate={}, ttl="1h"))
    await nodes.live(world)
    for _ in range(3):
        world.now += timedelta(hours=2)
        await nodes.live(world)
    assert artifacts(world) == {key_of(scheme="W4A16")}
    assert mounted(world) == {key_of(scheme="W4A16")}


def test_a_spec_that_goes_back_to_a_model_that_was_evicted_waits_until_it_is_made_again() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        await rolled_away_and_evicted(world, nodes)
        world.deploy(spec=spec_of(gate={}, ttl="1h"))
        await world.settle()
        assert mounted(world) == {key_of(scheme="W4A16")}, "no pod is started for files that are not there"
        await nodes.live(world)
        world.now += timedelta(hours=1)
        await nodes.live(world)
        assert mounted(world) == {key_of()}
        assert said(world) == ("True", "RolledOut")

    play(script)


def test_what_nothing_refers_to_makes_room_before_its_time_on_a_volume_that_is_getting_full() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        nodes.space = MADE.bytes // 10, 4 * MADE.bytes  # as told when the next one is published
        world.deploy(spec=spec_of(scheme="W4A16", gate={}))
        await nodes.live(world)
        world.now += timedelta(hours=1)  # the old pods have drained; a week is the time that artifacts stay
        await nodes.live(world)
        assert said(world) == ("True", "RolledOut")
        assert artifacts(world) == {key_of(scheme="W4A16"), key_of()}, "the source has made room, and that was enough"
        begun = len(nodes.begun)
        world.now += timedelta(hours=1)
        await nodes.live(world)
        assert nodes.begun[begun:] == [], "room has been made"

    play(script)


def test_a_volume_that_is_full_loses_one_unused_model_at_a_time_and_the_job_tries_again_at_once() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        for scheme in ("W8A8", "W4A16"):
            world.deploy(spec=spec_of(scheme=scheme, gate={}))
            await nodes.live(world)
        unused = {FETCHED.key, key_of(), key_of(scheme="W4A16")}
        world.deploy(spec=make_artifact_body(source={"huggingFace": {"repo": "team/another"}})["spec"])
        another = need_of(make_artifact_body(source={"huggingFace": {"repo": "team/another"}})).key
        world.now += timedelta(hours=1)
        await world.settle()
        fetch = KINDS["Job"].path(NAMESPACE, f"{another}-fetch")
        refusal = make_refusal(ExitCode.VOLUME_FULL, Phase.FETCH, Cause.VOLUME_FULL)
        world.job_says(message=refusal, exit_code=int(ExitCode.VOLUME_FULL), path=fetch)
        await world.settle()
        assert world.condition(KINDS[names.ARTIFACT_KIND].path(NAMESPACE, another), "Stalled")
        begun = len(nodes.begun)
        world.now += timedelta(minutes=5)
        await nodes.live(world)
        evicted = [name for name in nodes.begun[begun:] if name.endswith("-evict")]
        assert len(evicted) == 1
        assert len(artifacts(world) & unused) == 2
        assert f"{another}-fetch" in nodes.begun[begun:]
        assert said(world) == ("True", "RolledOut")

    play(script)


def test_on_storage_that_others_share_nothing_makes_room() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        nodes.space = MADE.bytes // 10, 3 * MADE.bytes
        world.deploy(spec=spec_of(gate={}))
        await nodes.live(world)
        assert said(world) == ("True", "RolledOut")
        assert len(artifacts(world)) == 2, "the source stays for its week"
        assert not [name for name in nodes.begun if name.endswith("-evict")]

    play(script, shareArtifacts=True)
