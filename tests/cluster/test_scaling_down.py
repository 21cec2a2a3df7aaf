"""Which pods the real ReplicaSet controller takes when scaling wants fewer: those with the least to do.

The pods are on fake nodes and have no engines: a server of the test's own tells of their load, as Prometheus would.
"""

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
from tests.cluster.world import World, sample

NAME = "llama-8b"
PODS = "tandem.dev/role=verifier"


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


def test_the_pods_with_the_least_to_do_go_and_nothing_but_a_mark_is_written_to_a_pod(world: World) -> None:
    engines = Engines()
    body = sample("autoscaled")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h100-80gb"], "count": 1}
    body["spec"]["autoscaling"]["verifier"] = {"minReplicas": 4, "maxReplicas": 4}
    with serving(engines) as address:
        world.operator(prometheus={"address": address, "abovePods": 0}).start()
        world.apply(body)
        world.wait_until(lambda: len(world.names("pods", PODS)) == 4, "four verifiers")
        busy, idle, busier, bored = world.names("pods", PODS)
        engines.running = {busy: 5.0, idle: 0.0, busier: 9.0, bored: 1.0}
        world.wait_for(NAME, "ScalingActive", reason="Deciding")
        bounds = {"minReplicas": 2, "maxReplicas": 2}
        world.patch(f"llm/{NAME}", {"spec": {"autoscaling": {"verifier": bounds}}})
        world.wait_until(lambda: len(world.names("pods", PODS)) == 2, "two verifiers")
        assert world.names("pods", PODS) == sorted([busy, busier])
    writes = [each for each in world.writes() if each["objectRef"]["resource"] == "pods"]
    assert [(each["verb"], each["responseStatus"]["code"]) for each in writes] == [("patch", 200)] * 2
    assert sorted(each["objectRef"]["name"] for each in writes) == sorted([idle, bored])
