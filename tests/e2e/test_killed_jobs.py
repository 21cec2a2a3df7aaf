"""The pod of a Job is killed in every step, on the real node: the model is served in the end, nothing is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.e2e.quantizing import READY_LIMIT_SECONDS, artifacts_of, conditions_of, make_deployment

pytestmark = [pytest.mark.real_node, pytest.mark.campaign, pytest.mark.timeout(900)]


@pytest.mark.parametrize("phase", ["fetch", "quantize", "evaluate", "smoke"])
def test_a_pod_that_is_killed_in_its_step_costs_a_try_and_no_model(quantizing: Site, cache: Path, phase: str) -> None:
    name = f"killed-{phase}"
    # Another recipe each time, so that none is there already; and another source for the one that fetches.
    repo = "fixtures/draft" if phase == "fetch" else "fixtures/verifier"
    quantizing.apply(make_deployment(name, repo=repo, scheme="W8A8", ignore=["lm_head", f"re:.*{phase}$"]))
    running = ("pods", "-l", f"app.kubernetes.io/component={phase}", "--field-selector=status.phase=Running")
    quantizing.wait_until(lambda: bool(quantizing.get(*running)["items"]), f"a pod of {phase}", limit_seconds=300)
    (pod,) = quantizing.get(*running)["items"]
    quantizing.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
    quantizing.wait_until(
        lambda: conditions_of(quantizing, name).get("Ready", {}).get("status") == "True",
        "the model is served after all",
        limit_seconds=READY_LIMIT_SECONDS,
    )
    assert conditions_of(quantizing, name)["ArtifactsReady"]["reason"] == "GatePassed"
    staged = [path.name for path in (cache / ".staging").iterdir() if path.is_dir()]
    # What the killed pod had begun is swept when it is old; nothing else is left.
    assert len(staged) <= (phase in {"fetch", "quantize"})
    quantizing.run("delete", f"llm/{name}", "--wait=true", limit_seconds=60)


def test_an_eviction_whose_pod_is_killed_takes_the_files_away_all_the_same(quantizing: Site, cache: Path) -> None:
    there = [item for form, item in artifacts_of(quantizing).items() if form]
    assert there
    briefly = make_deployment("evicted", scheme="W8A8", ignore=["lm_head", "re:.*smoke$"])
    briefly["spec"]["cache"]["ttlAfterUnused"] = "0s"
    quantizing.apply(briefly)
    quantizing.wait_until(
        lambda: conditions_of(quantizing, "evicted").get("ArtifactsReady", {}).get("status") == "True", "a hit"
    )
    key = json.loads(quantizing.run("get", "llm/evicted", "-o", "json"))["status"]["conditions"]
    message = next(c["message"] for c in key if c["type"] == "ArtifactsReady")
    name = message.rpartition("ModelArtifact ")[2].rstrip(")")
    quantizing.wait_until(
        lambda: quantizing.get("ma", name)["status"].get("ttlSeconds") == 0, "the artifact knows how long it is kept"
    )
    quantizing.run("delete", "llm/evicted", "--wait=true", limit_seconds=60)
    evicting = ("pods", "-l", f"app.kubernetes.io/component=evict,tandem.dev/artifact={name}")
    quantizing.wait_until(lambda: bool(quantizing.get(*evicting)["items"]), "a pod that evicts", limit_seconds=120)
    for pod in quantizing.get(*evicting)["items"]:
        quantizing.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
    quantizing.wait_until(
        lambda: name not in {item["metadata"]["name"] for item in quantizing.get("ma")["items"]},
        "the artifact is gone",
        limit_seconds=300,
    )
    assert not (cache / name).exists()
