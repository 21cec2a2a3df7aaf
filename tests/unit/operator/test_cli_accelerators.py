"""`tandem accelerators`: the table as a user reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tandem_operator.accelerators import SHIPPED
from tandem_operator.cli.accelerators import KEYS
from tandem_operator.cli.main import main
from tests.unit.operator.documents_written import absent, untold


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """Lines of the table by class."""
    assert main(["accelerators", *arguments]) == 0
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}


def test_every_shipped_class_is_listed_and_spot_twins_are_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = listed(capsys)
    assert lines.keys() == {*(line.name for line in SHIPPED), "Each"}
    assert "NAME-spot" in lines["Each"]


def test_a_line_has_the_figures_and_what_is_not_known_is_no_zero(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys)
    assert lines["nvidia-h100-80gb"].split()[:6] == [
        "nvidia-h100-80gb",
        "nvidia.com/gpu",
        "79.6",
        "3350",
        "989",
        "6.88",
    ]
    assert lines["amd-alveo-u55c-16gb"].split()[2:] == ["16", "460", "-", "-", "Any", "none"]
    assert "Remote" not in lines["google-tpu-v6e-32gb"]
    assert "OnDemand|Spot" in lines["google-tpu-v6e-32gb"]


def test_the_operators_configuration_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "accelerators: {npu: {resource: x/npu, pricePerHour: '2.5'}, nvidia-l4-24gb: {allocation: ResourceClaim}}"
    )
    lines = listed(capsys, "--config", str(path))
    assert "2.5" in lines["npu"]
    assert "ResourceClaim for nvidia.com/gpu" in lines["nvidia-l4-24gb"]


def test_without_labels_of_spot_nodes_no_twin_is_promised(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("spotNodeLabels: {}")
    assert "Each" not in listed(capsys, "--config", str(path))


def test_a_wrong_configuration_is_an_error_that_names_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("accelerators: {npu: {quantity: '1'}}")
    assert main(["accelerators", "--config", str(path)]) == 1
    assert f"{path}: accelerators.npu.resource (is omitted)" in capsys.readouterr().err


def test_a_program_reads_every_class_under_the_keys_that_the_help_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accelerators", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["accelerators", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == document
    assert untold(document, KEYS) == set()
    assert absent(document, KEYS) == set()
    classes = {each["name"]: each for each in document["classes"]}
    assert {line.name for line in SHIPPED} < classes.keys()
    assert classes["nvidia-h100-80gb"]["memoryGiB"] == 79.6
    assert classes["amd-alveo-u55c-16gb"]["teraflops"] is None
    assert classes["google-tpu-v6e-32gb-spot"]["capacity"] == "Spot"
