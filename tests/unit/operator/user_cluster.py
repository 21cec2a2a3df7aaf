"""A user's cluster at its border: HTTP on a port of this machine, objects and texts by path, and a kubeconfig for it.

What `FakeApiServer` is to the operator, for the commands, which ask one thing after the other and wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tests.builders import NAMESPACE

_COLLECTIONS = {kind.path(NAMESPACE): name for name, kind in KINDS.items()}


class UserCluster:
    """What it holds, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Manifest] = {}
        self.texts: dict[str, str] = {}
        """Answers of pods and logs, by path, or by path and query."""
        self.forbidden: set[str] = set()
        """Beginnings of paths, or parts of them, which the user has no right to."""
        self.unknown: set[str] = set()
        """API groups that it does not have; the answer is the one of a real API server."""
        self.requests: list[tuple[str, str]] = []
        self.writers: set[str] = set()
        """Field managers that somebody has written as."""
        self.controllers: list[Callable[[Manifest], object]] = []
        """What is done about an object that was made."""
        self.kubeconfig = folder / "kubeconfig"

    def put(self, kind: str, manifest: Manifest) -> None:
        """An object that is there."""
        self.objects[KINDS[kind].path(NAMESPACE, manifest["metadata"]["name"])] = manifest

    def serve_page(self, pod: str, port: int, text: str) -> None:
        """What a pod answers at a port."""
        self.texts[f"{KINDS['Pod'].path(NAMESPACE, f'{pod}:{port}')}/proxy/metrics"] = text

    def options(self, *words: str) -> list[str]:
        """Words of a command, with where it is to look."""
        return [*words, "--kubeconfig", str(self.kubeconfig), "-n", NAMESPACE]

    def asked(self, method: str) -> list[str]:
        """Paths of the requests of that method."""
        return [path for each, path in self.requests if each == method]

    def answer(self, method: str, target: str, body: Any) -> tuple[int, str]:
        """Status and text."""
        url = urlsplit(target)
        path, query = url.path, dict(parse_qsl(url.query))
        self.requests.append((method, path))
        self.writers |= {query["fieldManager"]} if "fieldManager" in query else set()
        if any(f"/apis/{group}/" in path for group in self.unknown):
            return 404, "404 page not found\n"
        if any(each in path for each in self.forbidden):
            return _failure(403, f"{path} is forbidden")
        text = self.texts.get(target, self.texts.get(path))
        if text is not None:
            return 200, text
        if method == "POST":
            self.put(_COLLECTIONS[path], body)
            for control in self.controllers:
                control(body)
            return 201, json.dumps(body)
        if path in _COLLECTIONS:
            return 200, json.dumps({"kind": "List", "items": self._listed(path, query.get("labelSelector", ""))})
        if path not in self.objects:
            return _failure(404, f"{path} not found")
        if method == "DELETE":
            return 200, json.dumps(self.objects.pop(path))
        if method == "PATCH":
            change = _replaced if isinstance(body, list) else _merged
            self.objects[path] = change(self.objects[path], body)
        return 200, json.dumps(self.objects[path])

    def _listed(self, path: str, selector: str) -> list[Manifest]:
        wanted = [part.partition("=") for part in selector.split(",") if part]

        def fits(manifest: Manifest) -> bool:
            labels = manifest["metadata"].get("labels") or {}
            return all(key in labels and (not equals or labels[key] == value) for key, equals, value in wanted)

        found = [manifest for where, manifest in sorted(self.objects.items()) if where.rpartition("/")[0] == path]
        return [{k: v for k, v in each.items() if k not in {"apiVersion", "kind"}} for each in found if fits(each)]


def _merged(there: Any, patch: Any) -> Any:
    """By the rules of a JSON merge patch."""
    if not isinstance(patch, dict) or not isinstance(there, dict):
        return patch
    merged = {key: _merged(there.get(key, {}), value) for key, value in patch.items() if value is not None}
    return {**{key: value for key, value in there.items() if patch.get(key, value) is not None}, **merged}


def _replaced(there: Manifest, patch: list[Manifest]) -> Manifest:
    """By a JSON patch that replaces whole fields, and asks of nothing that it has changed meanwhile."""
    return {**there, **{each["path"].strip("/"): each["value"] for each in patch if each["op"] == "replace"}}


def _failure(status: int, message: str) -> tuple[int, str]:
    return status, json.dumps({"kind": "Status", "status": "Failure", "message": message})


@contextmanager
def user_cluster(folder: Path) -> Iterator[UserCluster]:
    """Answers for as long as the block lasts; its kubeconfig lies in `folder`."""
    cluster = UserCluster(folder)

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, text = cluster.answer(self.command, self.path, body)
            raw = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PATCH = do_POST = do_DELETE = _respond  # noqa: N815 -- as http.server wants them

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "current-context": "here",
    }
    cluster.kubeconfig.write_text(json.dumps(config), encoding="utf-8")
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
