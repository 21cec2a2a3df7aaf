"""A stand-in for kube-rbac-proxy and such: Prometheus itself knows no bearer tokens."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.prometheus.server import LOOPBACK


@contextmanager
def asking_for(token: str, behind: str) -> Iterator[str]:
    """The address of a proxy that lets this token pass; `behind` is Prometheus' own."""

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Authorization") != f"Bearer {token}":
                self._answer(401, b"Unauthorized\n", "text/plain")
                return
            passed = {"Content-Type": self.headers["Content-Type"]}
            request = urllib.request.Request(f"{behind}{self.path}", data=body, headers=passed)  # noqa: S310 -- loopback
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                self._answer(answer.status, answer.read(), answer.headers["Content-Type"])

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
