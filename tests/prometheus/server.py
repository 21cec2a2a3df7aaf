"""A real Prometheus as a process of this machine: started with a configuration, asked over HTTP, ended."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local.binaries import build, module_of
from deploy.local.layout import layout_of
from deploy.local.processes import tail_of, wait_until
from deploy.local.progress import Progress

LOOPBACK = "127.0.0.1"
START_LIMIT_SECONDS = 30.0


@dataclass
class Prometheus:
    """One running server; `address` is what the operator's configuration names."""

    address: str
    log: Path
    _process: subprocess.Popen[bytes]

    def ask(self, query: str, **parameters: str) -> tuple[int, Any]:
        """Status and body of its answer to an instant query."""
        body = urllib.parse.urlencode({"query": query, **parameters}).encode()
        request = urllib.request.Request(f"{self.address}/api/v1/query", data=body)  # noqa: S310 -- ours, on loopback
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def values(self, query: str) -> list[float]:
        """Of an instant vector."""
        return [float(each["value"][1]) for each in self.ask(query)[1]["data"]["result"]]

    def wait_for(self, query: str, *values: float, limit_seconds: float = 30.0) -> None:
        """Until an instant vector has these values, in order of size."""
        wait_until(
            lambda: sorted(self.values(query)) == sorted(values),
            f"{query} to be {values}",
            limit_seconds=limit_seconds,
            log=self.log,
        )

    def end(self) -> None:
        """Also where it has ended already."""
        self._process.terminate()
        self._process.wait(timeout=20)


@contextmanager
def running_prometheus(
    folder: Path,
    scrape_configs: Sequence[dict[str, Any]],
    *,
    interval: str = "200ms",
    web: dict[str, Any] | None = None,
    host: str = LOOPBACK,
) -> Iterator[Prometheus]:
    """Listening on a free port of this address of this machine while the body runs; `web` is its web configuration, TLS
    of its own included."""
    folder.mkdir(parents=True, exist_ok=True)
    times = {"scrape_interval": interval, "scrape_timeout": interval}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({"global": times, "scrape_configs": [*scrape_configs]}))
    (folder / "web.yaml").write_text(yaml.safe_dump(web or {}))
    command = [
        *("setpriv", "--pdeathsig", "TERM"),  # an interrupted run of the tests leaves none behind
        program("prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--web.config.file={folder}/web.yaml",
        f"--web.listen-address={host}:0",
        f"--storage.tsdb.path={folder}/data",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env={"PATH": "/usr/bin:/bin"})
    server = Prometheus("", log, process)
    try:
        wait_until(lambda: _is_started(server), "Prometheus to listen", limit_seconds=START_LIMIT_SECONDS, log=log)
        (port,) = set(re.findall(rf"Listening on.*?{re.escape(host)}:(\d+)", log.read_text()))
        server.address = f"{'https' if web else 'http'}://{host}:{port}"
        yield server
    finally:
        server.end()


def _is_started(server: Prometheus) -> bool:
    assert server._process.poll() is None, tail_of(server.log)
    return "Server is ready to receive web requests" in server.log.read_text()


def program(name: str) -> str:
    """Where one of ours is; it is built first where it is missing."""
    return build(layout_of(), Progress(), modules=[module_of(name)])[name]


def promtool(*arguments: str) -> str:
    """What Prometheus' own judge says of files that it finds good."""
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def finding_verifiers(kubeconfig: Path, namespace: str, *further: dict[str, str]) -> dict[str, Any]:
    """A scrape configuration for a namespace's verifiers, with the labels of a PodMonitor; `further` relabel rules."""
    found = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "namespaces": {"names": [namespace]},
        "selectors": [{"role": "pod", "label": "tandem.dev/role=verifier"}],
    }
    labels = [
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "http", "action": "keep"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        *further,
    ]
    return {"job_name": "verifiers", "kubernetes_sd_configs": [found], "relabel_configs": labels}


def finding_everything(kubeconfig: Path, namespace: str) -> list[dict[str, Any]]:
    """Scrape configurations as the chart's PodMonitor and ServiceMonitor are, with the labels that those give."""
    found = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "namespaces": {"names": [namespace]},
    }
    labels: list[dict[str, Any]] = [
        {
            "source_labels": [
                "__meta_kubernetes_pod_container_port_name",
                "__meta_kubernetes_pod_label_tandem_dev_role",
            ],
            "regex": "metrics;.*|http;verifier",
            "action": "keep",
        },
        {"regex": "__meta_kubernetes_pod_label_(tandem_dev_.+)", "action": "labelmap"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    return [{"job_name": "tandem", "kubernetes_sd_configs": [found], "relabel_configs": labels}]


def scraping(job: str, address: str, *pods: str, namespace: str = "chat") -> dict[str, Any]:
    """A scrape configuration for these pods, whose pages are at `address`."""
    return {"job_name": job, "static_configs": targets_of(address, *pods, namespace=namespace)}


def targets_of(address: str, *pods: str, namespace: str = "chat") -> list[dict[str, Any]]:
    """With the labels that a PodMonitor gives."""
    fixed = {"namespace": namespace, "container": "engine", "endpoint": "http"}
    return [
        {"targets": [address], "labels": {"__metrics_path__": f"/{pod}/metrics", "pod": pod, **fixed}} for pod in pods
    ]
