"""A stand-in for prometheus-adapter: custom.metrics.k8s.io, served from this machine through the aggregation layer.

It tells of each pod of a selection its even share of a load that a test sets, under any metric's name.
"""

from __future__ import annotations

import base64
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
from deploy.local.pki import Leaf, authority_in, issue
from deploy.local.record import read_record
from tests.clusters import wait_for

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
    """Registered at the API server while the body runs: as long as it were registered and silent, no namespace of the
    cluster could be deleted.
    """
    metrics = CustomMetrics()
    server = ThreadingHTTPServer((_address(cluster), 0), _handler(cluster, metrics))
    server.socket = _context(cluster, namespace, folder).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    name = f"{VERSION}.{GROUP}"
    try:
        cluster.kubectl.apply(*_registration(namespace, server.server_address, folder))
        wait_for(cluster.kubectl, "condition=Available", f"apiservice/{name}", namespace=namespace)
        yield metrics
    finally:
        cluster.kubectl.run("delete", "apiservice", name, "--ignore-not-found")
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def _address(cluster: Cluster) -> str:
    """Of this machine, as the API server sees it."""
    record = read_record(cluster.layout)
    assert record is not None
    return record.network.host if record.has_real_node else "127.0.0.1"


def _context(cluster: Cluster, namespace: str, folder: Path) -> ssl.SSLContext:
    """With a certificate of its own, for the API server's proxy alone."""
    issue(authority_in(folder), [Leaf("server", SERVICE, names=(f"{SERVICE}.{namespace}.svc",))])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cluster.layout.pki / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def _registration(namespace: str, address: Any, folder: Path) -> list[dict[str, Any]]:
    host, port = address
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": namespace},
            "spec": {"type": "ExternalName", "externalName": host},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": SERVICE, "namespace": namespace, "port": port},
                "caBundle": base64.b64encode((folder / "ca.crt").read_bytes()).decode(),
            },
        },
    ]


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
