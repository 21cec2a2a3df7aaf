"""Scaling by a real Prometheus that finds the pods itself, and what is told of one that cannot be asked.

Pods on fake nodes have no network: Prometheus gets their pages at an address of this machine instead.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.pki import Leaf, authority_in, issue
from tandem_contracts.metrics import ENGINE_RUNNING
from tandem_operator import names
from tandem_operator.facts import Manifest
from tests.cluster.scaled import NAME, make_deployment, workload
from tests.cluster.world import World
from tests.prometheus.exporters import Exporters, serving_pages
from tests.prometheus.server import LOOPBACK, Prometheus, finding_verifiers, running_prometheus
from tests.prometheus.token_proxy import asking_for
from tests.unit.operator.test_scaling_reading import PAGE

IDLE_PAGE = re.sub(r"(?m)^(vllm:num_requests_.*) \d+\.0$", r"\1 0.0", PAGE)
PAST_THE_HOLD_SECONDS = 20
"""Of two cold starts, which are said to take a second, and of three intervals in which a reading grows old."""


@pytest.fixture
def exporters() -> Iterator[Exporters]:
    """Each pod runs four requests, and two wait."""
    with serving_pages() as pages:
        pages.usual = lambda: PAGE
        yield pages


@pytest.fixture
def prometheus(world: World, exporters: Exporters) -> Iterator[Prometheus]:
    """Scraping the verifiers of the namespace."""
    job = finding_verifiers(
        world.place.kubeconfig,
        world.namespace,
        {"source_labels": ["pod"], "target_label": "__metrics_path__", "replacement": "/$1/metrics"},
        {"target_label": "__address__", "replacement": exporters.address},
    )
    with running_prometheus(world.folder / "prometheus", [job], interval="1s") as server:
        yield server


def _autoscaled() -> Manifest:
    """By requests in work, ten a replica; down as soon as may be."""
    body = make_deployment()
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 5}]}
    body["spec"]["autoscaling"] |= {
        "strategy": "Concurrency",
        "requestsPerReplica": 10,
        "behavior": {"scaleDown": at_once},
    }
    return body


def _replicas(world: World) -> int:
    found: int = workload(world)["spec"]["replicas"]
    return found


def _restart(world: World, meanwhile: Callable[[World], None] = lambda _: None, **prometheus: Any) -> None:
    """The operator, with another configuration; it knows no readings then."""
    for operator in world.operators:
        operator.end(signal.SIGTERM)
    meanwhile(world)
    world.operator(prometheus={"abovePods": 0, **prometheus}).start()


def _remember_quick_starts(world: World) -> None:
    """As if pods had been seen to start within a second: then a hold is over after two."""
    name = f"{NAME}-scaling"
    kept = json.loads(world.get(f"configmap/{name}")["data"]["verifier"])
    kept["memory"]["coldStarts"] = {workload(world)["metadata"]["labels"][names.LABEL_REVISION]: [1.0]}
    world.patch(f"configmap/{name}", {"data": {"verifier": json.dumps(kept)}})


def _wait_for_active(world: World, *, status: str, told: str) -> None:
    """A reading comes after the pass that asks for it, and news are told once a minute: neither is waited for."""
    labels = itertools.count()

    def holds() -> bool:
        forgotten = ("--subresource=status", "--type=merge", "-p", '{"status": {"scaling": null}}')
        world.run("patch", f"llm/{NAME}", *forgotten)
        world.run("label", f"llm/{NAME}", f"looked={next(labels)}", "--overwrite")
        found = world.conditions(NAME).get("ScalingActive", {})
        return found.get("status") == status and told in found.get("message", "")

    world.wait_until(holds, f"ScalingActive={status} with {told!r}")


@pytest.mark.timeout(300)
def test_replicas_follow_what_a_real_prometheus_scrapes(
    world: World, prometheus: Prometheus, exporters: Exporters
) -> None:
    world.operator(prometheus={"abovePods": 0, "address": prometheus.address}).start()
    world.apply(_autoscaled())
    world.wait_for(NAME, "Ready")
    prometheus.wait_for(ENGINE_RUNNING, 1, 1, 3, 3)
    _restart(world, address=prometheus.address)
    _wait_for_active(world, status="True", told="")
    assert _replicas(world) == 2
    exporters.usual = lambda: IDLE_PAGE
    for pod in world.names("pods", "tandem.dev/role=verifier"):
        exporters.serve(pod, PAGE.replace('model_name="code"} 3.0', 'model_name="code"} 27.0'))
    prometheus.wait_for(ENGINE_RUNNING, 1, 1, 27, 27)
    _restart(world, _remember_quick_starts, address=prometheus.address)
    _wait_for_active(world, status="True", told="")
    world.wait_until(lambda: _replicas(world) == 6, "room for 30 requests at each of two pods, ten a replica")
    # A hold is over after seconds here: what is not there any more takes nothing away, what has nothing to do does.
    world.wait_for(NAME, "Ready")
    exporters.usual = None
    exporters.pages.clear()
    _wait_for_active(world, status="False", told="say nothing new of their load")
    longest = time.monotonic() + PAST_THE_HOLD_SECONDS
    world.wait_until(lambda: time.monotonic() > longest or _replicas(world) < 6, "what silence takes away")
    assert _replicas(world) >= 6
    exporters.usual = lambda: IDLE_PAGE
    world.wait_until(lambda: _replicas(world) == 2, "engines that have nothing to do are taken away")


def test_what_keeps_prometheus_from_answering_is_told(world: World, tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        issue(authority_in(folder), [Leaf("server", "prometheus", addresses=(LOOPBACK,))])
    tls = {"cert_file": str(ours / "server.crt"), "key_file": str(ours / "server.key")}
    token = tmp_path / "token"
    token.write_text("wrong")
    with running_prometheus(tmp_path / "tls", [], web={"tls_server_config": tls}) as server:
        with asking_for("right", behind=server.address) as address:
            world.operator(prometheus={"abovePods": 0, "address": address, "bearerTokenFile": str(token)}).start()
            world.apply(_autoscaled())
            world.wait_for(NAME, "Ready")
            _wait_for_active(world, status="False", told=f"(Prometheus at {address}: answered 401)")
        _restart(world, address=server.address, caFile=str(others / "ca.crt"))
        _wait_for_active(world, status="False", told="CERTIFICATE_VERIFY_FAILED")
    _restart(world, address=server.address, caFile=str(ours / "ca.crt"))
    _wait_for_active(world, status="False", told="Cannot connect")
