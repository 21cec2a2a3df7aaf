"""A server that tells of engines' loads as Prometheus would: pods on fake nodes have no engines that could."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from tandem_contracts import metrics


class Engines:
    """Requests that pods are said to work on; of others nothing is said."""

    def __init__(self) -> None:
        self.running: dict[str, float] = {}

    def answer(self, query: str) -> dict[str, Any]:
        asked = re.search(r'pod=~"([^"]+)"', query)
        pods = [pod for pod in self.running if asked and re.fullmatch(asked[1], pod)]
        found = [({"__name__": metrics.ENGINE_RUNNING, "pod": pod}, self.running[pod]) for pod in pods]
        found += [({"__name__": metrics.ENGINE_WAITING, "pod": pod}, 0.0) for pod in pods]
        found += [({"tandem_scraped": "1", "pod": pod}, time.time()) for pod in pods]
        result = [{"metric": labels, "value": [time.time(), str(value)]} for labels, value in found]
        return {"status": "success", "data": {"resultType": "vector", "result": result}}


@contextmanager
def serving(engines: Engines) -> Iterator[str]:
    """The address of a server that tells of them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            body = json.dumps(engines.answer(form["query"][0])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
