"""What a real engine says of its start and of its end reaches the status, without a right on its log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.world import sample
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]


def _alone(name: str, path: str = "verifier") -> dict[str, Any]:
    """A verifier without drafts."""
    body = sample("cpu-pair", speculation={"method": "Off"})
    del body["spec"]["draft"]
    body["metadata"]["name"] = name
    body["spec"]["verifier"]["model"]["source"]["persistentVolumeClaim"]["path"] = path
    return body


@pytest.fixture
def applied(site: Site) -> Iterator[Site]:
    """The site; what the test applies is deleted afterwards."""
    yield site
    site.run("delete", "llm", "--all", "--timeout=90s", limit_seconds=100)


def test_the_start_of_a_verifier_is_told_by_phase(applied: Site) -> None:
    applied.apply(_alone("timed"))
    applied.wait_ready("timed")

    def start() -> dict[str, str]:
        found: dict[str, str] = applied.get("llm", "timed")["status"].get("coldStart") or {}
        return found

    applied.wait_until(lambda: "weights" in start(), "what the launcher has timed", limit_seconds=120)
    told = start()
    (pod,) = [item["metadata"]["name"] for item in applied.get("pods", "-l", "tandem.dev/deployment=timed")["items"]]
    assert told["pod"] == pod
    assert {"schedule", "pull", "process", "weights", "warmUp", "total"} <= told.keys()
    seconds = {phase: float(took.removesuffix("s")) for phase, took in told.items() if phase != "pod"}
    # Each is rounded, times of a pod to a second, and between two health checks nobody counts.
    assert sum(seconds.values()) - seconds["total"] <= seconds["total"] + 5
    assert seconds["process"] > 0


def test_the_root_cause_of_a_failed_engine_is_its_condition(applied: Site) -> None:
    applied.apply(_alone("broken", "no-such-model"))

    def message() -> str:
        conditions = (applied.get("llm", "broken").get("status") or {}).get("conditions") or []
        return next((c["message"] for c in conditions if c["type"] == "VerifierReady"), "")

    cause = "ModelNotFound: model path /models/no-such-model does not exist (phase check)"
    applied.wait_until(lambda: message().endswith(cause), f"VerifierReady to say {cause}", limit_seconds=300)
    assert "pod broken-verifier-" in message()
