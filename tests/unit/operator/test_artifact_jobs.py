"""The objects of artifacts that are fetched or quantized, as reviewed; what their programs are started with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.artifact_job import HubSource
from tandem_contracts.recipe import CalibrationSettings, Recipe
from tandem_contracts.termination import Phase
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_steps import Measurement, Step
from tandem_operator.facts import Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.objects.artifact_jobs import artifact_of
from tests.builders import NAMESPACE, make_config
from tests.unit.operator.artifacts import SOURCE, make_artifact_body, make_job, make_texts, need_of
from tests.unit.operator.golden import golden_difference

SETTINGS = Settings.of(make_config(modelHubs={"inner": "https://hub.example"}))
GATED = {"huggingFace": {"repo": "team/model", "hub": "inner", "secretKeyRef": {"name": "hf", "key": "token"}}}
BODY = make_artifact_body(
    source=GATED,
    classes=("nvidia-h100-80gb",),
    quantization={
        "scheme": "W4A16",
        "calibration": {"samples": 64, **make_texts("calib")},
        "gate": {"evaluation": make_texts("eval")},
        "job": {"classes": ["nvidia-h100-80gb"], "memory": "64Gi"},
    },
)
NEED = need_of(BODY, SETTINGS)
FACTS = replace(SOURCE, files=ModelFiles(claim_name="cache", path=NEED.artifacts[0].key))
STEPS = {
    "fetch": Step(Phase.FETCH),
    "quantize": Step(Phase.QUANTIZE),
    "evaluate": Step(Phase.EVALUATE, Measurement.of_gate(NEED.gate)),
    "evict": Step(Phase.EVICT),
}


def job(name: str) -> Manifest:
    spec = NEED.artifacts[0] if name == "fetch" else NEED.artifact
    made = make_job(spec, STEPS[name], by=[BODY], source=FACTS, settings=SETTINGS)
    metadata = {key: value for key, value in made["metadata"].items() if key not in {"uid", "resourceVersion"}}
    return {key: value for key, value in {**made, "metadata": metadata}.items() if key != "status"}


@pytest.mark.parametrize("name", STEPS)
def test_the_job_of_a_step_is_as_reviewed(name: str) -> None:
    artifacts = {
        "fetch": [artifact_of(NEED.artifacts[0], NAMESPACE)],
        "quantize": [artifact_of(NEED.artifact, NAMESPACE)],
    }
    assert golden_difference(f"{name}-job", [*artifacts.get(name, []), job(name)]) == ""


def arguments_of(name: str) -> dict[str, Any]:
    given = job(name)["spec"]["template"]["spec"]["containers"][0]["args"]
    return dict(argument.removeprefix("--").split("=", 1) for argument in given)


def test_programs_read_what_the_operator_means() -> None:
    fetched, quantized = arguments_of("fetch"), arguments_of("quantize")
    source = HubSource.from_data(json.loads(fetched["source"]))
    assert source == HubSource(repo="team/model", revision="main", endpoint="https://hub.example")
    assert NEED.artifact.quantization is not None
    assert Recipe.from_data(json.loads(quantized["recipe"])) == NEED.artifact.quantization.recipe
    assert CalibrationSettings.from_data(json.loads(quantized["calibration"])).samples == 64
    assert arguments_of("evict") == {"key": NEED.key}
    for name in ("quantize", "evaluate"):
        assert arguments_of(name)["source"] == f"/artifacts/{NEED.artifacts[0].key}"
