"""Scaling by a latency target on the real node: load breaks it, a second vLLM pod comes, the load ends, and it goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deploy import openai
from tandem_contracts import metrics
from tandem_operator.cli.main import main as tandem
from tests.e2e.conftest import Site
from tests.e2e.quantizing import conditions_of

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]

NAME = "busy"
CLIENTS = 12


def _deployment() -> dict[str, Any]:
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}}
    verifier = {
        "model": {"source": source},
        "engine": {"scheduler": {"maxSequences": 4}},
        "accelerator": {"classes": ["cpu"], "count": 1},
    }
    autoscaling = {
        "slo": {"percentile": 90, "timeToFirstToken": "500ms"},
        "verifier": {"minReplicas": 1, "maxReplicas": 2},
        "requestsPerReplica": 4,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    }
    metadata = {"name": NAME}
    spec = {"verifier": verifier, "autoscaling": autoscaling}
    return {"apiVersion": "tandem.dev/v1alpha1", "kind": "LLMDeployment", "metadata": metadata, "spec": spec}


@contextmanager
def _load(address: str) -> Iterator[None]:
    """Clients that each ask again as soon as they are answered. What they are refused is raised at the end."""
    is_over, failed = threading.Event(), list[Exception]()

    def ask() -> None:
        while not is_over.is_set():
            try:
                openai.complete(address, model=NAME, prompt="def f(", max_tokens=64)
            except Exception as error:  # noqa: BLE001 -- of a thread: told by the test
                failed.append(error)
                return

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert failed == []


def _scaling(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = (site.get("llm", NAME).get("status") or {}).get("scaling") or {}
    return found


def test_load_brings_a_second_pod_and_its_end_takes_it_away(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.apply(_deployment())
    site.wait_ready(NAME)
    assert conditions_of(site, NAME)["ScalingActive"]["status"] == "True"
    with _load(site.address(NAME)):
        site.wait_until(lambda: _scaling(site).get("desiredVerifiers") == 2, "a second verifier", limit_seconds=120)
        site.wait_until(lambda: _scaling(site).get("target") == "Missed", "the target is missed", limit_seconds=120)
        conditions = conditions_of(site, NAME)
        assert conditions["Ready"]["status"] == "True", "one pod serves while the other starts"
        assert conditions["LatencyTargetMet"]["reason"] == "TargetMissed"
    site.wait_until(
        lambda: site.get("llm", NAME)["status"]["verifier"]["readyReplicas"] == 2, "two pods", limit_seconds=200
    )
    pods = site.get("pods", "-l", f"tandem.dev/deployment={NAME}")["items"]
    assert len(pods) == 2
    bucket = f"{metrics.ENGINE_FIRST_TOKEN_SECONDS}_bucket"
    for pod in pods:  # the engine has the grid: a target on it is exact
        address = f"http://{pod['status']['podIP']}:8000"
        for bound in ("0.08", "0.5", "1.5", "2.0"):
            assert openai.sample(address, bucket, engine="0", le=bound, model_name=NAME) >= 0
    site.wait_until(lambda: _scaling(site).get("desiredVerifiers") == 1, "it is taken away again", limit_seconds=500)
    remembered = json.loads(site.get("configmap", f"{NAME}-scaling")["data"]["verifier"])
    assert [(each["from"], each["to"]) for each in remembered["decisions"]] == [(1, 2), (2, 1)]
    kubeconfig = str(site.place.kubeconfig)
    assert tandem(["why", NAME, "-n", site.namespace, "--kubeconfig", kubeconfig]) == 0
    told = capsys.readouterr().out
    assert told.startswith("1 verifiers: ")
    assert "1 → 2" in told
    writes = [
        e for e in site.writes() if e["objectRef"]["resource"] == "deployments" and NAME in e["objectRef"]["name"]
    ]
    assert len(writes) <= 4, "made, up, down, and no back and forth"
