"""The inspect Job on the real node: what it says of the trained pair is what is in the folders, within seconds."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.fixtures.pair import ModelPair
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.model_reader import read_model
from tandem_operator.api.artifact import ModelArtifactSpec
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(400)]


def _artifact(path: str) -> dict[str, Any]:
    source = {"persistentVolumeClaim": {"claimName": "models", "path": path}}
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "ModelArtifact",
        "metadata": {"name": ModelArtifactSpec.parse({"source": source}).key},
        "spec": {"source": source},
    }


def _condition(site: Site, name: str, kind: str) -> dict[str, Any]:
    status = site.get("ma", name).get("status") or {}
    found: dict[str, Any] = next((c for c in status.get("conditions") or [] if c["type"] == kind), {})
    return found


@pytest.mark.parametrize("role", ["verifier", "draft"])
def test_the_facts_of_a_trained_model_arrive_in_the_status(site: Site, models: ModelPair, *, role: str) -> None:
    artifact = _artifact(role)
    name = artifact["metadata"]["name"]
    site.apply(artifact)
    site.wait_until(lambda: _condition(site, name, "Ready").get("status") == "True", f"{role} inspected")
    facts = ModelFacts.from_data(site.get("ma", name)["status"]["model"])
    assert facts == read_model(models.folder / role)
    assert facts.parameters > 0
    assert facts.tokenizer_hash


def test_the_pair_has_one_tokenizer(site: Site) -> None:
    hashes = {item["status"]["model"]["tokenizerHash"] for item in site.get("ma")["items"] if "model" in item["status"]}
    assert len(hashes) == 1


def test_a_folder_that_is_not_there_is_told_with_its_path(site: Site) -> None:
    artifact = _artifact("nowhere/at-all")
    name = artifact["metadata"]["name"]
    site.apply(artifact)
    site.wait_until(lambda: "reason" in _condition(site, name, "Stalled"), "the missing folder is told")
    stalled = _condition(site, name, "Stalled")
    assert stalled["reason"] == "ModelNotFound"
    assert "claim models, folder nowhere/at-all: /models/nowhere/at-all does not exist" in stalled["message"]


def test_the_jobs_pod_has_no_token_and_writes_nothing(site: Site) -> None:
    (pod, *_) = site.get("pods", "-l", "app.kubernetes.io/component=inspect")["items"]
    container = pod["spec"]["containers"][0]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/models"]
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert container["securityContext"]["readOnlyRootFilesystem"]
