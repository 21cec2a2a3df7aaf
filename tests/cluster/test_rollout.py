"""A changed spec: another revision beside the serving one, the Service moved when it is Ready, the old one gone."""

from __future__ import annotations

from typing import Any

from tests.cluster.world import World, sample

VERIFIERS = "tandem.dev/role=verifier"
DRAFTS = "tandem.dev/role=draft"


def _selected(world: World, service: str = "llama-70b") -> str:
    revision: str = world.get(f"service/{service}")["spec"]["selector"]["tandem.dev/revision"]
    return revision


def _started(world: World) -> None:
    world.apply(sample("gpu-pair"))
    world.wait_for("llama-70b", "Ready")
    world.wait_for("llama-70b", "ArtifactsReady")


def test_the_service_moves_only_to_a_ready_revision_and_the_old_one_goes(tandem: World) -> None:
    _started(tandem)
    old = _selected(tandem)
    moved_while_unready: list[str] = []

    def is_done() -> bool:
        # The Service first: what it selects now must be Ready now. One that is gone a moment later was moved away from.
        selected = _selected(tandem)
        for item in tandem.get(f"deployment -l {VERIFIERS}")["items"]:
            is_selected = item["metadata"]["name"] == f"llama-70b-verifier-{selected}"
            if is_selected and item["status"].get("readyReplicas", 0) < item["spec"]["replicas"]:
                moved_while_unready.append(selected)
        return selected != old and tandem.names("deployments", VERIFIERS) == [f"llama-70b-verifier-{selected}"]

    tandem.patch("llm/llama-70b", {"spec": {"speculation": {"maxDepth": 3}}})
    tandem.wait_until(is_done, "the rollout to the second verifier revision")
    assert moved_while_unready == []
    tandem.wait_for("llama-70b", "Ready")
    assert tandem.names("services", DRAFTS) == [f"llama-70b-draft-{_selected(tandem)}"]


def test_a_revision_that_never_becomes_ready_leaves_the_old_one_serving(tandem: World) -> None:
    _started(tandem)
    old = _selected(tandem)
    # No node has this class, so the new pods stay unschedulable.
    verifier = sample("gpu-pair")["spec"]["verifier"]
    verifier["accelerator"] = {"classes": ["nvidia-h200-141gb"], "count": 2}
    tandem.patch("llm/llama-70b", {"spec": {"verifier": verifier}})
    tandem.wait_for("llama-70b", "Ready", status="False", reason="RollingOut")
    assert tandem.conditions("llama-70b")["Available"]["status"] == "True"
    assert _selected(tandem) == old
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    assert tandem.names("deployments", VERIFIERS) == [f"llama-70b-verifier-{old}"]


def test_a_draft_only_change_restarts_no_verifier(tandem: World) -> None:
    _started(tandem)
    pods = tandem.names("pods", VERIFIERS)
    verifier = _selected(tandem)
    drafts = tandem.names("deployments", DRAFTS)
    draft: dict[str, Any] = {"model": {"source": {"persistentVolumeClaim": {"path": "another-draft"}}}}
    tandem.patch("llm/llama-70b", {"spec": {"draft": draft}})
    tandem.wait_for("llama-70b", "Ready")
    tandem.wait_until(lambda: len(tandem.names("deployments", DRAFTS)) == 1, "one draft revision")
    assert tandem.names("deployments", DRAFTS) != drafts
    assert tandem.names("pods", VERIFIERS) == pods
    assert _selected(tandem) == verifier
    revision = tandem.get("llm/llama-70b")["status"]["draft"]["revision"]
    assert _selected(tandem, f"llama-70b-draft-{verifier}") == revision


def test_switching_to_ngram_takes_the_draft_pods_away_after_the_switch(tandem: World) -> None:
    _started(tandem)
    drafts = tandem.names("deployments,services", DRAFTS)
    before = len(tandem.writes())
    tandem.patch("llm/llama-70b", {"spec": {"speculation": {"method": "NGram"}}})
    tandem.wait_for("llama-70b", "DraftReady", reason="NotUsed")
    tandem.wait_for("llama-70b", "Ready")
    tandem.wait_until(lambda: tandem.names("deployments,services", DRAFTS) == [], "the draft objects gone")
    written = [(w["verb"], w["objectRef"]["name"]) for w in tandem.writes()[before:] if "name" in w["objectRef"]]
    switched = written.index(("patch", "llama-70b"))
    assert {written.index(("delete", name)) > switched for name in drafts} == {True}


def test_a_bad_spec_never_stops_a_good_service(tandem: World) -> None:
    _started(tandem)
    pods = tandem.names("pods", VERIFIERS)
    classes = {"spec": {"verifier": {"accelerator": {"classes": ["nvidia-h1000"]}}}}
    tandem.patch("llm/llama-70b", classes)
    stalled = tandem.wait_for("llama-70b", "Stalled", reason="UnknownAcceleratorClass")
    assert "spec.verifier.accelerator.classes (is nvidia-h1000)" in stalled["message"]
    assert "nvidia-h100-80gb" in stalled["message"]
    assert tandem.conditions("llama-70b")["Available"]["status"] == "True"
    tandem.run("delete", "deployment", "-l", VERIFIERS, "--wait=true")
    tandem.wait_until(
        lambda: (
            tandem.conditions("llama-70b")["Available"]["status"] == "True"
            and len(tandem.names("deployments", VERIFIERS)) == 1
        ),
        "the last good revision repaired while the spec is bad",
    )
    assert tandem.names("pods", VERIFIERS) != pods
    tandem.patch("llm/llama-70b", {"spec": {"verifier": {"accelerator": {"classes": ["nvidia-h100-80gb"]}}}})
    tandem.wait_for("llama-70b", "Ready")


def test_an_operator_with_other_defaults_restarts_no_pod(tandem: World) -> None:
    _started(tandem)
    pods = tandem.names("pods")
    tandem.operators[0].end()
    images = {"cpu": "tandem.local/engine-cpu:other", "gpu": "tandem.local/engine-gpu:other"}
    tandem.operator("upgraded", engineImages=images, resyncSeconds=0.5).start()
    before = len(tandem.writes())
    tandem.run("scale", "llm/llama-70b", "--replicas=3")
    tandem.wait_for("llama-70b", "Ready")
    assert set(pods) <= set(tandem.names("pods"))
    assert {w["objectRef"]["resource"] for w in tandem.writes()[before:]} <= {"deployments", "llmdeployments", "events"}
