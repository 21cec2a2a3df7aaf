"""Engines' metrics pages on loopback, for pods that have no network of their own: `/POD/metrics`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.prometheus.server import LOOPBACK

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # as vLLM says it


@dataclass
class Exporters:
    """What each pod serves. One without a page answers 404."""

    address: str
    pages: dict[str, Callable[[], str]] = field(default_factory=dict)
    usual: Callable[[], str] | None = None
    """Of pods without a page of their own."""
    scrapes: dict[str, list[float]] = field(default_factory=dict)
    """When each page was asked for, in seconds since the epoch."""

    def serve(self, pod: str, page: str) -> None:
        """The same page from now on."""
        self.pages[pod] = lambda: page


@contextmanager
def serving_pages() -> Iterator[Exporters]:
    """On a free port, while the body runs."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pod = self.path.split("/")[1]
            exporters.scrapes.setdefault(pod, []).append(time.time())
            page = exporters.pages.get(pod, exporters.usual)
            if page is None:
                self.send_error(404)
                return
            body = page().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # a scrape that was given up
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Page)
    exporters = Exporters(f"{LOOPBACK}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield exporters
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
