"""From `kubectl apply` to the first token, by phase, beside the same engines started by hand in the same containers.

Both ways run on the local cluster in one go: first by hand (two pods of the same templates that only sleep, in which
the very commands of the plan are started side by side), then through the operator. What differs is what Tandem and
Kubernetes add.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import options_of, report
from deploy import chart, model_volume, openai
from deploy.fixtures.pair import model_pair
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.place import Place, local_place
from tandem_contracts.metrics import START_PHASE_SECONDS
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator.cli.plan import UNKNOWN_UID, plan_of
from tandem_operator.config import OperatorConfig

NAMESPACE = "tandem-first-token"
NAME = "pair"
LIMIT_SECONDS = 400.0
PHASES = ("process", "weights", "warm_up")


def main() -> int:
    """Measure both ways and report."""
    options = options_of("first_token", __doc__)
    cluster = Cluster()
    cluster.up()
    place = local_place(cluster)
    references = images.provide(["operator", "engine-cpu"], cluster=cluster)
    values = chart.values_of(references)
    place.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        model_volume.provide_from_node(place, NAMESPACE, folder=model_pair().folder)
        by_hand = _by_hand(place, values)
        place.run("apply", "--server-side", "--force-conflicts", "-f", "crds")
        chart.install(place, NAMESPACE, values={**values, "crds": {"install": False}})
        figures = _through_the_operator(place)
    finally:
        place.run("delete", "namespace", NAMESPACE, "--wait=true", limit_seconds=180)
        place.run("delete", "persistentvolume", f"models-{NAMESPACE}", "--ignore-not-found")
    figures["by_hand_seconds"] = by_hand
    figures["added_seconds"] = figures["first_token_seconds"] - by_hand
    figures["ratio"] = figures["first_token_seconds"] / by_hand
    report("first_token", figures, table=_table(figures), path=options.json)
    return 0


def _body() -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load(Path("deploy/samples/cpu-pair.yaml").read_text(encoding="utf-8"))
    body["metadata"].update(namespace=NAMESPACE, uid=UNKNOWN_UID)
    return body


# -- by hand -------------------------------------------------------------------------------------------------------


def _by_hand(place: Place, values: dict[str, Any]) -> float:
    """Seconds from starting both engines in containers that run already to the verifier's first token."""
    config = OperatorConfig.model_validate(values["config"])
    workloads = {
        apply.manifest["metadata"]["labels"]["tandem.dev/role"]: apply.manifest
        for apply in plan_of(_body(), config).apply
        if apply.manifest["kind"] == "Deployment"
    }
    commands = {}
    for role, manifest in workloads.items():
        pod, commands[role] = _sleeping(manifest["spec"]["template"], role)
        place.apply(pod)
    for role in workloads:
        place.run(
            "wait", "-n", NAMESPACE, f"pod/by-hand-{role}", "--for=condition=Ready", "--timeout=120s", limit_seconds=130
        )
    address = place.get("pod", "by-hand-verifier", "-n", NAMESPACE)["status"]["podIP"]
    begun = time.monotonic()
    running = [_exec(place, role, command) for role, command in commands.items()]
    try:
        _first_token(f"http://{address}:{HTTP_PORT}", begun)
        return time.monotonic() - begun
    finally:
        place.run("delete", "pod", "-n", NAMESPACE, "by-hand-verifier", "by-hand-draft", "--grace-period=1")
        for process in running:
            process.wait(timeout=30)


def _sleeping(template: dict[str, Any], role: str) -> tuple[dict[str, Any], list[str]]:
    """A pod like the template's whose engine container sleeps, and the command that it would have run."""
    container = dict(template["spec"]["containers"][0])
    command = [*container["command"], *container.pop("args")]
    container["command"] = ["python", "-c", "import time; time.sleep(3600)"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        container.pop(probe, None)
    spec = {**template["spec"], "containers": [container], "terminationGracePeriodSeconds": 1}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"by-hand-{role}", "namespace": NAMESPACE},
        "spec": spec,
    }, command


def _exec(place: Place, role: str, command: list[str]) -> subprocess.Popen[bytes]:
    argv = place.command("-n", NAMESPACE, "exec", f"by-hand-{role}", "--", *command)
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# -- through the operator ------------------------------------------------------------------------------------------


def _through_the_operator(place: Place) -> dict[str, float]:
    """Seconds since `kubectl apply` at which each thing was seen, and the engine's own phases."""
    body = _body()
    begun = time.monotonic()
    place.run("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump({**body, "metadata": {"name": NAME}}))

    def since() -> float:
        return time.monotonic() - begun

    figures = {"applied_seconds": since()}
    selector = "tandem.dev/deployment=pair,tandem.dev/role=verifier"

    def pod() -> dict[str, Any]:
        items = place.get("pods", "-n", NAMESPACE, "-l", selector)["items"]
        return items[0] if items else {}

    _until(lambda: bool(pod().get("spec", {}).get("nodeName")), "the verifier pod is scheduled", begun)
    figures["scheduled_seconds"] = since()
    _until(lambda: bool(_running(pod())), "the verifier's container runs", begun)
    figures["container_seconds"] = since()
    service = place.get("service", NAME, "-n", NAMESPACE)["spec"]["clusterIP"]
    _first_token(f"http://{service}", begun)
    figures["first_token_seconds"] = since()
    _until(lambda: _is_ready(place), "the deployment is Ready on both roles", begun)
    figures["ready_seconds"] = since()
    metrics = f"http://{pod()['status']['podIP']}:{METRICS_PORT}"
    for phase in PHASES:
        figures[f"engine_{phase}_seconds"] = openai.sample(metrics, START_PHASE_SECONDS, phase=phase)
    return figures


def _running(pod: dict[str, Any]) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    found: dict[str, Any] = statuses[0].get("state", {}).get("running") or {}
    return found


def _is_ready(place: Place) -> bool:
    conditions = place.get("llm", NAME, "-n", NAMESPACE).get("status", {}).get("conditions", [])
    return any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)


def _first_token(address: str, begun: float) -> None:
    def answers() -> bool:
        try:
            openai.complete(address, model=NAME, prompt="def f(", max_tokens=1)
        except (OSError, json.JSONDecodeError):
            return False
        return True

    _until(answers, f"a token from {address}", begun)


def _until(condition: Callable[[], bool], what: str, begun: float) -> None:
    while not condition():
        if time.monotonic() - begun > LIMIT_SECONDS:
            raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s: {what}")
        time.sleep(0.1)


def _table(figures: dict[str, float]) -> str:
    rows = [
        ("kubectl apply has returned", "applied_seconds"),
        ("the verifier pod is scheduled", "scheduled_seconds"),
        ("its container runs", "container_seconds"),
        ("  engine: process", "engine_process_seconds"),
        ("  engine: weights", "engine_weights_seconds"),
        ("  engine: warm-up", "engine_warm_up_seconds"),
        ("first token through the Service", "first_token_seconds"),
        ("Ready, both roles", "ready_seconds"),
        ("the same engines by hand: first token", "by_hand_seconds"),
    ]
    return "\n".join(f"{name:42}{figures[key]:8.1f} s" for name, key in rows)


if __name__ == "__main__":
    raise SystemExit(main())
