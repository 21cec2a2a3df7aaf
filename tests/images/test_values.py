"""The chart's values that name images: of those that are given, and of no other."""

from __future__ import annotations

from pathlib import Path

import yaml

from deploy.images.__main__ import main
from deploy.images.catalogue import NAMES, Image
from deploy.images.values import ENGINE_IMAGES, values_of
from tandem_operator.config import OperatorConfig


def test_every_engine_image_of_the_operator_has_a_value_and_a_reference_with_a_port_is_cut_at_its_tag() -> None:
    values = values_of({name: f"r.example:5000/t/{name}:1a" for name in NAMES})
    assert values["image"] == {"repository": "r.example:5000/t/operator", "tag": "1a"}
    assert values["config"]["engineImages"].keys() == OperatorConfig().engine_images.keys()
    assert ENGINE_IMAGES.keys() <= set(NAMES)


def test_images_that_were_not_asked_for_stay_as_the_chart_has_them() -> None:
    assert values_of({"engine-gpu": "r.example/g:1"}) == {"config": {"engineImages": {"gpu": "r.example/g:1"}}}
    assert values_of({"draft-lookup": "r.example/l:1"}) == {}


def test_references_in_a_registry_are_printed_and_written_as_values(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "images.yaml"
    assert main(["references", "operator", "--registry", "r.example/t", "--values", str(file)]) == 0
    written = yaml.safe_load(file.read_text())
    assert written == {"image": {"repository": "r.example/t/operator", "tag": Image("operator").tag}}
