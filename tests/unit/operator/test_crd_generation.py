"""The generated CRD: structural, small, described, and the same in every place where it is checked in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tandem_operator.api.crd import crd, crd_yaml, structural
from tandem_operator.api.deployment import LLMDeploymentSpec

ROOT = Path(__file__).parents[3]
VERSION = crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
GIVEN_BY_THE_API_SERVER = {"apiVersion", "kind", "metadata"}


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


FIELDS = [pair for part in ("spec", "status") for pair in walk(SCHEMA["properties"][part], part)]


def test_the_schema_is_structural() -> None:
    for path, schema in FIELDS:
        assert isinstance(schema.get("type"), str) or schema.get("x-kubernetes-int-or-string"), path
        assert schema.get("type") != "null", path
        forbidden = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "not"}
        assert not forbidden & schema.keys(), path
        assert isinstance(schema.get("additionalProperties", {}), dict), path


def test_every_field_of_the_models_is_in_the_schema() -> None:
    spec = SCHEMA["properties"]["spec"]
    roles = {"verifier", "draft", "speculation"}
    assert set(spec["properties"]) == roles | {"servedName", "access", "rollout", "cache", "autoscaling"}
    assert spec["required"] == ["verifier"]
    assert spec["properties"]["verifier"]["required"] == ["model", "accelerator"]
    assert len(FIELDS) > 40


def test_every_string_has_a_limit_since_cel_counts_its_cost() -> None:
    lacking = [
        path
        for path, schema in FIELDS
        if schema.get("type", "string") == "string" and "maxLength" not in schema and "enum" not in schema
    ]
    assert lacking == []


def test_every_list_has_a_limit() -> None:
    lists = [(path, schema) for path, schema in FIELDS if schema.get("type") == "array"]
    assert lists
    for path, schema in lists:
        assert schema["maxItems"] >= 1, path
        assert schema["x-kubernetes-list-type"] in {"atomic", "map", "set"}, path


def test_every_map_has_a_limit() -> None:
    maps = [(path, schema) for path, schema in FIELDS if "additionalProperties" in schema]
    assert maps
    for path, schema in maps:
        assert schema["maxProperties"] >= 1, path


def test_every_number_of_the_spec_has_a_range() -> None:
    numbers = [(path, s) for path, s in FIELDS if s.get("type") == "integer" and path.startswith("spec")]
    assert numbers
    for path, schema in numbers:
        assert {"minimum", "maximum"} <= schema.keys(), path


def test_every_field_is_described_for_kubectl_explain() -> None:
    lacking = [path for path, schema in FIELDS if not schema.get("description") and path[-1] not in "]}"]
    assert lacking == []
    assert SCHEMA["description"]
    assert set(SCHEMA["properties"]) - GIVEN_BY_THE_API_SERVER == {"spec", "status"}


def test_a_pattern_is_anchored_since_the_api_server_matches_anywhere() -> None:
    rules = [(path, rule["rule"]) for path, s in FIELDS for rule in s.get("x-kubernetes-validations", [])]
    patterns = [(path, at[1]) for path, rule in rules if (at := re.fullmatch(r"self[.]matches\('(.*)'\)", rule))]
    assert patterns
    for path, pattern in patterns:
        assert pattern.startswith("^"), path
        assert pattern.endswith("$"), path


def test_defaults_are_filled_in_field_by_field() -> None:
    assert SCHEMA["properties"]["spec"]["properties"]["speculation"]["default"] == {}
    engine = SCHEMA["properties"]["spec"]["properties"]["verifier"]["properties"]["engine"]
    assert engine["default"] == {}
    assert engine["properties"]["type"]["default"] == "VLLM"
    assert all("default" not in schema or schema["default"] is not None for _, schema in FIELDS)


def test_cel_rules_carry_a_message() -> None:
    rules = [rule for _, schema in [*FIELDS, ("", SCHEMA)] for rule in schema.get("x-kubernetes-validations", [])]
    assert len(rules) >= 3
    for rule in rules:
        assert rule["message"]
        assert "\n" not in rule["message"]


def test_a_text_is_refused_in_words_and_not_by_a_bare_expression() -> None:
    assert [path for path, schema in FIELDS if "pattern" in schema] == []


def test_the_crd_is_far_below_its_size_limit() -> None:
    """Half of what `kubectl apply` can keep in its annotation, 256 KiB, which is the first limit that a CRD meets."""
    assert len(json.dumps(crd(), separators=(",", ":"))) < 128 * 1024  # as it is sent and kept


def test_scale_reads_where_status_writes() -> None:
    scale = VERSION["subresources"]["scale"]
    status = SCHEMA["properties"]["status"]["properties"]["verifier"]["properties"]
    assert scale["specReplicasPath"] == ".spec.verifier.replicas"
    assert scale["statusReplicasPath"] == ".status.verifier.replicas"
    assert scale["labelSelectorPath"] == ".status.verifier.selector"
    assert {"replicas", "selector"} <= status.keys()
    assert VERSION["subresources"]["status"] == {}


@pytest.mark.parametrize("column", [c for c in VERSION["additionalPrinterColumns"] if ".status." in c["jsonPath"]])
def test_every_printed_column_is_a_field(column: dict[str, str]) -> None:
    path = column["jsonPath"].removeprefix(".status.")
    at = SCHEMA["properties"]["status"]
    for part in path.split("[")[0].split("."):
        at = at["properties"][part]
    assert at["type"] in {"string", "array"}


@pytest.mark.parametrize("folder", ["crds", "charts/tandem/files/crds"])
def test_the_checked_in_file_is_what_the_models_say(folder: str) -> None:
    assert (ROOT / folder / "llmdeployments.yaml").read_text(encoding="utf-8") == crd_yaml()


def test_the_file_is_yaml_of_the_crd() -> None:
    assert yaml.safe_load(crd_yaml()) == crd()
    assert "&id" not in crd_yaml()


def test_a_kind_of_field_without_a_structural_form_fails_in_the_generator() -> None:
    class Union(BaseModel):
        either: int | str

    class Mapping(BaseModel):
        free: dict[str, int]

    for model in (Union, Mapping):
        with pytest.raises(ValueError, match="no structural form"):
            structural(model.model_json_schema())


def test_the_description_of_a_field_wins_over_the_one_of_its_type() -> None:
    schema = structural(LLMDeploymentSpec.model_json_schema(by_alias=True))
    assert schema["properties"]["verifier"]["description"].startswith("The large model.")
    assert schema["properties"]["draft"]["description"].startswith("The small model.")
