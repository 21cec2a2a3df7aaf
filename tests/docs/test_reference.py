"""The generated pages: nothing that the code has is missing on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.docs import __main__ as reference
from deploy.docs.commands import commands_of, parser
from deploy.docs.conditions import MEANINGS, conditions_page
from deploy.docs.configuration import CHART
from tandem_contracts import metrics
from tandem_operator.api.crd import artifact_crd, crd
from tandem_operator.config import OperatorConfig

PAGES = reference.pages()


def test_the_pages_are_what_the_code_says() -> None:
    assert reference.main(["--check"]) == 0, "run `make reference`"


def test_a_page_that_differs_and_one_too_many_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert reference.main([]) == 0
    (tmp_path / "reference/role.md").write_text("something else")
    (tmp_path / "reference/removed.md").write_text("of a kind that is gone")

    assert reference.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "reference/role.md differs" in told
    assert "reference/removed.md differs" in told

    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def fields_of(schema: dict[str, Any]) -> Iterator[str]:
    """Names of all fields, on every level."""
    for name, field in schema.get("properties", {}).items():
        yield name
        yield from fields_of(field)
        yield from fields_of(field.get("items") or {})


@pytest.mark.parametrize("definition", [crd(), artifact_crd()], ids=["LLMDeployment", "ModelArtifact"])
def test_every_field_of_a_resource_has_a_row(definition: dict[str, Any]) -> None:
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    names = {name for part in ("spec", "status") for name in fields_of(schema[part])}
    text = "\n".join(PAGES.values())

    assert len(names) > 50
    assert sorted(name for name in names if f"`{name}` | " not in text) == []


def test_every_metric_of_the_contract_has_a_row() -> None:
    named = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}

    assert len(named) > 40
    assert sorted(name for name in named if f"| `{name}` |" not in PAGES["metrics.md"]) == []


def test_every_key_of_the_configuration_and_of_the_chart_has_a_row() -> None:
    keys = OperatorConfig.model_json_schema(by_alias=True)["properties"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert [key for key in keys if f"`{key}`" not in PAGES["configuration.md"]] == []
    assert [key for key in values if f"| `{key}" not in PAGES["chart.md"]] == []


def test_every_command_has_a_section() -> None:
    assert [name for name in commands_of(parser()) if f"## `tandem {name}`" not in PAGES["commands.md"]] == []


def test_a_reason_without_a_meaning_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = yaml.safe_load(MEANINGS.read_text())
    del told["reasons"]["NoDrafts"]
    less = tmp_path / "conditions.yaml"
    less.write_text(yaml.safe_dump(told))
    monkeypatch.setattr("deploy.docs.conditions.MEANINGS", less)

    with pytest.raises(ValueError, match="differ in NoDrafts"):
        conditions_page()
