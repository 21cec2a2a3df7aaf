"""One namespace with Tandem's chart in it and its operator as a process of this machine, under the chart's own rights.

The operator runs outside the cluster so that a test can kill and restart it in milliseconds; who it is and what it may
do are the chart's ServiceAccount and Role, by a real token. Its pods go to fake GPU nodes, whose kubelet is kwok.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy import chart, model_volume
from deploy.local.cluster import Cluster
from deploy.local.kwok import FAKE
from deploy.local.processes import wait_until
from deploy.place import Place, local_place
from tests import audit
from tests.audit import ACCOUNT

Manifest = dict[str, Any]
LIMIT_SECONDS = 40
REPOSITORY = Path(__file__).parents[2]
IMAGES = {"operator": "tandem.local/operator:none", "engine-cpu": "tandem.local/engine-cpu:none"}
"""Of charts whose pods run nowhere."""
ON_FAKE_NODES: Mapping[str, Any] = {
    "accelerators": {"cpu": {"toleratedTaints": [FAKE], "nodeLabels": {"tandem.dev/node": "fake"}}}
}
"""Class cpu, where inspect Jobs run too, is a fake node: its kubelet says what they find (deploy/local/stages)."""


@dataclass
class Operator:
    """One operator process."""

    kubeconfig: Path
    namespace: str
    log: Path
    config: Manifest = field(default_factory=dict)
    health_port: int = 0
    metrics_port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Operator:
        """Start it; returns at once."""
        config = self.log.with_suffix(".yaml")
        config.write_text(yaml.safe_dump(self.config))
        command = [sys.executable, "-m", "tandem_operator", "--namespace", self.namespace, "--config", str(config)]
        environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(self.kubeconfig), "POD_NAME": self.log.stem}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--health-port={self.health_port}", f"--metrics-port={self.metrics_port}"],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.log.parent,
            )
        return self

    def end(self, number: int = signal.SIGTERM, *, limit_seconds: float = 20) -> int:
        """Send a signal and wait for the end; the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(timeout=limit_seconds)

    def wait(self, *, limit_seconds: float) -> int:
        """Wait for it to end by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=limit_seconds)

    def send(self, number: int) -> None:
        """Send a signal and go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def peak_memory_mib(self) -> float:
        """The most memory that it has had resident since it was started."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def says(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")


@dataclass
class World:
    """A namespace and all that a test does there."""

    cluster: Cluster
    place: Place
    namespace: str
    folder: Path
    operators: list[Operator] = field(default_factory=list)
    server: str = ""
    """Where the operator finds the API server; empty: at its own address."""

    # -- the operator --------------------------------------------------------------------------------------------

    def operator(self, name: str = "operator", **config: Any) -> Operator:
        """A new operator process for this namespace, not started."""
        operator = Operator(
            self._kubeconfig(), self.namespace, self.folder / f"{name}.log", {**ON_FAKE_NODES, **config}
        )
        self.operators.append(operator)
        return operator

    def _kubeconfig(self) -> Path:
        path = self.folder / "kubeconfig"
        if not path.exists():
            token = self.run("create", "token", ACCOUNT, "--duration=1h").strip()
            admin = yaml.safe_load(self.place.kubeconfig.read_text())
            admin["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
            admin["contexts"][0]["context"]["user"] = ACCOUNT
            if self.server:
                admin["clusters"][0]["cluster"] = {"server": self.server}
            path.write_text(yaml.safe_dump(admin))
        return path

    # -- requests ------------------------------------------------------------------------------------------------

    def run(self, *arguments: str, stdin: str = "") -> str:
        return self.place.run("--namespace", self.namespace, *arguments, stdin=stdin)

    def apply(self, *manifests: Manifest) -> None:
        """As a user applies a file."""
        self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def patch(self, what: str, patch: Manifest) -> None:
        self.run("patch", what, "--type=merge", "-p", json.dumps(patch))

    def get(self, what: str) -> Manifest:
        found: Manifest = json.loads(self.run("get", *what.split(), "-o", "json"))
        return found

    def names(self, kind: str, selector: str = "") -> list[str]:
        """Names of the objects of a kind, sorted."""
        items = json.loads(self.run("get", kind, "-o", "json", *(["-l", selector] if selector else [])))["items"]
        return sorted(item["metadata"]["name"] for item in items)

    def conditions(self, name: str) -> dict[str, Manifest]:
        """Conditions of a deployment by type."""
        status = self.get(f"llm/{name}").get("status") or {}
        return {condition["type"]: condition for condition in status.get("conditions") or []}

    # -- waiting -------------------------------------------------------------------------------------------------

    def wait_until(self, condition: Callable[[], bool], what: str, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        log = self.operators[-1].log if self.operators else self.cluster.layout.log_of("apiserver")
        wait_until(condition, what, limit_seconds=limit_seconds, log=log, poll_seconds=0.1)

    def wait_for(self, name: str, condition: str, *, status: str = "True", reason: str = "") -> Manifest:
        """Wait until a condition holds for the newest generation; returns it."""

        def holds() -> bool:
            resource = self.get(f"llm/{name}")
            found = self.conditions(name).get(condition, {})
            return (
                found.get("status") == status
                and reason in {"", found.get("reason")}
                and found.get("observedGeneration") == resource["metadata"]["generation"]
            )

        self.wait_until(holds, f"{self.namespace}/{name}: {condition}={status} {reason}")
        return self.conditions(name)[condition]

    # -- the audit log -------------------------------------------------------------------------------------------

    def writes(self) -> list[Manifest]:
        """Every write of this namespace's operator so far, without its lease, as audit events in order."""
        return audit.writes_of(self.cluster, self.namespace)

    def audited(self) -> list[Manifest]:
        """Audit events of this namespace's operator."""
        return audit.events_of(self.cluster, self.namespace)


def make_place(cluster: Cluster, *, nodes: Mapping[str, int]) -> Place:
    """The local cluster with our CRDs and at least so many fake nodes of each class, and one of class cpu."""
    found = local_place(cluster)
    there = [node["metadata"]["name"] for node in found.get("nodes")["items"]]
    for name, count in {"cpu": 1, **nodes}.items():
        lacking = count - sum(node.startswith(name) for node in there)
        if lacking > 0:
            cluster.add_nodes(name, count=lacking)
    found.run("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
    kinds = ("crd/llmdeployments.tandem.dev", "crd/modelartifacts.tandem.dev")
    found.run("wait", "--for=condition=Established", *kinds, "--timeout=30s")
    wait_until(  # an established kind is served a moment before it is described
        lambda: cluster.kubectl.attempt("explain", "llmdeployment").returncode == 0,
        "the API server's description of LLMDeployment",
        limit_seconds=30,
        log=cluster.layout.log_of("apiserver"),
    )
    return found


def make_world(cluster: Cluster, place: Place, *, namespace: str, folder: Path) -> World:
    """Install the chart without a running operator, and a claim that pods can name."""
    values = {**chart.values_of(IMAGES, replicas=0), "crds": {"install": False}}
    chart.install(place, namespace, values=values)
    place.apply(model_volume.volume_of(namespace, folder), model_volume.claim_of(namespace))
    return World(cluster, place, namespace, folder)


def sample(name: str, **changes: Any) -> Manifest:
    """A sample of deploy/samples; `changes` replace parts of its spec."""
    body: Manifest = yaml.safe_load((REPOSITORY / "deploy/samples" / f"{name}.yaml").read_text())
    if name != "cpu-pair":  # pods on fake nodes have no engine that could say when it has answered its last request
        body["spec"]["rollout"] = {"drainTimeout": "1s"}
    body["spec"].update(changes)
    return body
