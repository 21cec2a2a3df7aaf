"""A fake of the Kubernetes API server at its border: HTTP on a port of this machine, objects by path in memory.

Knows resource versions, conflicts, preconditions, paging, merge patches of annotations, and apply: what is sent takes
the place of what was there, and who else has written the same value of a field owns it, too. A test scripts faults with
`answer_next`, and reads the requests that came.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from tandem_operator.cluster import KINDS, Cluster
from tandem_operator.facts import Manifest

HANG = -1
_PLURALS = {kind.plural for kind in KINDS.values()}


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """A scripted answer instead of the server's own. Status HANG: none at all."""

    status: int
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    after_seconds: float = 0.0
    """How long the reply is on its way; with `carries_out` the request was carried out before that."""
    carries_out: bool = False


class FakeApiServer:
    """The server's state; `serve` runs it."""

    def __init__(self) -> None:
        self.objects: dict[str, Manifest] = {}
        self.requests: list[Request] = []
        self.version = 100
        self.port = 0
        self.admission: Callable[[Manifest], Manifest] = lambda manifest: manifest
        """A mutating webhook: what is stored of an object that is applied."""
        self.cut_off: set[str] = set()
        """Tokens of the clients that get no answer at all."""
        self._scripted: list[tuple[str, str, Answer]] = []
        self._always: list[tuple[str, Answer]] = []

    def answer_next(self, method: str, answer: Answer, *, about: str = "") -> None:
        """The next request with this method, and `about` in its path, gets this answer."""
        self._scripted.append((method, about, answer))

    def answer_always(self, method: str, answer: Answer) -> None:
        """Every request with this method gets this answer, until `recover`."""
        self._always.append((method, answer))

    def recover(self) -> None:
        self._always.clear()

    def put(self, path: str, manifest: Manifest) -> Manifest:
        """Write an object as somebody else would."""
        self.version += 1
        stored = copy.deepcopy(manifest)
        before = self.objects.get(path, {}).get("metadata", {})
        stored["metadata"] = {
            **stored["metadata"],
            "resourceVersion": str(self.version),
            "uid": before.get("uid") or stored["metadata"].get("uid") or f"uid-{self.version}",
        }
        self.objects[path] = stored
        return stored

    async def handle(self, incoming: web.Request) -> web.StreamResponse:
        text = await incoming.text()
        request = Request(
            incoming.method,
            incoming.path,
            dict(incoming.query),
            {name.lower(): value for name, value in incoming.headers.items()},
            json.loads(text) if text else None,
        )
        self.requests.append(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") in self.cut_off:
            return await self._scripted_answer(request, Answer(HANG))
        for scripted in self._scripted:
            if scripted[0] == request.method and scripted[1] in request.path:
                self._scripted.remove(scripted)
                return await self._scripted_answer(request, scripted[2])
        for method, answer in self._always:
            if method == request.method:
                return await self._scripted_answer(request, answer)
        return self._own_answer(request)

    async def _scripted_answer(self, request: Request, answer: Answer) -> web.Response:
        own = self._own_answer(request) if answer.carries_out else None
        if answer.status == HANG:
            await asyncio.sleep(10**6)
        await asyncio.sleep(answer.after_seconds)
        if own is not None:
            return own
        return web.Response(
            status=answer.status, text=answer.text, headers=answer.headers, content_type=answer.content_type
        )

    def _own_answer(self, request: Request) -> web.Response:
        path, there = request.path, self.objects.get(request.path)
        if request.method == "POST":
            path = f"{path}/{request.body['metadata']['name']}"
            if path in self.objects:
                return _failure(409, "already exists")
            return web.json_response(self.put(path, request.body), status=201)
        if request.method == "GET" and there is None and self._is_collection(path):
            return self._listing(request)
        if request.method == "PATCH":
            version = request.body["metadata"].get("resourceVersion")
            if version and there is not None and there["metadata"]["resourceVersion"] != version:
                return _failure(409, "the object has been modified")
            if request.headers["content-type"] == "application/merge-patch+json":
                return self._merged(request)
            return self._applied(request)
        if there is None:
            return _failure(404, f"{path} not found")
        if request.method == "PUT":
            if request.body["metadata"].get("resourceVersion") != there["metadata"]["resourceVersion"]:
                return _failure(409, "the object has been modified")
            return web.json_response(self.put(path, request.body))
        if request.method == "DELETE":
            wanted = (request.body or {}).get("preconditions", {})
            if any(there["metadata"][key] != value for key, value in wanted.items()):
                return _failure(409, "precondition failed")
            del self.objects[path]
            return web.json_response({"kind": "Status", "status": "Success"})
        return web.json_response(there)

    def _merged(self, request: Request) -> web.Response:
        """Of annotations alone."""
        there = self.objects.get(request.path)
        if there is None:
            return _failure(404, f"{request.path} not found")
        wanted = request.body["metadata"]
        if wanted.get("uid", there["metadata"]["uid"]) != there["metadata"]["uid"]:
            return _failure(409, "Precondition failed: UID in precondition")
        merged = {**there["metadata"].get("annotations", {}), **wanted["annotations"]}
        annotations = {key: value for key, value in merged.items() if value is not None}
        metadata = {**there["metadata"], "annotations": annotations}
        return web.json_response(self.put(request.path, {**there, "metadata": metadata}))

    def _applied(self, request: Request) -> web.Response:
        path = request.path.removesuffix("/status")
        there = self.objects.get(path, {"metadata": {}})
        wanted_uid = request.body["metadata"].get("uid")
        if request.path != path:
            if path not in self.objects:
                return _failure(404, f"{path} not found")
            if wanted_uid != there["metadata"]["uid"]:
                return _failure(409, "Precondition failed: UID in precondition")
            return web.json_response(self.put(path, {**there, "status": request.body["status"]}))
        admitted = self.admission(copy.deepcopy(request.body))
        changed = there.get("spec") != admitted.get("spec")
        generation = there["metadata"].get("generation", 0) + changed
        owners = _owners(there, admitted, manager=request.query.get("fieldManager", ""))
        body = {**admitted, "metadata": {**admitted["metadata"], "generation": generation, "managedFields": owners}}
        return web.json_response(self.put(path, {**body, **({"status": there["status"]} if "status" in there else {})}))

    def _is_collection(self, path: str) -> bool:
        return path.rsplit("/", 2)[-2] not in _PLURALS

    def _listing(self, request: Request) -> web.Response:
        selector = dict([request.query["labelSelector"].split("=")]) if "labelSelector" in request.query else {}
        fields = [pair.split("=") for pair in request.query.get("fieldSelector", "").split(",") if pair]
        found = [
            manifest
            for path, manifest in sorted(self.objects.items())
            if path.startswith(f"{request.path}/")
            and selector.items() <= (manifest["metadata"].get("labels") or {}).items()
            and all(_field(manifest, path) == value for path, value in fields)
        ]
        first, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "1000"))
        metadata: dict[str, str] = {"resourceVersion": str(self.version)}
        if first + limit < len(found):
            metadata["continue"] = str(first + limit)
        bare = [{k: v for k, v in item.items() if k not in {"apiVersion", "kind"}} for item in found]
        return web.json_response({"kind": "List", "metadata": metadata, "items": bare[first : first + limit]})


def _field(manifest: Manifest, path: str) -> Any:
    for name in path.split("."):
        manifest = manifest.get(name, {})
    return manifest


def _owners(before: Manifest, after: Manifest, *, manager: str) -> list[Manifest]:
    """Who owns which fields after an apply with force: the applier all that it has sent, others what it has not changed
    of theirs. https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
    """
    others = [
        {**entry, "fieldsV1": fields}
        for entry in before["metadata"].get("managedFields", [])
        if entry["manager"] != manager and (fields := _unchanged(entry["fieldsV1"], before, after))
    ]
    return [{"manager": manager, "operation": "Apply", "fieldsV1": _fields_of(after)}, *others]


def _unchanged(fields: Manifest, before: Any, after: Any) -> Manifest:
    kept = {}
    for name, inside in fields.items():
        was, now = (each.get(name.removeprefix("f:")) if isinstance(each, dict) else None for each in (before, after))
        below = _unchanged(inside, was, now)
        if below or (not inside and was == now is not None):
            kept[name] = below
    return kept


def _fields_of(value: Any) -> Manifest:
    """Lists are taken as wholes."""
    return {f"f:{name}": _fields_of(inside) for name, inside in value.items()} if isinstance(value, dict) else {}


def _failure(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "message": message}, status=status)


@asynccontextmanager
async def serve() -> AsyncIterator[FakeApiServer]:
    """Run a server for as long as the block lasts."""
    server = FakeApiServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connect(
    server: FakeApiServer, identity: str = "t", *, timeout_seconds: float = 8.0
) -> AsyncIterator[Cluster]:
    """A client of the server."""
    host = f"http://127.0.0.1:{server.port}"
    configuration = client.Configuration(host=host, api_key={"authorization": f"Bearer {identity}"})
    configuration.client_session_kwargs = {"trust_env": False}
    cluster = Cluster(client.ApiClient(configuration), timeout_seconds=timeout_seconds)
    try:
        yield cluster
    finally:
        await cluster.close()
