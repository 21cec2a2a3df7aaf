"""A world in which an operator makes passes over artifacts and deployments, against a fake API server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.cluster import KINDS, Cluster
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.reconcile import Reconciler
from tandem_operator.store import Key
from tests.builders import NAMESPACE, make_body, make_spec, make_store
from tests.unit.operator.fake_api_server import FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import run

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WRITES = {"PATCH", "POST", "PUT", "DELETE"}
ALONE = make_spec(draft=None, speculation={"method": "Off"})


def key_of_folder(path: str) -> Key:
    source = {"persistentVolumeClaim": {"claimName": "models", "path": path}}
    return Key(NAMESPACE, ModelArtifactSpec.parse({"source": source}).key, names.ARTIFACT_KIND)


VERIFIER, DRAFT = key_of_folder("verifier"), key_of_folder("draft")
JOB_PATH = KINDS["Job"].path(NAMESPACE, names.artifact_job_name(VERIFIER.name, Phase.INSPECT))
ARTIFACT_PATH = KINDS[names.ARTIFACT_KIND].path(NAMESPACE, VERIFIER.name)


class World:
    """A server, and an operator of it with a queue that runs what is due, one pass after the other."""

    def __init__(self, server: FakeApiServer, cluster: Cluster, config: OperatorConfig | None = None) -> None:
        self.server, self.now = server, NOW
        self.config = config or OperatorConfig()
        self.store = make_store(self.config)
        self.reconciler = Reconciler(cluster, self.store, config=self.config, clock=lambda: self.now)

    def deploy(self, name: str = "pair", spec: Manifest = ALONE, *, uid: str = "u1") -> None:
        self.server.put(KINDS[names.KIND].path(NAMESPACE, name), {**make_body(spec, name, uid=uid), "status": {}})

    async def settle(self) -> None:
        """Read everything, and run what is due and what is woken until nothing asks for another pass at once."""
        due = list(await self.reconciler.fill(NAMESPACE))
        for _ in range(60):
            if not due:
                return
            key = due.pop(0)
            outcome = await self.reconciler.run(key)
            due += [woken for woken in outcome.wake if woken not in due]
            if 0 < outcome.again_after_seconds <= 1.0 and key not in due:
                due.append(key)
        raise AssertionError(f"not settled: {self.writes()[-5:]}")

    def job_says(self, *, message: str, exit_code: int = 0, path: str = JOB_PATH) -> None:
        """The Job comes to its end, its pod with a last word."""
        there = self.server.objects[path]
        course = "Complete" if exit_code == 0 else "Failed"
        stamp = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": course, "status": "True", "lastTransitionTime": stamp}
        self.server.put(path, {**there, "status": {"conditions": [condition]}})
        metadata = there["metadata"]
        name = f"{metadata['name']}-x"
        labels = {**metadata["labels"], "batch.kubernetes.io/controller-uid": metadata["uid"]}
        state = {"terminated": {"exitCode": exit_code, "message": message}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": "p1", "labels": labels},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "inspect", "state": state}]},
        }
        self.server.put(KINDS["Pod"].path(NAMESPACE, name), pod)

    def writes(self) -> list[str]:
        return [f"{r.method} {r.path}" for r in self.server.requests if r.method in WRITES]

    def condition(self, path: str, kind: str) -> tuple[str, str, str] | None:
        status = self.server.objects[path].get("status") or {}
        found = [c for c in status.get("conditions") or [] if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None

    def of_deployment(self, kind: str, name: str = "pair") -> tuple[str, str, str] | None:
        return self.condition(KINDS[names.KIND].path(NAMESPACE, name), kind)

    def artifact(self, name: str) -> Manifest:
        return self.server.objects[KINDS[names.ARTIFACT_KIND].path(NAMESPACE, name)]

    def paths(self, kind: str) -> list[str]:
        collection = KINDS[kind].path(NAMESPACE)
        return sorted(path for path in self.server.objects if path.startswith(f"{collection}/"))

    def undeploy(self) -> None:
        """All deployments, and what would still refer to their artifacts, have gone."""
        for path in [*self.paths(names.KIND), *self.paths("ControllerRevision"), *self.paths("Deployment")]:
            del self.server.objects[path]
        self.server.version += 1


def play(script: Callable[[World], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            await script(World(server, cluster, OperatorConfig.model_validate(settings)))

    run(main())
