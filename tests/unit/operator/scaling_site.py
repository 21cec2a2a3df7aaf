"""The world of passes for scaling: engines and wake gates that answer on this machine, a kubelet, and a clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from aiohttp import web

from tandem_contracts import metrics
from tandem_contracts.launch import Role
from tandem_operator import names, scaling_figures
from tandem_operator.config import OperatorConfig
from tandem_operator.engine_readings import DraftingReadings, EngineReadings
from tandem_operator.facts import Manifest
from tandem_operator.facts_parsing import pod_of
from tandem_operator.gate_readings import GateReadings
from tandem_operator.metrics_source import EngineLoads
from tandem_operator.reconcile import Reconciler
from tests.builders import KEY, NAME, NAMESPACE, make_raw_pod, make_spec
from tests.unit.operator.reconcile_world import BODY_PATH, NOW, World
from tests.unit.operator.reconcile_world import play as play_world
from tests.unit.operator.replica_set import deleted

SCALED = make_spec(
    draft=None,
    speculation={"method": "Off"},
    autoscaling={
        "slo": {"timeToFirstToken": "2s"},
        "verifier": {"minReplicas": 2, "maxReplicas": 6},
        "requestsPerReplica": 10,
    },
)
POD_PATH = f"/api/v1/namespaces/{NAMESPACE}/pods/{{}}"
MEMORY_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{names.scaling_name(NAME)}"


class Site:
    """The world of passes, with engines that answer on this machine, and a clock."""

    def __init__(self, world: World, port: int, gate_port: int) -> None:
        self.world, self.port, self.gate_port, self.now = world, port, gate_port, NOW
        self.running, self.waiting, self.is_up, self.starts = 1.0, 0.0, True, True
        self.more: dict[str, float] = {}
        """Requests that pods have beside the others, by address."""
        self.silent: set[str] = set()
        """Addresses of pods that do not answer."""
        self.held, self.answering, self.is_gate_up, self.gate_starts = 0, 0, True, True
        self.begin()

    async def restart(self) -> None:
        """Another operator process."""
        await self.world.reconciler.close()
        self.begin()

    def begin(self) -> None:
        """An operator process that knows nothing yet, and has exported nothing."""
        scaling_figures.forget(KEY)
        scaling_figures.forget_drafts(KEY)
        self.readings = EngineReadings(port=self.port, clock=lambda: self.now.timestamp())
        self.drafting = DraftingReadings(port=self.port, clock=lambda: self.now.timestamp())
        self.gates = GateReadings(port=self.gate_port, clock=lambda: self.now.timestamp())
        self.world.reconciler = Reconciler(
            self.world.reconciler._cluster,
            self.world.store,
            config=OperatorConfig(),
            clock=lambda: self.now,
            readings=self.readings,
            drafting=self.drafting,
            gates=self.gates,
            loads=EngineLoads(port=self.port, clock=lambda: self.now.timestamp()),
        )

    async def page(self, request: web.Request) -> web.Response:
        address = request.host.partition(":")[0]
        running = self.running + self.more.get(address, 0.0)
        lines = [f"{metrics.ENGINE_RUNNING} {running}", f"{metrics.ENGINE_WAITING} {self.waiting}", ""]
        return web.Response(text="\n".join(lines), status=200 if self.is_up and address not in self.silent else 503)

    async def gate_page(self, _: web.Request) -> web.Response:
        lines = [f"{metrics.GATE_HELD} {self.held}", f"{metrics.GATE_ANSWERING} {self.answering}", ""]
        return web.Response(text="\n".join(lines), status=200 if self.is_gate_up else 503)

    async def live(self, seconds: float) -> None:
        """Passes every five seconds; pods become Ready at once."""
        for _ in range(round(seconds / 5)):
            self.now += timedelta(seconds=5)
            self.work()
            version = self.world.server.version
            self.kubelet()
            if self.world.server.version != version or not self.world.store.children(KEY):
                await self.world.reconciler.fill(NAMESPACE)
            outcome = await self.world.run()
            for _ in range(20):
                if outcome.again_after_seconds >= 2:
                    break
                outcome = await self.world.run()
            assert outcome.again_after_seconds <= (2 if self.gate_parts else 5)
            await self.readings.settle(KEY)
            await self.drafting.settle(KEY)
            await self.gates.settle(KEY)
            self.seen()

    def work(self) -> None:
        """What pods do in five seconds."""

    def seen(self) -> None:
        """What a test wants to hold after every pass."""

    @property
    def gate_parts(self) -> list[str]:
        """Paths of all that belongs to the wake gate, but its pod."""
        there = self.world.server.objects.items()
        return [
            path
            for path, each in there
            if each["kind"] != "Pod" and (each["metadata"].get("labels") or {}).get(names.LABEL_COMPONENT) == names.GATE
        ]

    @property
    def gate_pod(self) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/pods/{names.gate_name(NAME)}-0"

    @property
    def is_at_gate(self) -> bool:
        """Whether the Service selects the wake gate."""
        service = self.world.server.objects[f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}"]
        return bool(service["spec"]["selector"].get(names.LABEL_COMPONENT) == names.GATE)

    @property
    def verifiers(self) -> list[str]:
        return [path for path in self.world.paths("Pod") if path != self.gate_pod]

    def kubelet(self) -> None:
        """And the ReplicaSet controller before it."""
        self.run_gate()
        for path in self.verifier_deployments:
            there = self.world.server.objects[path]
            wanted, revision = there["spec"]["replicas"], there["metadata"]["labels"][names.LABEL_REVISION]
            pods = [pod for at in self.verifiers if (pod := pod_of(self.world.server.objects[at]))]
            costs = {pod.ref: pod.deletion_cost for pod in pods}
            for pod in deleted(pods, costs, fewer=max(0, len(pods) - wanted)):
                del self.world.server.objects[POD_PATH.format(pod.ref.name)]
            free = [i for i in range(10) if POD_PATH.format(f"{NAME}-{i}") not in self.world.server.objects]
            for i in free[: wanted - len(pods) if self.starts and wanted > len(pods) else 0]:
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": written(self.now)}
                raw = make_raw_pod(
                    Role.VERIFIER, revision, name=f"{NAME}-{i}", podIP=f"127.0.0.{i + 1}", conditions=[ready]
                )
                raw["spec"] = {"nodeName": "n"}
                self.world.server.put(POD_PATH.format(f"{NAME}-{i}"), raw)
            counters = {"observedGeneration": there["metadata"]["generation"], "replicas": wanted}
            status = {**counters, "readyReplicas": len(self.verifiers)}
            if there.get("status") != status:
                self.world.server.put(path, {**there, "status": status})

    def run_gate(self) -> None:
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{names.gate_name(NAME)}"
        there = self.world.server.objects.get(path)
        if there is None or not self.gate_starts:
            self.world.server.objects.pop(self.gate_pod, None)
        elif self.gate_pod not in self.world.server.objects:
            labels = there["spec"]["template"]["metadata"]["labels"]
            metadata = {"name": f"{names.gate_name(NAME)}-0", "namespace": NAMESPACE, "uid": "g", "labels": labels}
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": written(self.now)}
            status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [ready]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}
            self.world.server.put(self.gate_pod, pod)
        ready_pods = int(self.gate_pod in self.world.server.objects)
        if there is not None and (there.get("status") or {}).get("readyReplicas", 0) != ready_pods:
            self.world.server.put(path, {**there, "status": {"readyReplicas": ready_pods}})

    @property
    def verifier_deployments(self) -> list[str]:
        return [path for path in self.world.paths("Deployment") if f"/{NAME}-{Role.VERIFIER}-" in path]

    @property
    def replicas(self) -> int:
        (path,) = self.verifier_deployments
        found: int = self.world.server.objects[path]["spec"]["replicas"]
        return found

    def somebody_scales(self, path: str, replicas: int, *, by: str = "kubectl", at: datetime | None = None) -> None:
        """The Deployment there, as the API server has it after that: without a time by the scale subresource."""
        there = self.world.server.objects[path]
        entry: Manifest = {"manager": by, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        entry |= {"subresource": "scale"} if at is None else {"time": written(at)}
        metadata = there["metadata"]
        metadata = {**metadata, "managedFields": [*metadata.get("managedFields", []), entry]}
        metadata["generation"] += there["spec"]["replicas"] != replicas
        self.world.server.put(path, {**there, "metadata": metadata, "spec": {**there["spec"], "replicas": replicas}})

    @property
    def told(self) -> Manifest:
        found: Manifest = self.world.server.objects[BODY_PATH]["status"]["scaling"]
        return found


def written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


S = TypeVar("S", bound=Site)


def play(script: Callable[[S], Awaitable[None]], spec: Manifest = SCALED, *, make: type[S] = Site) -> None:  # type: ignore[assignment]
    async def with_pages(world: World) -> None:
        found: list[S] = []

        async def page(request: web.Request) -> web.Response:
            return await found[0].page(request)

        async def gate_page(request: web.Request) -> web.Response:
            return await found[0].gate_page(request)

        runners = [await serving(page), await serving(gate_page)]
        found.append(make(world, *(runner.addresses[0][1] for runner in runners)))
        world.user_writes(spec)
        try:
            await script(found[0])
        finally:
            await found[0].world.reconciler.close()
            for runner in runners:
                await runner.cleanup()

    play_world(with_pages)


async def serving(page: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.AppRunner:
    application = web.Application()
    application.router.add_get("/metrics", page)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()  # noqa: S104 -- pods have addresses of their own in 127.0.0.0/8
    return runner
