"""Scaling on the real node: load breaks a latency target, as a real Prometheus tells, a second vLLM pod comes, the load
ends, and it goes; and to zero and back without a lost request, by the pods' own pages."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from deploy import chart, openai
from deploy.load import Load
from deploy.local.processes import wait_until
from tandem_contracts import metrics
from tandem_operator.cli.main import main as tandem
from tests.cluster.aggregation import host_of
from tests.e2e.conftest import Site
from tests.e2e.learning import learn
from tests.e2e.quantizing import conditions_of
from tests.prometheus.server import Prometheus, finding_verifiers, running_prometheus

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(1500)]

NAME, SLEEPY = "busy", "sleepy"
CLIENTS, OUTPUT_TOKENS = 5, 384
"""One more than a pod takes at once: with two pods, connections that go to either by chance seldom meet so on one."""
ROOM = 3
"""So many clients never wait for one another at a pod."""
TARGET_SHARE = 0.9
ONE = {"minReplicas": 1, "maxReplicas": 1}
ASK_EVERY_SECONDS = 0.5
LEARNING_CLIENTS = 1, 4
"""In turns: the pace of a step is learned from loads that differ."""
BY_COUNT_NEVER = 64
"""Requests a pod by rule of thumb: more than there ever are, so that only what was learned can ask for a second pod."""


def _deployment(name: str = NAME, **further: Any) -> dict[str, Any]:
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}}
    verifier = {
        "model": {"source": source},
        "engine": {"scheduler": {"maxSequences": 4}},
        "accelerator": {"classes": ["cpu"], "count": 1},
    }
    autoscaling = {
        "slo": {"percentile": round(100 * TARGET_SHARE), "timeToFirstToken": "60s"},
        "verifier": {"minReplicas": 1, "maxReplicas": 2},
        "requestsPerReplica": 4,
        "surgeQuantile": "0",  # or what has come at once would be insured for half an hour
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        **further,
    }
    metadata = {"name": name}
    spec = {"verifier": verifier, "autoscaling": autoscaling}
    return {"apiVersion": "tandem.dev/v1alpha1", "kind": "LLMDeployment", "metadata": metadata, "spec": spec}


class _Asking:
    """Asks for a few tokens again and again, each request in a thread and on a connection of its own, from when the
    block is entered until it is left. What was not answered is raised then."""

    def __init__(self, address: str) -> None:
        self._address, self._is_over = address, threading.Event()
        self._requests: list[threading.Thread] = []
        self._clock = threading.Thread(target=self._ask_on)
        self.failed: list[Exception] = []
        self.answered = 0
        self.longest_seconds = 0.0

    def __enter__(self) -> _Asking:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in (self._clock, *self._requests):
            thread.join()
        assert self.failed == []

    def _ask_on(self) -> None:
        while not self._is_over.wait(ASK_EVERY_SECONDS):
            self._requests.append(threading.Thread(target=self._ask))
            self._requests[-1].start()

    def _ask(self) -> None:
        begun = time.monotonic()
        try:
            openai.complete(self._address, model=SLEEPY, prompt="def f(", max_tokens=8, limit_seconds=400)
        except Exception as error:  # noqa: BLE001 -- of a thread: told by the test
            self.failed.append(error)
        else:
            self.answered += 1
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - begun)


def _scaling(site: Site, name: str = NAME) -> dict[str, Any]:
    found: dict[str, Any] = (site.get("llm", name).get("status") or {}).get("scaling") or {}
    return found


def _configure(site: Site, **prometheus: Any) -> None:
    """Install the operator anew with such a configuration."""
    values = chart.values_of(site.references)
    values["config"]["prometheus"] = prometheus
    chart.install(site.place, site.namespace, values={**values, "crds": {"install": False}})


@pytest.fixture
def prometheus(site: Site, tmp_path: Path) -> Iterator[Prometheus]:
    """Finds the verifiers by itself; the operator reads all of them there."""
    job = finding_verifiers(site.place.kubeconfig, site.namespace)
    with running_prometheus(tmp_path, [job], interval="5s", host=host_of(site.cluster)) as server:
        _configure(site, address=server.address, abovePods=0)
        yield server
        pods = ("pods", "-l", f"tandem.dev/deployment={NAME}")
        site.run("delete", f"llm/{NAME}", "--ignore-not-found")
        site.run("wait", "--for=delete", *pods, "--timeout=300s", limit_seconds=310)
        _configure(site)


def _target_seconds(address: str) -> float:
    """Machines differ: a bound of the engines' histograms between what a first token takes at a pod with room and at a
    full one, where it waits until another answer is over."""
    with Load(address, model=NAME, clients=ROOM, max_tokens=OUTPUT_TOKENS) as load:
        answered = partial(load.since, 300)
        wait_until(lambda: len(answered()) >= 4 * ROOM, f"{4 * ROOM} answers without a queue", limit_seconds=200)
        seen = answered()[ROOM:]  # the first ones are slower
    quick = max(each.first_token_seconds for each in seen)
    queued = min(each.seconds for each in seen) / (CLIENTS - 1)
    return max(bound for bound in metrics.LATENCY_GRID if bound <= sqrt(quick * queued))


def _autoscale(site: Site, **changed: Any) -> None:
    patch = {"spec": {"autoscaling": changed}}
    site.run("patch", f"llm/{NAME}", "--type=merge", "-p", json.dumps(patch))


@pytest.mark.campaign  # to learn the pace takes minutes
def test_load_brings_a_second_pod_and_its_end_takes_it_away(
    site: Site, prometheus: Prometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    site.apply(_deployment(verifier=ONE, requestsPerReplica=BY_COUNT_NEVER))
    site.wait_ready(NAME)
    prometheus.wait_for(metrics.ENGINE_RUNNING, 0)
    site.wait_until(
        lambda: conditions_of(site, NAME)["ScalingActive"]["reason"] == "Deciding", "scaling decides", limit_seconds=120
    )
    learn(site, NAME, clients=LEARNING_CLIENTS, max_tokens=OUTPUT_TOKENS)
    target = _target_seconds(site.address(NAME))
    before = site.get("pods", "-l", f"tandem.dev/deployment={NAME}")["items"]
    slo = {"percentile": round(100 * TARGET_SHARE), "timeToFirstToken": f"{1000 * target:.0f}ms"}
    _autoscale(site, slo=slo)
    with Load(site.address(NAME), model=NAME, clients=CLIENTS, max_tokens=OUTPUT_TOKENS) as load:
        # A second one would be there before enough requests have missed it, were it allowed from the start.
        site.wait_until(lambda: _scaling(site).get("target") == "Missed", "the target is missed", limit_seconds=400)
        conditions = conditions_of(site, NAME)
        assert conditions["Ready"]["status"] == "True", "what serves late serves"
        assert conditions["LatencyTargetMet"]["reason"] == "TargetMissed"
        assert (load.share_within(target, last_seconds=30) or 0) < TARGET_SHARE
        _autoscale(site, verifier={"minReplicas": 1, "maxReplicas": 2})
        site.wait_until(lambda: _scaling(site).get("desiredVerifiers") == 2, "a second verifier", limit_seconds=120)
        site.wait_until(
            lambda: site.get("llm", NAME)["status"]["verifier"]["readyReplicas"] == 2, "two pods", limit_seconds=240
        )
        site.wait_until(
            lambda: (load.share_within(target, last_seconds=20) or 0) >= TARGET_SHARE,
            "under the same load the target holds again",
            limit_seconds=120,
        )
    assert load.failed == []
    pods = site.get("pods", "-l", f"tandem.dev/deployment={NAME}")["items"]
    assert len(pods) == 2
    assert {each["metadata"]["uid"] for each in before} < {each["metadata"]["uid"] for each in pods}, "no restart"
    bucket = f"{metrics.ENGINE_FIRST_TOKEN_SECONDS}_bucket"
    for pod in pods:  # the engine has the grid: a target on it is exact
        address = f"http://{pod['status']['podIP']}:8000"
        assert openai.sample(address, bucket, engine="0", le=str(target), model_name=NAME) >= 0
    site.wait_until(lambda: _scaling(site).get("desiredVerifiers") == 1, "it is taken away again", limit_seconds=500)
    remembered = json.loads(site.get("configmap", f"{NAME}-scaling")["data"]["verifier"])
    assert [(each["from"], each["to"]) for each in remembered["decisions"]] == [(1, 2), (2, 1)]
    up = remembered["decisions"][0]
    assert "; a pod does " in up["reason"], "by what was learned, not by a count of requests"
    assert {"capacity", "samples"} <= up["inputs"].keys()
    kubeconfig = str(site.place.kubeconfig)
    assert tandem(["why", NAME, "-n", site.namespace, "--kubeconfig", kubeconfig]) == 0
    told = capsys.readouterr().out
    assert told.startswith("1 verifier: ")
    assert "1 → 2" in told
    writes = [
        e for e in site.writes() if e["objectRef"]["resource"] == "deployments" and NAME in e["objectRef"]["name"]
    ]
    assert len(writes) <= 4, "made, up, down, and no back and forth"


def _is_at_gate(site: Site) -> bool:
    return bool(site.get("service", SLEEPY)["spec"]["selector"].get("app.kubernetes.io/component") == "gate")


def _pods(site: Site, component: str) -> list[str]:
    labels = f"tandem.dev/deployment={SLEEPY},app.kubernetes.io/component={component}"
    return [pod["metadata"]["name"] for pod in site.get("pods", "-l", labels)["items"]]


def test_to_zero_and_back_loses_no_request(site: Site) -> None:
    site.apply(_deployment(SLEEPY, verifier=ONE, idle={"after": "30s", "holdTimeout": "6m"}))
    site.wait_ready(SLEEPY)
    address = site.address(SLEEPY)
    site.wait_until(lambda: _is_at_gate(site), "the Service moves to the gate", limit_seconds=120)
    first = _pods(site, "verifier")
    with _Asking(address) as asked:  # from the very moment of the switch on
        site.wait_until(lambda: not _is_at_gate(site), "the Service moves back", limit_seconds=60)
        site.wait_until(lambda: not _pods(site, "gate"), "the gate goes", limit_seconds=60)
    assert asked.answered > 0
    assert _pods(site, "verifier") == first, "they had not gone yet"
    site.wait_until(
        lambda: _is_at_gate(site) and site.get("llm", SLEEPY)["status"]["verifier"]["replicas"] == 0,
        "the last verifier is told to go",
        limit_seconds=180,
    )
    with _Asking(address) as asked:
        site.wait_until(lambda: _scaling(site, SLEEPY).get("desiredVerifiers", 0) > 0, "it wakes", limit_seconds=60)
        assert conditions_of(site, SLEEPY)["Available"]["reason"] == "Idle"
        site.wait_until(lambda: not _is_at_gate(site), "the Service moves to a verifier", limit_seconds=300)
        site.wait_until(lambda: not _pods(site, "gate"), "the gate goes", limit_seconds=120)
    assert asked.answered > asked.longest_seconds, "they came all the time, and were answered at the end"
    assert asked.longest_seconds > 5, "the first ones were held while an engine started"
    assert not set(_pods(site, "verifier")) & set(first)
    site.wait_until(lambda: not _pods(site, "verifier"), "no verifier is left", limit_seconds=240)
    conditions = conditions_of(site, SLEEPY)
    assert (conditions["Available"]["status"], conditions["Available"]["reason"]) == ("True", "Idle")
    assert conditions["Ready"]["status"] == "True"
    assert openai.models(address) == [SLEEPY], "the gate answers what needs no engine, and wakes nobody"
    assert _scaling(site, SLEEPY)["desiredVerifiers"] == 0
    _wait_until_sent_away(site, address)


def _wait_until_sent_away(site: Site, address: str) -> None:
    """A request that is held while its deployment is deleted is told so, long before the time that it may be held."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(openai.complete, address, model=SLEEPY, prompt="def f(", max_tokens=8, limit_seconds=400)
        site.wait_until(lambda: _scaling(site, SLEEPY)["desiredVerifiers"] > 0, "it wakes")
        site.run("delete", f"llm/{SLEEPY}")
        error = held.exception(timeout=90)
    assert isinstance(error, urllib.error.HTTPError)
    assert (error.code, error.headers["Retry-After"]) == (503, "10")
    site.wait_until(lambda: not _pods(site, "gate"), "the gate goes", limit_seconds=60)
