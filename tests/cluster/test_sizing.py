"""A count that the user leaves out, on a real API server: it waits for the inspection, is told, and stays."""

from __future__ import annotations

from tests.cluster.world import ON_FAKE_NODES, Manifest, World, sample

GPU = "nvidia.com/gpu"
OURS = "tandem.dev/deployment=llama-70b"


def unsized(claim: str = "models") -> Manifest:
    """The sample pair with both counts left out."""
    body = sample("gpu-pair")
    for role in ("verifier", "draft"):
        del body["spec"][role]["accelerator"]["count"]
        body["spec"][role]["model"]["source"]["persistentVolumeClaim"]["claimName"] = claim
        body["spec"][role]["replicas"] = 1
    return body


def gpus(world: World) -> dict[str, str]:
    """GPUs that the pods of each role ask for."""
    found = world.get(f"deployments -l {OURS}")["items"]
    return {
        item["metadata"]["labels"]["tandem.dev/role"]: item["spec"]["template"]["spec"]["containers"][0]["resources"][
            "limits"
        ][GPU]
        for item in found
    }


def test_omitted_counts_follow_from_the_inspected_models_with_the_arithmetic_in_the_status(tandem: World) -> None:
    tandem.apply(unsized())
    tandem.wait_for("llama-70b", "Ready")
    assert gpus(tandem) == {"verifier": "1", "draft": "1"}, "what is inspected on fake nodes is a model of 1.2 billion"
    status = tandem.get("llm/llama-70b")["status"]
    for role, card in (("verifier", "nvidia-h100-80gb"), ("draft", "nvidia-l40s-48gb")):
        sentences = status[role]["sizing"]
        assert sentences[0] == "weights: 2.30 GiB of safetensors"
        assert any(sentence.startswith(f"1 × {card}: ") and "≤" in sentence for sentence in sentences)
    told = tandem.conditions("llama-70b")["SpeculationEffective"]
    assert (told["status"], told["reason"]) == ("Unknown", "PredictedSlower")
    assert "the draft is not smaller than the verifier" in told["message"]


def test_a_role_waits_for_its_model_and_a_given_count_ends_the_wait(tandem: World) -> None:
    tandem.apply(unsized(claim="missing"))
    for condition in ("VerifierReady", "DraftReady"):
        told = tandem.wait_for("llama-70b", condition, status="False", reason="ModelNotInspected")
        assert (
            "accelerator.count is omitted: it follows from the model, which has not been inspected" in told["message"]
        )
    assert tandem.wait_for("llama-70b", "Accepted")["reason"] == "Accepted"
    assert tandem.names("deployments", OURS) == []
    counts = {role: {"accelerator": {"count": 1}} for role in ("verifier", "draft")}
    tandem.patch("llm/llama-70b", {"spec": counts})
    tandem.wait_until(lambda: len(tandem.names("deployments", OURS)) == 2, "the pods of both roles are asked for")


def test_a_restarted_operator_neither_sizes_anew_nor_writes(tandem: World) -> None:
    tandem.apply(unsized())
    tandem.wait_for("llama-70b", "Ready")
    tandem.wait_for("llama-70b", "ArtifactsReady")
    tandem.operators[0].end()
    before, read = len(tandem.writes()), len(tandem.audited())
    tandem.operator("restarted", resyncSeconds=0.5).start()

    def resyncs() -> int:
        events = tandem.audited()[read:]
        return sum(e["verb"] == "list" and e["objectRef"]["resource"] == "llmdeployments" for e in events)

    tandem.wait_until(lambda: resyncs() >= 5, "resyncs of the restarted operator")
    assert tandem.writes()[before:] == []


def test_a_smaller_card_in_the_table_restarts_nothing_and_is_told(tandem: World) -> None:
    tandem.apply(unsized())
    tandem.wait_for("llama-70b", "Ready")
    tandem.operators[0].end()
    names = tandem.names("deployments", OURS)
    table = {**ON_FAKE_NODES["accelerators"], "nvidia-h100-80gb": {"memoryGib": 8}}
    tandem.operator("smaller", accelerators=table).start()
    told = tandem.wait_for("llama-70b", "VerifierReady", reason="RevisionOutdated")
    assert "`tandem refresh llama-70b` rolls it out" in told["message"]
    assert tandem.names("deployments", OURS) == names
    assert gpus(tandem)["verifier"] == "1"
