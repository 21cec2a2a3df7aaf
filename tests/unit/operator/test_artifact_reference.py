"""From a record in the evaluation's last word to the smoke test that compares with it, by whole passes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tandem_contracts.artifact_job import Smoked
from tandem_contracts.reference import Reference, Window
from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tests.builders import NAMESPACE
from tests.unit.operator.artifact_passes import World, play
from tests.unit.operator.artifact_world import Nodes
from tests.unit.operator.artifacts import MADE, make_artifact_body, make_refusal, make_texts, need_of

REFERENCE = Reference(manifest=MADE.manifest, spread=0.02, windows=(Window((5, 6, 7), (1.5, 0.25)),))
OTHER = Reference(manifest=MADE.manifest, spread=0.03, windows=(Window((8, 9), (2.0,)),))
PASSED = Smoked(ready_seconds=20.0, tokens_per_second=50.0, kernel="Kernel", deviation=0.0123456)
WINDOWS = '"windows": [{"losses": "1.500 0.250", "tokens": "5 6 7"}]'
ARGUMENT = f'{{"manifest": "{MADE.manifest}", "spread": 0.02, {WINDOWS}}}'
KEY = need_of(make_artifact_body(quantization={"scheme": "W8A8"})).key


def deploy(world: World, name: str = "pair", *, classes: tuple[str, ...] = ("cpu",), **gate: Any) -> None:
    world.deploy(
        name, make_artifact_body(classes=classes, quantization={"scheme": "W8A8", "gate": gate})["spec"], uid=name
    )


def status(world: World) -> Manifest:
    found: Manifest = world.artifact(KEY)["status"]
    return found


def references(world: World) -> list[str]:
    """What the smoke tests' Jobs compare with."""
    jobs = [world.server.objects[path] for path in world.paths("Job")]
    arguments = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in jobs if is_smoke(job)]
    return [
        each.removeprefix("--reference=") for given in arguments for each in given if each.startswith("--reference")
    ]


def is_smoke(job: Manifest) -> bool:
    return bool(job["metadata"]["labels"][names.LABEL_COMPONENT] == Phase.SMOKE)


def spoil(world: World, **changes: Any) -> None:
    """Somebody, or another version, has written another status."""
    path = KINDS[names.ARTIFACT_KIND].path(NAMESPACE, KEY)
    there = world.server.objects[path]
    kept = {name: value for name, value in {**there["status"], **changes}.items() if value is not None}
    world.server.put(path, {**there, "status": kept})


def forget_jobs(world: World) -> None:
    """Jobs and their pods are gone, as after their time."""
    for kind in ("Job", "Pod"):
        for path in world.paths(kind):
            del world.server.objects[path]


def test_what_an_evaluation_records_is_what_the_smoke_test_compares_with() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        nodes.reference, nodes.smoked = REFERENCE, (PASSED.encode(), 0)
        deploy(world)
        await nodes.live(world)
        assert status(world)["reference"] == REFERENCE.to_data()
        assert references(world) == [ARGUMENT]
        (smoke,) = status(world)["smokes"]
        assert (smoke["deviation"], smoke["message"]) == (0.0123, "")
        assert world.of_deployment("Ready")[:2] == ("True", "RolledOut")  # type: ignore[index]
        world.server.requests.clear()
        await nodes.live(world)
        assert world.writes() == []

    play(script)


def test_the_record_outlives_jobs_and_operators_and_nothing_is_measured_again() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        nodes.reference = REFERENCE
        deploy(world)
        await nodes.live(world)
        forget_jobs(world)
        again = World(world.server, world.reconciler._cluster)
        before = list(nodes.begun)
        deploy(again, "other", classes=("nvidia-h100-80gb",))
        await nodes.live(again)
        assert [name.removeprefix(KEY)[:7] for name in nodes.begun[len(before) :]] == ["-smoke-"]
        assert references(again) == [ARGUMENT]

    play(script)


def test_an_engine_that_computes_something_else_is_refused_with_the_figures_and_nothing_serves() -> None:
    figures = "over 184 tokens its log probabilities are 3.679 nats from the recorded ones on average (allowed: 0.25)"

    async def script(world: World) -> None:
        nodes = Nodes()
        refusal = make_refusal(ExitCode.DIFFERS_FROM_REFERENCE, Phase.SMOKE, Cause.DIFFERS_FROM_REFERENCE, figures)
        nodes.reference, nodes.smoked = REFERENCE, (refusal, ExitCode.DIFFERS_FROM_REFERENCE)
        deploy(world)
        await nodes.live(world)
        assert world.paths("Deployment") == []
        told = world.of_deployment("Stalled")
        assert told is not None
        assert told[:2] == ("True", "SmokeFailed")
        assert figures in told[2]
        said = world.condition(KINDS[names.ARTIFACT_KIND].path(NAMESPACE, KEY), "Stalled")
        assert said is not None
        assert said[:2] == ("True", "DiffersFromReference")
        assert figures in said[2]
        assert "smokes" not in status(world) or status(world)["smokes"] == []
        world.now += timedelta(minutes=59)
        await nodes.live(world)
        assert len([name for name in nodes.begun if "-smoke-" in name]) == 1, "it is asked again an hour later"

    play(script)


def test_an_engine_that_does_not_say_serves_and_that_is_told() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        smoked = Smoked(ready_seconds=2.0, tokens_per_second=5.0, kernel="K", uncompared="engine.args say so")
        nodes.reference, nodes.smoked = REFERENCE, (smoked.encode(), 0)
        deploy(world)
        await nodes.live(world)
        (smoke,) = status(world)["smokes"]
        assert "deviation" not in smoke
        assert smoke["message"] == "not compared: engine.args say so"
        assert world.of_deployment("Ready")[:2] == ("True", "RolledOut")  # type: ignore[index]

    play(script)


@pytest.mark.parametrize(
    "left", [None, {"windows": []}, {"manifest": "m", "spread": 1.0, "windows": [{"tokens": "x"}]}]
)
def test_an_artifact_without_a_record_that_can_be_read_is_asked_as_before_and_not_measured_again(left: Any) -> None:
    """One that an earlier version has measured."""

    async def script(world: World) -> None:
        nodes = Nodes()
        deploy(world)
        await nodes.live(world)
        forget_jobs(world)
        spoil(world, reference=left, smokes=None)
        again, before = World(world.server, world.reconciler._cluster), len(nodes.begun)
        nodes.reference = REFERENCE
        deploy(again, "other", classes=("nvidia-h100-80gb",))
        await nodes.live(again)
        assert {name.removeprefix(KEY)[:7] for name in nodes.begun[before:]} == {"-smoke-"}
        assert references(again) == []
        assert again.of_deployment("Ready", "other")[:2] == ("True", "RolledOut")  # type: ignore[index]

    play(script)


def test_it_gets_its_record_when_other_texts_are_measured_and_keeps_the_first_one() -> None:
    async def script(world: World) -> None:
        nodes = Nodes()
        deploy(world)
        await nodes.live(world)
        assert "reference" not in status(world)
        for name, reference in (("second", REFERENCE), ("third", OTHER)):
            nodes.reference = reference
            deploy(world, name, evaluation=make_texts(name))
            await nodes.live(world)
            assert status(world)["reference"] == REFERENCE.to_data()

    play(script)
