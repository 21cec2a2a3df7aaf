"""Scaling through whole passes: pages are read over HTTP, replicas follow, status and ConfigMap say so, seldom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from aiohttp import web

from tandem_contracts import metrics
from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.config import OperatorConfig
from tandem_operator.engine_readings import EngineReadings
from tandem_operator.facts import Manifest
from tandem_operator.reconcile import Reconciler
from tests.builders import KEY, NAME, NAMESPACE, make_raw_pod, make_role, make_spec
from tests.unit.operator.reconcile_world import BODY_PATH, NOW, World
from tests.unit.operator.reconcile_world import play as play_world

SCALED = make_spec(
    draft=None,
    speculation={"method": "Off"},
    autoscaling={
        "slo": {"timeToFirstToken": "2s"},
        "verifier": {"minReplicas": 2, "maxReplicas": 6},
        "requestsPerReplica": 10,
    },
)
MEMORY_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{names.scaling_name(NAME)}"


class Site:
    """The world of passes, with engines that answer on this machine, and a clock."""

    def __init__(self, world: World, port: int) -> None:
        self.world, self.port, self.now = world, port, NOW
        self.running, self.waiting, self.is_up, self.starts = 1.0, 0.0, True, True
        self.begin()

    async def restart(self) -> None:
        """Another operator process."""
        await self.world.reconciler.close()
        self.begin()

    def begin(self) -> None:
        """An operator process that knows nothing yet."""
        self.readings = EngineReadings(port=self.port, clock=lambda: self.now.timestamp())
        self.world.reconciler = Reconciler(
            self.world.reconciler._cluster,
            self.world.store,
            config=OperatorConfig(),
            clock=lambda: self.now,
            readings=self.readings,
        )

    async def page(self, _: web.Request) -> web.Response:
        lines = [f"{metrics.ENGINE_RUNNING} {self.running}", f"{metrics.ENGINE_WAITING} {self.waiting}", ""]
        return web.Response(text="\n".join(lines), status=200 if self.is_up else 503)

    async def live(self, seconds: float) -> None:
        """Passes every five seconds; pods become Ready at once."""
        for _ in range(round(seconds / 5)):
            self.now += timedelta(seconds=5)
            version = self.world.server.version
            self.kubelet()
            if self.world.server.version != version or not self.world.store.children(KEY):
                await self.world.reconciler.fill(NAMESPACE)
            outcome = await self.world.run()
            while outcome.again_after_seconds < 5:
                outcome = await self.world.run()
            assert outcome.again_after_seconds == 5
            await self.readings.settle(KEY)

    def kubelet(self) -> None:
        for path in self.world.paths("Deployment"):
            there = self.world.server.objects[path]
            wanted, revision = there["spec"]["replicas"], there["metadata"]["labels"][names.LABEL_REVISION]
            for i in range(10):
                at = f"/api/v1/namespaces/{NAMESPACE}/pods/{NAME}-{i}"
                if i < wanted and self.starts and at not in self.world.server.objects:
                    ready = {"type": "Ready", "status": "True", "lastTransitionTime": written(self.now)}
                    pod = make_raw_pod(
                        Role.VERIFIER, revision, name=f"{NAME}-{i}", podIP="127.0.0.1", conditions=[ready]
                    )
                    self.world.server.put(at, pod)
                elif i >= wanted and at in self.world.server.objects:
                    del self.world.server.objects[at]
            counters = {"observedGeneration": there["metadata"]["generation"], "replicas": wanted}
            status = {**counters, "readyReplicas": len(self.world.paths("Pod"))}
            if there.get("status") != status:
                self.world.server.put(path, {**there, "status": status})

    @property
    def replicas(self) -> int:
        (path,) = self.world.paths("Deployment")
        found: int = self.world.server.objects[path]["spec"]["replicas"]
        return found

    @property
    def told(self) -> Manifest:
        found: Manifest = self.world.server.objects[BODY_PATH]["status"]["scaling"]
        return found


def written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def play(script: Callable[[Site], Awaitable[None]], spec: Manifest = SCALED) -> None:
    async def with_pages(world: World) -> None:
        application = web.Application()
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        site: list[Site] = []

        async def page(request: web.Request) -> web.Response:
            return await site[0].page(request)

        application.router.add_get("/metrics", page)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.append(Site(world, runner.addresses[0][1]))
        world.user_writes(spec)
        try:
            await script(site[0])
        finally:
            await site[0].world.reconciler.close()
            await runner.cleanup()

    play_world(with_pages)


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


@pytest.mark.parametrize("has_time", [True, False])
def test_replicas_that_somebody_else_has_written_are_left_alone_for_ten_minutes(has_time: bool) -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        (path,) = site.world.paths("Deployment")
        there = site.world.server.objects[path]
        entry: Manifest = {"manager": "hpa", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        entry |= {"time": written(site.now)} if has_time else {}  # there is none by the scale subresource
        metadata = {**there["metadata"], "managedFields": [entry]}
        site.world.server.put(path, {**there, "metadata": metadata, "spec": {**there["spec"], "replicas": 5}})
        before = len(site.world.writes())
        await site.live(590)
        assert site.replicas == 5
        assert site.world.condition("ScalingActive")[:2] == ("False", "ScalingConflict")  # type: ignore[index]
        assert "written by hpa" in site.world.condition("ScalingActive")[2]  # type: ignore[index]
        assert len([each for each in site.world.writes()[before:] if each.endswith(path)]) <= 1
        await site.live(600)
        assert site.world.condition("ScalingActive")[0] == "True"  # type: ignore[index]

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
        del site.world.server.objects[MEMORY_PATH]
        await site.restart()
        await site.live(280)
        assert site.replicas == 6, "also where the memory is lost"

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


def test_constant_load_is_written_down_every_five_minutes_and_no_more() -> None:
    async def script(site: Site) -> None:
        await site.live(400)
        before = len(site.world.writes())
        await site.live(1200)
        written = site.world.writes()[before:]
        assert len([each for each in written if "/status" in each]) <= 4
        assert len([each for each in written if "configmaps" in each]) <= 4
        assert len(written) <= 8

    play(script)


def test_without_autoscaling_the_spec_says_how_many_and_nothing_is_remembered() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        assert MEMORY_PATH in site.world.server.objects
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
