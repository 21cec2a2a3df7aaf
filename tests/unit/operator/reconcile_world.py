"""A world to run passes in: a fake API server, an operator's store and its reconciler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cluster import KINDS, Cluster
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.outcome import Outcome
from tandem_operator.reconcile import Reconciler
from tests.builders import KEY, NAME, NAMESPACE, make_body, make_child, make_spec, make_store
from tests.unit.operator.fake_api_server import FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import run

NOW = datetime(2030, 1, 1, tzinfo=UTC)


BODY_PATH = KINDS[names.KIND].path(NAMESPACE, NAME)


ALONE = make_spec(draft=None, speculation={"method": "Off"})


WRITES = {"PATCH", "POST", "PUT", "DELETE"}


class World:
    """A server, and an operator's store and reconciler of it."""

    def __init__(self, server: FakeApiServer, cluster: Cluster) -> None:
        self.server = server
        self.store = make_store()
        self.reconciler = Reconciler(cluster, self.store, config=OperatorConfig(), clock=lambda: NOW)

    def user_writes(self, spec: Manifest, *, generation: int = 1, uid: str = "u1") -> None:
        """Somebody applies the resource; nobody has heard of it yet."""
        there = self.server.objects.get(BODY_PATH, {})
        body = {**make_body(spec, generation=generation, uid=uid), "status": there.get("status", {})}
        self.server.put(BODY_PATH, body)

    def write(self, path: str, manifest: Manifest) -> None:
        self.server.put(path, manifest)

    async def run(self) -> Outcome:
        return await self.reconciler.run(KEY)

    async def converge(self) -> int:
        """Fill the store and run passes until one asks for no other; their number."""
        await self.reconciler.fill(NAMESPACE)
        for number in range(1, 20):
            if not (await self.run()).again_after_seconds:
                return number
        raise AssertionError(f"still not converged after 19 passes: {self.writes()[-5:]}")

    async def converge_to_refusal(self) -> None:
        """Fill the store and run the passes that follow each other at once."""
        await self.reconciler.fill(NAMESPACE)
        for _ in range(5):
            await self.run()

    def writes(self) -> list[str]:
        return [f"{r.method} {r.path}" for r in self.server.requests if r.method in WRITES]

    def condition(self, kind: str) -> tuple[str, str, str] | None:
        found = [c for c in self.server.objects[BODY_PATH]["status"]["conditions"] if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None

    def paths(self, kind: str) -> list[str]:
        collection = KINDS[kind].path(NAMESPACE)
        return sorted(path for path in self.server.objects if path.startswith(f"{collection}/"))


def play(script: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            await script(World(server, cluster))

    run(main())


def foreign(name: str, **metadata: Any) -> Manifest:
    manifest = make_child("Service", name)
    manifest["metadata"] = {"name": name, "namespace": NAMESPACE, **metadata}
    return manifest


def make_stray(kind: str, role: Role, **metadata: Any) -> Manifest:
    """A child of ours of revision deadbeef, which no plan has a use for."""
    name = names.role_child_name(NAME, role, revision="deadbeef")
    stray = make_child(kind, name, spec={"replicas": 1} if kind == "Deployment" else {"selector": {}})
    labels = {**stray["metadata"]["labels"], names.LABEL_ROLE: role.value, names.LABEL_REVISION: "deadbeef"}
    owners = [{"kind": names.KIND, "name": NAME, "uid": "u1", "controller": True}]
    stray["metadata"].update(ownerReferences=owners, labels=labels, **metadata)
    return stray
