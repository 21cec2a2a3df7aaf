"""Every recipe by real llm-compressor: what it writes, what that costs, and what the gate says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.fixtures.environment import artifacts_environment
from deploy.fixtures.pair import ModelPair
from tandem_contracts.quality import Quality, Thresholds, shortcomings
from tandem_contracts.recipe import Scheme
from tests.runtime.probes import answers_of

pytestmark = pytest.mark.timeout(900)

FORMATS = {
    Scheme.FP8_DYNAMIC: "float-quantized",
    Scheme.FP8_BLOCK: "float-quantized",
    Scheme.W8A8: "int-quantized",
    Scheme.W4A16: "pack-quantized",
    Scheme.W4A16_ASYM: "pack-quantized",
    Scheme.W2A16: "pack-quantized",
    Scheme.NVFP4: "nvfp4-pack-quantized",
    Scheme.MXFP4: "mxfp4-pack-quantized",
    Scheme.MXFP8: "mxfp8-quantized",
}
SMALL = Thresholds(perplexity_increase_percent=8.0, kl_divergence=0.08, top1_agreement=0.75)
"""For a model of two layers, which quantizing hurts more than it does large ones."""


@pytest.fixture(scope="module")
def answers(models: ModelPair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("recipes")
    probe = "artifacts/matrix_probe.py"
    return answers_of(probe, str(models.draft), str(folder), python=artifacts_environment(), limit_seconds=800)


def quality_in(data: object) -> Quality:
    return Quality.from_data(data)


NAMES = [f"{scheme}-{algorithm}" for scheme in Scheme for algorithm in scheme.algorithms] + ["W8A8-KV"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_writes_what_it_says_at_the_size_that_was_predicted(answers: dict[str, Any], name: str) -> None:
    told, scheme = answers["recipes"][name], Scheme(name.split("-", 1)[0])
    assert told["format"] == FORMATS[scheme]
    assert told["kv"] is name.endswith("-KV")
    assert told["bytes"] == pytest.approx(told["predicted"], rel=0.02)
    assert told["code"] == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("W2A16")])
def test_what_can_be_served_passes_the_gate(answers: dict[str, Any], name: str) -> None:
    assert shortcomings(quality_in(answers["recipes"][name]["quality"]), SMALL) == ()


def test_two_bits_do_not_pass_by_any_of_the_figures_that_perplexity_hides(answers: dict[str, Any]) -> None:
    quality = quality_in(answers["recipes"]["W2A16-RTN"]["quality"])
    assert quality.kl_divergence > SMALL.kl_divergence
    assert quality.top1_agreement < SMALL.top1_agreement


def test_progress_is_told_by_files_and_by_layers(answers: dict[str, Any], models: ModelPair) -> None:
    layers = json.loads((models.draft / "config.json").read_text())["num_hidden_layers"]
    assert {total for _, total in answers["progress"]["W8A8-RTN"]} == {1}
    done = [tuple(seen) for seen in answers["progress"]["W4A16-GPTQ"]]
    assert done == sorted(done)
    assert (done[0], done[-1]) == ((0, layers + 1), (layers, layers + 1))


@pytest.mark.parametrize("harm", ["flipped", "shuffled"])
def test_damage_to_the_files_does_not_pass(answers: dict[str, Any], harm: str) -> None:
    assert shortcomings(quality_in(answers[harm]), SMALL)


def test_the_same_recipe_makes_the_same_bytes_and_with_other_threads_the_same_quality(answers: dict[str, Any]) -> None:
    assert answers["same"] == {"RTN": True, "GPTQ": True}
    assert answers["same with other threads"]["RTN"]
    usual = quality_in(answers["recipes"]["W4A16-GPTQ"]["quality"])
    assert quality_in(answers["other threads"]).kl_divergence == pytest.approx(usual.kl_divergence, abs=1e-4)


def test_calibrated_weights_are_nearer_to_the_source_than_rounded_ones(answers: dict[str, Any]) -> None:
    divergence = {
        name: quality_in(answers["recipes"][f"W4A16-{name}"]["quality"]).kl_divergence for name in ("RTN", "GPTQ")
    }
    assert divergence["GPTQ"] < divergence["RTN"]
