"""What a JSON schema says of a field, in words: its type, its default, what is allowed. Pure."""

from __future__ import annotations

from typing import Any

from deploy.docs.markdown import code, prose
from tandem_operator.api.fields import VALIDATIONS

Schema = dict[str, Any]
MANY_WORDS = 40


def resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """A field without references and without the alternative null, both of which pydantic writes."""
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        return resolved({**named, **{key: value for key, value in schema.items() if key != "$ref"}}, definitions)
    if "anyOf" in schema:
        branches = [resolved(each, definitions) for each in schema["anyOf"] if each.get("type") != "null"]
        words = [word for each in branches for word in each.get("enum", [])]
        branch = {**branches[0], "enum": words} if len(branches) > 1 else branches[0]
        return {**branch, **{key: value for key, value in schema.items() if key != "anyOf"}}
    return schema


def members_of(schema: Schema) -> tuple[Schema, str]:
    """The object that a field is, or is a list of, and what its path ends in; ({}, "") for anything else."""
    if "properties" in schema:
        return schema, ""
    items = schema.get("items") or {}
    return (items, "[]") if "properties" in items else ({}, "")


def type_of(schema: Schema, definitions: dict[str, Schema]) -> str:
    """The type in a word or three."""
    schema = resolved(schema, definitions)
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    kind = str(schema.get("type", "string" if "enum" in schema else "any"))
    if kind == "array":
        return f"list of {_plural(type_of(schema.get('items', {}), definitions))}"
    values = schema.get("additionalProperties") or next(iter((schema.get("patternProperties") or {}).values()), None)
    if kind == "object" and isinstance(values, dict):
        return f"map of {_plural(type_of(values, definitions))}"
    return kind


def _plural(kind: str) -> str:
    return kind if " " in kind or kind == "any" else f"{kind}s"


def default_of(schema: Schema) -> str:
    """What holds where nothing is written; empty where that is nothing, or several fields' own defaults."""
    value = schema.get("default")
    return "" if value is None or value in ({}, []) else code(value)


def allowed_in(schema: Schema, definitions: dict[str, Schema]) -> str:
    """Every limit, in words."""
    schema = resolved(schema, definitions)
    said = []
    if "enum" in schema and len(schema["enum"]) <= MANY_WORDS:
        said.append(", ".join(code(word) for word in schema["enum"]))
    said += _between(schema.get("minimum"), schema.get("maximum"))
    if "exclusiveMinimum" in schema:
        said.append(f"above {schema['exclusiveMinimum']:g}")
    if "multipleOf" in schema:
        said.append(f"a multiple of {schema['multipleOf']}")
    said += [f"{text} characters" for text in _between(None, schema.get("maxLength"))]
    said += [f"{text} items" for text in _between(schema.get("minItems"), schema.get("maxItems"))]
    said += [f"{text} entries" for text in _between(None, schema.get("maxProperties"))]
    said += [prose(rule["message"]) for rule in schema.get(VALIDATIONS, [])]
    if "properties" not in schema and "items" in schema and not members_of(schema)[0]:
        inner = allowed_in(schema["items"], definitions)
        said += [f"each: {inner}"] if inner else []
    if "pattern" in schema and not schema.get(VALIDATIONS):
        said.append(f"matches {code(schema['pattern'])}")
    return "; ".join(said)


def _between(least: float | None, most: float | None) -> list[str]:
    if least is None and most is None:
        return []
    if most is None:
        return [f"{least:g} or more"] if least else []
    return [f"at most {_number(most)}"] if not least else [f"{_number(least)} to {_number(most)}"]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
