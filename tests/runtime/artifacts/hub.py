"""Stands for the Hugging Face hub: the few answers that a download needs, from folders on this machine.

Its headers and error codes are those that `huggingface_hub` 1.33 reads. The real hub is not to be reached here.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 100_000
"""From here on a file is told as a large one, by its SHA-256; smaller ones by git's own digest."""


@dataclass
class Repository:
    """Revisions by name, and what is in each commit."""

    revisions: dict[str, str]
    commits: dict[str, Path]
    is_gated: bool = False


@dataclass
class FakeHub:
    """`spoil`: called with the path and the content of a file before it is sent; what it returns is sent instead."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    token: str = ""
    """Without it nothing is told; empty: everybody may ask."""
    status: int = 200
    """Of every answer, where it is another one."""
    spoil: Callable[[str, bytes], bytes] = lambda _path, content: content
    is_cut_off: bool = False
    """Every file ends in the middle."""
    resolved: Callable[[], None] = lambda: None
    """Called when a revision has been told."""
    sent: list[str] = field(default_factory=list)
    """Files that were sent, by `commit/name`."""
    tokens_seen: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            def answer(self, *, with_body: bool) -> None:
                hub._answer(self, with_body=with_body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: _Handler, *, with_body: bool) -> None:
        authorization = request.headers.get("Authorization", "")
        self.tokens_seen.add(authorization.removeprefix("Bearer "))
        if self.status != 200:
            request.say(self.status, {}, b"{}", with_body=with_body)
            return
        if self.token and authorization != f"Bearer {self.token}":
            request.say(401, {}, b'{"error": "Invalid username or password."}', with_body=with_body)
            return
        path = unquote(urlsplit(request.path).path)
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._tell(request, name, revision)
            return
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        commit, _, file = rest.partition("/")
        self._send(request, name, commit, file, with_body=with_body)

    def _tell(self, request: _Handler, name: str, revision: str) -> None:
        repository = self.repositories.get(name)
        if repository is None:
            request.say(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
            return
        if repository.is_gated:
            request.say(403, {"X-Error-Code": "GatedRepo"}, b"{}")
            return
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            request.say(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
            return
        siblings = [
            _told(path, commit_folder) for commit_folder in [repository.commits[commit]] for path in _in(commit_folder)
        ]
        request.say(200, {}, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())
        self.resolved()

    def _send(self, request: _Handler, name: str, commit: str, file: str, *, with_body: bool) -> None:
        path = self.repositories[name].commits[commit] / file
        if not path.is_file():
            request.say(404, {"X-Error-Code": "EntryNotFound"}, b"", with_body=with_body)
            return
        content = path.read_bytes()
        told = _told(path, self.repositories[name].commits[commit])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{told["blobId"]}"', "Accept-Ranges": "bytes"}
        if "lfs" in told:
            headers |= {"X-Linked-ETag": f'"{told["lfs"]["sha256"]}"', "X-Linked-Size": str(len(content))}
        if with_body:
            self.sent.append(f"{commit}/{file}")
            content = self.spoil(file, content)
        request.say(200, headers, content, with_body=with_body, sent=len(content) // 2 if self.is_cut_off else None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        raise NotImplementedError

    def say(
        self, status: int, headers: dict[str, str], body: bytes, *, with_body: bool = True, sent: int | None = None
    ) -> None:
        """An answer; `sent`: only so many bytes of its body, after which the connection ends."""
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body if sent is None else body[:sent])
        except OSError:  # whoever asked is gone
            self.close_connection = True
        if sent is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: tests are told by what was sent."""


def _in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _told(path: Path, folder: Path) -> dict[str, object]:
    content = path.read_bytes()
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
    told: dict[str, object] = {"rfilename": path.relative_to(folder).as_posix(), "size": len(content), "blobId": blob}
    if len(content) >= LARGE_BYTES:
        told["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return told
