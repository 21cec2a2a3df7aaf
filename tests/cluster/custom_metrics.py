"""A stand-in for prometheus-adapter: custom.metrics.k8s.io, served from this machine through the aggregation layer.

It tells of each pod of a selection its even share of a load that a test sets, under any metric's name.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from deploy.local.cluster import Cluster
from tests.cluster.aggregation import host_of, issue_for, registered

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta2"
SERVICE = "custom-metrics"


@dataclass
class CustomMetrics:
    """What is told, and how often it was asked for."""

    load: float = 0.0
    """Of all pods together."""
    answers: int = 0


@contextmanager
def serving_custom_metrics(cluster: Cluster, namespace: str, folder: Path) -> Iterator[CustomMetrics]:
    """Registered at the API server while the body runs."""
    metrics = CustomMetrics()
    server = ThreadingHTTPServer((host_of(cluster), 0), _handler(cluster, metrics))
    server.socket = _context(cluster, namespace, folder).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    port = server.server_address[1]
    try:
        with registered(cluster, GROUP, VERSION, service=SERVICE, namespace=namespace, port=port, folder=folder):
            yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def _context(cluster: Cluster, namespace: str, folder: Path) -> ssl.SSLContext:
    """With a certificate of its own, for the API server's proxy alone."""
    issue_for(SERVICE, namespace, folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cluster.layout.pki / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


def _handler(cluster: Cluster, metrics: CustomMetrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            # apis, group, version, "namespaces", a namespace, "pods", "*", a metric
            parts = unquote(url.path).strip("/").split("/")
            if parts[:3] != ["apis", GROUP, VERSION] or len(parts) not in {3, 8}:
                self.send_error(404)
            elif len(parts) == 3:
                self._answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"})
            else:
                selector = parse_qs(url.query)["labelSelector"][0]
                pods = cluster.kubectl.get("pods", "--namespace", parts[4], "--selector", selector)["items"]
                self._answer(_values(pods, parts[7], load=metrics.load))
                metrics.answers += 1

        def _answer(self, body: dict[str, Any]) -> None:
            text = json.dumps({"resources": [], "items": [], **body}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler


def _values(pods: list[dict[str, Any]], metric: str, *, load: float) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    items = [
        {
            "describedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": pod["metadata"]["namespace"],
                "name": pod["metadata"]["name"],
            },
            "metric": {"name": metric},
            "timestamp": now,
            "value": f"{1000 * load / len(pods):.0f}m",
        }
        for pod in pods
    ]
    return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}
