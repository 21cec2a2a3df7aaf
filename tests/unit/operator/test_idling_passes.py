"""To zero and back through whole passes: at no time does the Service select nobody who takes requests."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tandem_operator import names
from tandem_operator.facts import Manifest
from tandem_operator.objects.gate import LEAVING_SECONDS
from tests.builders import KEY, NAME, NAMESPACE, make_role, make_spec
from tests.unit.operator.reconcile_world import BODY_PATH
from tests.unit.operator.scaling_site import MEMORY_PATH, Site, play, written

AFTER_SECONDS = 60


def asleep(**idle: object) -> Manifest:
    return make_spec(
        draft=None,
        speculation={"method": "Off"},
        autoscaling={
            "slo": {"timeToFirstToken": "2s"},
            "verifier": {"minReplicas": 1, "maxReplicas": 6},
            "requestsPerReplica": 10,
            **({"idle": {"after": f"{AFTER_SECONDS}s", **idle}} if idle is not None else {}),
        },
    )


IDLE = asleep()
NEVER = {**IDLE, "autoscaling": {key: each for key, each in IDLE["autoscaling"].items() if key != "idle"}}


class Watched(Site):
    """One in which, from the first Ready verifier on, somebody takes requests after every pass."""

    has_begun = False

    def seen(self) -> None:
        self.has_begun |= bool(self.verifiers)
        if self.is_at_gate:
            assert self.gate_pod in self.world.server.objects, "the Service selects a gate that is not there"
        elif self.has_begun:
            assert self.verifiers, "the Service selects verifiers, and there is none"

    async def rest(self) -> None:
        """Until the last verifier has gone."""
        self.running = 0.0
        await self.live(AFTER_SECONDS + 60)
        assert (self.replicas, self.is_at_gate) == (0, True)


def test_without_a_request_the_verifiers_go_and_the_gate_takes_over() -> None:
    async def script(site: Site) -> None:
        await site.live(AFTER_SECONDS)
        assert (site.replicas, site.gate_parts) == (1, []), "a request is in work all the time"
        assert isinstance(site, Watched)
        begun = len(site.world.server.requests)
        await site.rest()
        told = [each.body for each in site.world.server.requests[begun:] if each.path == f"{BODY_PATH}/status"]
        found = [c["status"] for body in told for c in body["status"].get("conditions") or [] if c["type"] == "Ready"]
        assert set(found) == {"True"}, "pods that are to go make nothing less Ready"
        reasons = {c["reason"] for body in told for c in body["status"].get("conditions") or []}
        assert "Waking" not in reasons, "the gate is there on the way to zero, too"
        assert site.world.condition("Available") == (
            "True",
            "Idle",
            "at zero: the wake gate holds requests until a verifier pod is Ready",
        )
        assert site.world.condition("Ready")[0] == "True"  # type: ignore[index]
        assert site.world.condition("VerifierReady")[1] == "ScaledToZero"  # type: ignore[index]
        assert site.told["desiredVerifiers"] == 0
        assert site.told["reason"].startswith(("to zero: no request for", "at zero"))
        kinds = sorted(site.world.server.objects[path]["kind"] for path in site.gate_parts)
        assert kinds == ["Deployment", "NetworkPolicy", "Service"]

    play(script, IDLE, make=Watched)


def test_a_held_request_brings_the_verifiers_back_and_the_gate_goes_once_it_has_answered() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.starts, site.held = False, 3
        await site.live(30)
        assert (site.replicas, site.is_at_gate) == (1, True), "it holds them until a verifier is Ready"
        assert site.world.condition("VerifierReady")[:2] == ("True", "Waking")  # type: ignore[index]
        assert "gate holds 3 requests" in json.dumps(site.world.server.objects[MEMORY_PATH]["data"])
        site.starts, site.held, site.answering, site.running = True, 0, 3, 3.0
        await site.live(30)
        assert not site.is_at_gate
        assert site.gate_parts, "what it was given is answered first"
        site.answering = 0
        await site.live(20)
        assert (site.gate_parts, site.replicas) == ([], 1)
        assert site.world.condition("Available")[1] == "Serving"  # type: ignore[index]

    play(script, IDLE, make=Watched)


def test_a_gate_that_always_has_a_request_goes_when_the_drain_is_over() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.held = 1
        await site.live(20)
        assert not site.is_at_gate
        site.held, site.answering = 0, 1
        await site.live(60)
        assert site.gate_parts
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(60)
        assert site.gate_parts == []

    play(script, {**IDLE, "rollout": {"drainTimeout": "2m"}}, make=Watched)


def test_requests_go_to_the_gate_where_somebody_has_taken_the_verifiers_away() -> None:
    async def script(site: Site) -> None:
        await site.live(10)
        (path,) = site.verifier_deployments
        site.somebody_scales(path, 0)
        await site.live(20)
        assert (site.replicas, site.is_at_gate) == (0, True)

    play(script, IDLE)


def test_many_held_requests_bring_as_many_verifiers_as_hold_them() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.starts, site.held = False, 3
        await site.live(10)
        assert site.replicas == 1
        site.held = 34
        await site.live(10)
        assert site.replicas == 4
        site.held = 1000
        await site.live(10)
        assert site.replicas == 6, "maxReplicas"
        site.held = 0
        await site.live(60)
        assert site.replicas == 6, "who went away says nothing of those who come"

    play(script, IDLE, make=Watched)


def test_a_request_that_comes_while_the_verifiers_drain_keeps_them() -> None:
    async def script(site: Site) -> None:
        await site.live(10)
        site.running, site.gate_starts = 0.0, False
        await site.live(AFTER_SECONDS + 10)
        assert site.told["desiredVerifiers"] == 0
        assert (site.replicas, site.is_at_gate) == (1, False), "the gate is not there yet"
        site.running, site.gate_starts = 1.0, True
        await site.live(20)
        assert (site.replicas, site.is_at_gate, site.gate_parts) == (1, False, [])

    play(script, IDLE, make=Watched)


def test_a_gate_that_does_not_start_takes_no_verifier_away() -> None:
    async def script(site: Site) -> None:
        await site.live(10)
        site.running, site.gate_starts = 0.0, False
        await site.live(AFTER_SECONDS + 30)
        assert site.told["desiredVerifiers"] == 0
        await site.live(600)
        assert (site.replicas, site.is_at_gate) == (1, False)
        assert site.world.condition("Ready")[0] == "True"  # type: ignore[index]
        remembered = json.loads(site.world.server.objects[MEMORY_PATH]["data"]["verifier"])
        assert len(remembered["decisions"]) <= 2 * (600 + AFTER_SECONDS) // AFTER_SECONDS

    play(script, IDLE, make=Watched)


def test_missing_metrics_are_not_taken_for_silence() -> None:
    async def script(site: Site) -> None:
        await site.live(10)
        site.running, site.is_up = 0.0, False
        await site.live(600)
        assert (site.replicas, site.gate_parts) == (1, [])
        assert site.world.condition("ScalingActive")[1] == "MetricsMissing"  # type: ignore[index]

    play(script, IDLE, make=Watched)


def test_a_gate_that_falls_silent_at_zero_brings_the_verifiers_back() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.is_gate_up = False
        await site.live(55)
        assert site.replicas == 0
        await site.live(20)
        assert site.replicas == 1
        assert "nothing was heard of the gate" in json.dumps(site.world.server.objects[MEMORY_PATH]["data"])

    play(script, IDLE, make=Watched)


def test_a_request_that_an_evicted_gate_still_takes_brings_the_verifiers_back() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        pod = site.world.server.objects[site.gate_pod]
        going = {**pod["metadata"], "deletionTimestamp": written(site.now)}
        site.world.server.put(site.gate_pod, {**pod, "metadata": going})
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(20)
        site.held, site.starts = 1, False
        await site.live(10)
        assert (site.replicas, site.is_at_gate) == (1, True)

    play(script, IDLE, make=Watched)


def test_another_operator_process_goes_on_at_zero_and_on_the_way() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(50)
        assert (site.replicas, site.is_at_gate) == (0, True)
        await site.live(3600)
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(50)
        assert site.replicas == 0, "it has not listened to the gate for a minute itself"
        site.held, site.starts = 1, False
        await site.live(10)
        assert site.replicas == 1
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        site.starts = True
        await site.live(10)
        assert (site.replicas, site.is_at_gate) == (1, False)

    play(script, IDLE, make=Watched)


@pytest.mark.parametrize("is_held", [True, False])
def test_a_spec_without_idle_brings_the_verifiers_back(is_held: bool) -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.held = int(is_held)
        site.world.user_writes(NEVER, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(5)
        assert site.replicas == 1
        site.held = 0
        await site.live(30)
        assert (site.replicas, site.is_at_gate, site.gate_parts) == (1, False, [])

    play(script, IDLE, make=Watched)


def test_paused_at_zero_stays_there() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.world.user_writes({**IDLE, "autoscaling": {**IDLE["autoscaling"], "paused": True}}, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        site.held = 3
        await site.live(60)
        assert (site.replicas, site.is_at_gate) == (0, True)
        assert "(`tandem resume`)" in site.world.condition("Available")[2]  # type: ignore[index]

    play(script, IDLE, make=Watched)


def test_another_model_at_zero_starts_when_it_is_asked_for() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        before = site.world.server.objects[BODY_PATH]["status"]["verifier"]["revision"]
        changed = {**IDLE, "verifier": {**IDLE["verifier"], "engine": {"maxModelLength": 512}}}
        site.world.user_writes(changed, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(20)
        assert (site.replicas, site.is_at_gate) == (0, True)
        site.held = 1
        await site.live(20)
        assert site.world.server.objects[BODY_PATH]["status"]["verifier"]["revision"] != before
        assert (site.replicas, site.is_at_gate) == (1, False)

    play(script, IDLE, make=Watched)


def test_the_gate_takes_the_limits_of_the_spec_and_the_key_that_clients_show() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{names.gate_name(NAME)}"
        pod = site.world.server.objects[path]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert "--most-held=7" in container["args"]
        assert "--hold-seconds=90" in container["args"]
        assert container["env"][0]["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "chat"}}
        assert "--service=pair" in container["args"], "while there is that one, somebody may wake the model"
        assert f"--leaving-seconds={LEAVING_SECONDS}" in container["args"]
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"] + LEAVING_SECONDS + 90
        assert pod["terminationGracePeriodSeconds"] > before, "what is held may be held for as long as any other"

    spec = asleep(maxHeldRequests=7, holdTimeout="90s")
    play(script, {**spec, "access": {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}}, make=Watched)


def test_without_autoscaling_any_more_and_no_replicas_no_gate_holds_what_nobody_would_wake() -> None:
    async def script(site: Site) -> None:
        assert isinstance(site, Watched)
        await site.live(10)
        await site.rest()
        site.has_begun = False
        plain = make_spec(draft=None, speculation={"method": "Off"}, verifier=make_role("verifier", replicas=0))
        site.world.user_writes(plain, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        for _ in range(6):
            site.kubelet()
            await site.world.run()
            await site.gates.settle(KEY)
            site.now += timedelta(seconds=5)
        assert (site.is_at_gate, site.gate_parts) == (False, [])
        assert site.world.condition("Available")[:2] == ("False", "ScaledToZero")  # type: ignore[index]

    play(script, IDLE, make=Watched)
