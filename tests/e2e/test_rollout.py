"""Rollouts, also over an upgrade of the operator, and scaling, under load of streams: no request is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy import chart, openai
from tests.cluster.world import sample
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]

NAME = "pair"
CLIENTS = 2
PAUSE_SECONDS = 0.3  # between two requests of a client: an engine that starts beside needs the cores too
MAX_TOKENS = 200
VERIFIERS = "tandem.dev/role=verifier"


@dataclass
class Load:
    """What the clients have seen so far."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)


@contextmanager
def load(address: str) -> Iterator[Load]:
    """Clients that stream one completion after another, each over a new connection, until the block ends."""
    seen, over, lock = Load(), threading.Event(), threading.Lock()

    def ask() -> None:
        while not over.wait(PAUSE_SECONDS):
            try:
                openai.stream(address, model=NAME, prompt="import os\n", max_tokens=MAX_TOKENS)
            except (OSError, EOFError) as error:
                with lock:
                    seen.lost.append(f"after {seen.answered}: {type(error).__name__} {error}")
            else:
                with lock:
                    seen.answered += 1

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(openai.LIMIT_SECONDS)


def _body(depth: int, replicas: int = 1) -> dict[str, Any]:
    body = sample("cpu-pair")
    del body["spec"]["draft"]
    body["spec"]["verifier"]["replicas"] = replicas
    body["spec"]["speculation"] = {"method": "NGram", "maxDepth": depth}
    return body


def _deployments(site: Site) -> list[str]:
    return [item["metadata"]["name"] for item in site.get("deployments", "-l", VERIFIERS)["items"]]


@pytest.fixture(scope="module")
def served(site: Site) -> Iterator[Site]:
    site.apply(_body(2))
    site.wait_ready(NAME)
    yield site
    site.run("delete", f"llm/{NAME}", "--ignore-not-found", "--timeout=60s", limit_seconds=70)


def _pods(site: Site) -> dict[str, int]:
    """Verifier pods by uid, with how often their container was started again."""
    found = site.get("pods", "-l", VERIFIERS)["items"]
    return {
        each["metadata"]["uid"]: sum(state["restartCount"] for state in each["status"].get("containerStatuses", []))
        for each in found
    }


def test_a_rollout_under_load_goes_on_over_an_upgrade_of_the_chart_and_loses_no_request(served: Site) -> None:
    old, (serving,) = _deployments(served), _pods(served)
    with load(served.address(NAME)) as seen:
        served.apply(_body(3))
        served.wait_until(lambda: len(_pods(served)) == 2, "a pod of the new revision beside the old one")
        (coming,) = _pods(served).keys() - {serving}
        values = chart.values_of(served.references)
        other = {**values, "crds": {"install": False}, "args": ["--log-level", "DEBUG"]}
        chart.install(served.place, served.namespace, values=other)
        served.wait_ready(NAME)
        moved = seen.answered
        served.wait_until(
            lambda: len(_deployments(served)) == 1 and _deployments(served) != old and serving not in _pods(served),
            "the old pods gone",
            limit_seconds=120,
        )
        served.wait_until(lambda: seen.answered > moved + 2 * CLIENTS, "answers of the new revision")
    assert seen.lost == []
    assert _pods(served) == {coming: 0}, "an upgrade of the operator has restarted or replaced a pod"


def test_scaling_up_and_down_under_load_loses_no_request(served: Site) -> None:
    with load(served.address(NAME)) as seen:
        served.run("scale", f"llm/{NAME}", "--replicas=2")
        served.wait_ready(NAME)
        served.run("scale", f"llm/{NAME}", "--replicas=1")
        served.wait_ready(NAME)
        selector = served.get("llm", NAME)["status"]["verifier"]["selector"]
        served.wait_until(
            lambda: len(served.get("pods", "-l", selector)["items"]) == 1, "one verifier pod", limit_seconds=120
        )
        before = seen.answered
        served.wait_until(lambda: seen.answered > before + CLIENTS, "answers of the pod that is left")
    assert seen.lost == []
