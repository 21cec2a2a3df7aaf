"""Scaling through whole passes: pages are read over HTTP, replicas follow, status and ConfigMap say so, seldom."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from tandem_operator.engine_readings import EngineReadings
from tandem_operator.facts import Manifest
from tests.builders import KEY, NAME, NAMESPACE, make_role, make_spec, make_store
from tests.unit.operator.fake_api_server import Answer
from tests.unit.operator.reconcile_world import BODY_PATH
from tests.unit.operator.scaling_site import MEMORY_PATH, SCALED, Site, play


def exported() -> set[float]:
    """What metrics say of the replicas that scaling wants of the deployment."""
    wanted = next(each for each in REGISTRY.collect() if each.name == "tandem_scaling_desired_replicas")
    whose = {"namespace": NAMESPACE, "deployment": NAME}
    return {each.value for each in wanted.samples if whose.items() <= each.labels.items()}


def test_replicas_follow_the_load_between_their_bounds_and_status_says_why() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        assert site.replicas == 2, "the least, although the spec begins with one"
        assert site.told["desiredVerifiers"] == 2
        assert site.world.condition("ScalingActive") == ("True", "Deciding", site.told["reason"])
        site.running = 14.0
        await site.live(60)
        assert site.replicas == 6, "as each engine says the same"
        assert site.world.condition("ScalingLimited")[:2] == ("True", "AtMaximum")  # type: ignore[index]
        site.running = 1.0
        await site.live(600)
        assert site.replicas == 2

    play(script)


def test_every_change_of_replicas_is_one_event() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        site.running = 14.0
        await site.live(120)
        events = [site.world.server.objects[path] for path in site.world.paths("Event")]
        notes = [each["note"] for each in events if each["reason"] == "Rescaled"]
        remembered = json.loads(site.world.server.objects[MEMORY_PATH]["data"]["verifier"])["decisions"]
        told = [f"verifiers {each['from']} → {each['to']}: {each['reason']}" for each in remembered]
        assert sorted(notes) == sorted(told)
        assert len(notes) > 1

    play(script)


def test_what_the_pods_cost_is_written_with_the_other_figures() -> None:
    async def script(site: Site) -> None:
        await site.live(90)
        assert site.told["cost"] == {"perHour": "13.76"}, "two pods of one H100; without requests no token has a price"
        before = len(site.world.writes())
        await site.live(200)
        assert not [each for each in site.world.writes()[before:] if "/status" in each]
        site.running = 14.0
        await site.live(90)
        assert site.told["cost"] == {"perHour": "41.28"}

    play(script, {**SCALED, "verifier": make_role("verifier", ("nvidia-h100-80gb",))})


@pytest.mark.parametrize("is_allowed", [True, False])
def test_the_pods_with_the_least_to_do_go_first_and_a_missing_right_keeps_none_there(
    is_allowed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        assert site.replicas == 6
        site.running, site.more = 1.0, {"127.0.0.6": 3.0, "127.0.0.4": 2.0}
        for _ in range(0 if is_allowed else 50):
            site.world.server.answer_next("PATCH", Answer(403, '{"message": "pods is forbidden"}'), about="/pods/")
        await site.live(600)
        assert site.replicas == 2
        left = [path.rpartition("-")[2] for path in site.world.paths("Pod")]
        marks = [each for each in site.world.writes() if "/pods/" in each]
        if is_allowed:
            assert left == ["3", "5"]
            assert len(marks) == 4, "each pod that goes is marked, once"
        told = [each for each in caplog.messages if "pods cannot be marked" in each]
        assert len(told) == (0 if is_allowed else 1)

    play(script)


def test_a_pod_that_has_fallen_silent_is_not_the_first_to_go_for_what_it_said_last() -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        assert site.replicas == 6
        site.running, site.more = 2.0, {"127.0.0.4": -1.0}
        await site.live(30)
        site.silent = {"127.0.0.4"}
        await site.live(60)
        fewer = {**SCALED["autoscaling"], "verifier": {"minReplicas": 2, "maxReplicas": 3}}
        site.world.user_writes({**SCALED, "autoscaling": fewer}, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(30)
        left = [path.rpartition("-")[2] for path in site.world.paths("Pod")]
        assert len(left) == 3
        assert "3" in left, "nobody knows how much it has to do now"

    play(script)


def test_a_number_that_somebody_has_scaled_to_is_said_to_have_no_effect() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        there = site.world.server.objects[BODY_PATH]
        fields = {"f:spec": {"f:verifier": {"f:replicas": {}}}}
        scale = {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": fields}
        spec = {**there["spec"], "verifier": {**there["spec"]["verifier"], "replicas": 5}}
        metadata = {**there["metadata"], "generation": 2, "managedFields": [scale]}
        site.world.server.put(BODY_PATH, {**there, "metadata": metadata, "spec": spec})
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(10)
        assert site.replicas == 2
        status, reason, message = site.world.condition("ScalingActive") or ("", "", "")
        assert (status, reason) == ("True", "Deciding")
        assert (
            "kubectl has set spec.verifier.replicas to 5, which counts only once spec.autoscaling is taken out"
            in message
        )

    play(script)


def test_a_deployment_stays_ready_while_more_of_the_same_pods_are_starting() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        site.running, site.starts = 14.0, False
        await site.live(60)
        assert site.replicas == 3
        assert site.world.condition("VerifierReady")[:2] == ("True", "ScalingUp")  # type: ignore[index]
        assert "2 of 3 verifier pods" in site.world.condition("VerifierReady")[2]  # type: ignore[index]
        assert site.world.condition("Ready")[0] == "True"  # type: ignore[index]

    play(script)


def test_engines_that_cannot_be_read_change_nothing_and_one_condition_says_it() -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        site.running, site.is_up = 0.0, False
        await site.live(900)
        assert site.replicas == 6
        status, reason, message = site.world.condition("ScalingActive") or ("", "", "")
        assert (status, reason) == ("False", "MetricsMissing")
        assert "6 of 6 Ready pods say nothing new of their load" in message

    play(script)


def test_a_restart_goes_on_from_what_was_remembered_and_takes_nothing_away() -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        remembered = json.loads(site.world.server.objects[MEMORY_PATH]["data"]["verifier"])
        assert remembered["replicas"] == 6
        assert [decision["to"] for decision in remembered["decisions"]][-1] == 6
        site.running = 0.0
        await site.restart()
        await site.live(280)
        assert site.replicas == 6

    play(script)


def test_a_restart_takes_nothing_away_where_the_memory_is_lost() -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        site.running = 0.0
        await site.world.reconciler.close()
        del site.world.server.objects[MEMORY_PATH]
        site.world.store = make_store()
        site.begin()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(5)
        remembered = json.loads(site.world.server.objects[MEMORY_PATH]["data"]["verifier"])
        assert remembered["decisions"] == [], "it is lost"
        await site.live(275)
        assert site.replicas == 6
        await site.live(600)
        assert site.replicas == 2, "they go after the hold"

    play(script)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"memory": [], "decisions": 3, "replicas": "x"}', '{"memory": {}}'])
def test_a_memory_that_somebody_has_spoilt_is_learned_anew(text: str) -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        there = site.world.server.objects[MEMORY_PATH]
        site.world.server.put(MEMORY_PATH, {**there, "data": {"verifier": text}})
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(30)
        assert site.replicas == 6

    play(script)


def test_without_autoscaling_the_spec_says_how_many_and_nothing_is_remembered() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        assert MEMORY_PATH in site.world.server.objects
        assert exported() == {2.0}
        plain = make_spec(draft=None, speculation={"method": "Off"}, verifier=make_role("verifier", replicas=3))
        site.world.user_writes(plain, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        for _ in range(5):
            await site.world.run()
            site.kubelet()
            await site.world.reconciler.fill(NAMESPACE)
        assert site.replicas == 3
        assert MEMORY_PATH not in site.world.server.objects
        assert "scaling" not in site.world.server.objects[BODY_PATH]["status"]
        assert site.world.condition("ScalingActive") is None
        assert exported() == set()

    play(script)


@pytest.mark.parametrize(
    "refused",
    [
        {"verifier": make_role("verifier", ("no-such-class",))},
        {"autoscaling": {**SCALED["autoscaling"], "verifier": {"minReplicas": 9, "maxReplicas": 6}}},
    ],
)
def test_a_spec_that_is_refused_takes_nothing_away_and_forgets_nothing_after_a_restart(refused: Manifest) -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        site.world.user_writes({**SCALED, **refused}, generation=2)
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        for _ in range(5):
            await site.world.run()
        assert site.world.condition("Accepted")[0] == "False"  # type: ignore[index]
        assert site.replicas == 6
        assert json.loads(site.world.server.objects[MEMORY_PATH]["data"]["verifier"])["replicas"] == 6

    play(script)


def test_paused_leaves_replicas_as_they_are() -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        assert site.replicas == 3
        assert site.world.condition("ScalingActive")[:2] == ("False", "Paused")  # type: ignore[index]

    paused = {**SCALED["autoscaling"], "paused": True}
    play(script, {**SCALED, "verifier": make_role("verifier", replicas=3), "autoscaling": paused})


def test_readings_of_pods_that_have_gone_are_not_read_on() -> None:
    async def main() -> None:
        readings = EngineReadings(port=1, clock=lambda: 0.0)
        assert readings.latest(KEY, {"a": "127.0.0.1"}) == {}
        readings.latest(KEY, {})
        assert readings._pods[KEY] == {}
        readings.forget(KEY)
        assert KEY not in readings._pods
        await readings.close()

    asyncio.run(main())


def test_a_memory_that_could_not_be_written_takes_nothing_away_after_a_restart() -> None:
    async def script(site: Site) -> None:
        site.running = 14.0
        await site.live(60)
        there = site.world.server.objects[MEMORY_PATH]
        remembered = {**json.loads(there["data"]["verifier"]), "replicas": 2}
        site.world.server.put(MEMORY_PATH, {**there, "data": {"verifier": json.dumps(remembered)}})
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        before = len(site.world.writes())
        await site.live(5)
        assert site.replicas == 6
        assert not [each for each in site.world.writes()[before:] if "/deployments/" in each], "nor for a moment"

    play(script)


def test_what_an_earlier_resource_of_the_name_remembers_is_not_ours() -> None:
    async def script(site: Site) -> None:
        await site.live(60)
        there = site.world.server.objects[MEMORY_PATH]
        owner = there["metadata"]["ownerReferences"][0]
        earlier = {**there, "metadata": {**there["metadata"], "ownerReferences": [{**owner, "uid": "u0"}]}}
        remembered = {**json.loads(there["data"]["verifier"]), "replicas": 6}
        site.world.server.put(MEMORY_PATH, {**earlier, "data": {"verifier": json.dumps(remembered)}})
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        site.now += timedelta(seconds=5)
        await site.world.run()
        assert site.replicas == 2

    play(script)


def test_another_operator_process_says_nothing_new_before_it_has_read_an_engine() -> None:
    async def script(site: Site) -> None:
        await site.live(60)
        before = len(site.world.writes())
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(30)
        assert site.world.writes()[before:] == []
        assert site.world.condition("ScalingActive")[:2] == ("True", "Deciding")  # type: ignore[index]

    play(script)
