"""What bad input gets: a refusal that names the path, for every text of the resource, and limits on what is long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tests.documents import BASES, HOSTILE, HOSTS, SHORTEST, Path, Schema, at, body_of, changed, image, places

SPEC = crd_schema()["properties"]["spec"]
MEBIBYTE = 2**20
TEXTS = [
    (base, path)
    for base in BASES
    for path, schema in places(SPEC, base)
    if isinstance(at(base, path), str) and "enum" not in schema
]


def path_of(path: Path) -> str:
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def refusal_of(spec: Any) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        LLMDeployment.parse(body_of(spec))
    return str(caught.value)


@pytest.mark.parametrize("base", BASES, ids=range(len(BASES)))
def test_the_documents_that_the_others_are_made_of_are_valid(base: dict[str, Any]) -> None:
    LLMDeployment.parse(body_of(base))


def test_the_documents_use_every_field_of_the_schema() -> None:
    def fields(schema: Schema, path: Path = ()) -> set[Path]:
        found = {path}
        for name, child in schema.get("properties", {}).items():
            found |= fields(child, (*path, name))
        return found | (fields(schema["items"], (*path, 0)) if "items" in schema else set())

    used = {path for base in BASES for path, _ in places(SPEC, base)}
    assert fields(SPEC) - used == {()}


@pytest.mark.parametrize(("base", "path"), TEXTS, ids=lambda value: path_of(value) if isinstance(value, tuple) else "")
def test_no_text_takes_newlines_unicode_traversals_credentials_or_what_a_shell_or_the_kubelet_expands(
    base: dict[str, Any], path: Path
) -> None:
    # A flag's value is judged with all flags, at the map that holds them.
    named = path_of(path[: path.index("args") + 1] if "args" in path else path)
    for text in HOSTILE:
        said = refusal_of(changed(base, path, text))
        assert said.startswith(named), (text, said)


@pytest.mark.parametrize("reference", HOSTS)
def test_an_image_is_from_a_named_registry_with_its_digest(reference: str) -> None:
    path: Path = ("verifier", "model", "source", "image", "reference")
    spec = {**SHORTEST, "verifier": {**SHORTEST["verifier"], "model": image("m")}}
    assert refusal_of(changed(spec, path, reference)).startswith("spec.verifier.model.source.image.reference")


@pytest.mark.parametrize("reference", ["reg.example/a", "reg.example/a:latest", "a"])
def test_a_model_image_without_a_digest_is_refused_since_it_could_change_under_running_pods(reference: str) -> None:
    spec = {**SHORTEST, "verifier": {**SHORTEST["verifier"], "model": {"source": {"image": {"reference": reference}}}}}
    assert "spec.verifier.model.source.image.reference" in refusal_of(spec)


def most_bytes(schema: Schema) -> int:
    """Bytes of the longest JSON that a schema allows; texts are ASCII by their patterns."""
    if "enum" in schema:
        return max(len(choice) for choice in schema["enum"]) + 2
    if "additionalProperties" in schema:
        longest_key = 317
        return int(schema["maxProperties"]) * (longest_key + 4 + most_bytes(schema["additionalProperties"]))
    if "items" in schema:
        return int(schema["maxItems"]) * (most_bytes(schema["items"]) + 2)
    if "properties" in schema:
        return sum(len(name) + 6 + most_bytes(child) for name, child in schema["properties"].items())
    return int(schema.get("maxLength", 20)) + 2


def test_the_longest_resource_that_the_schema_allows_is_far_below_a_mebibyte() -> None:
    assert most_bytes(SPEC) < MEBIBYTE // 4
    assert len(json.dumps(BASES[0])) < most_bytes(SPEC)


LONG = "a" * MEBIBYTE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("servedName",), LONG),
        (("verifier", "accelerator", "classes"), ["cpu"] * (MEBIBYTE // 6)),
        (("verifier", "engine"), {"args": {f"flag-{n}": 1 for n in range(MEBIBYTE // 16)}}),
        (("verifier", "scheduling"), {"tolerations": [{"key": "a"}] * (MEBIBYTE // 13)}),
        (("access",), {"allowedFrom": [{"podLabels": {LONG: "a"}}]}),
    ],
    ids=["text", "list", "map", "objects", "key"],
)
def test_a_resource_of_a_mebibyte_is_refused_with_a_message_that_can_be_shown(path: Path, value: Any) -> None:
    base = {**SHORTEST, "servedName": "a", "access": {}}
    base["verifier"] = {**base["verifier"], "engine": {}, "scheduling": {}}
    said = refusal_of(changed(base, path, value))
    assert said.startswith("spec.")
    assert len(said) < 4000


def test_a_name_as_long_as_kubernetes_allows_is_refused_since_its_children_need_room() -> None:
    with pytest.raises(InvalidSpecError, match="at most 40 characters"):
        LLMDeployment.parse(body_of(SHORTEST, "n" * 63))
