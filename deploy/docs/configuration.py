"""The pages of what an administrator sets: the operator's configuration, by its model, and the chart's values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from deploy.docs.markdown import code, docstrings_in, prose, table
from deploy.docs.schemas import Schema, allowed_in, default_of, resolved, type_of
from tandem_operator.config import AcceleratorOverride, GateConfig, OperatorConfig, PrometheusConfig, TracesConfig

CHART = Path(__file__).parents[2] / "charts/tandem"
_TOP = """# Configuration of the operator

One YAML file, `--config`, which the chart renders from its values under `config`; nothing in the environment wins over
it. A key that is not listed here is refused, and the process ends with exit code 2. A change of it restarts the
operator and nothing else; pods that run keep what they were made with.
"""
_TOP_OF_VALUES = """# Values of the chart

`charts/tandem`, for Helm 3 and 4. A key that is not listed here is refused. What is under `config` becomes the
operator's [configuration](configuration.md), where each key has its meaning in full.
"""
_NOT_SET = {"global"}
"""Put there by Helm itself."""
_COLUMNS = ("Key", "Type", "Default", "Allowed", "What it is")


def configuration_page() -> str:
    """The page of the operator's own configuration."""
    parts = [_TOP]
    sections: dict[str, tuple[str, type[BaseModel]]] = {
        "keys": ("Keys", OperatorConfig),
        "gate": ("`gate`", GateConfig),
        "prometheus": ("`prometheus`", PrometheusConfig),
        "traces": ("`traces`", TracesConfig),
        "accelerators": ("A class of `accelerators`", AcceleratorOverride),
    }
    for anchor, (title, model) in sections.items():
        parts += [
            f"## {title} {{#{anchor}}}\n",
            prose((model.__doc__ or "").strip()) + "\n",
            table(_COLUMNS, _rows(model)),
        ]
    return "\n".join(parts)


def _rows(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    schema, told = model.model_json_schema(by_alias=True), docstrings_in(model)
    definitions = schema.get("$defs", {})
    aliases = {field.alias or to_camel(name): name for name, field in model.model_fields.items()}
    for key, field in schema["properties"].items():
        plain = resolved(field, definitions)
        is_object = "properties" in plain
        shown = f"[`{key}`](#{key})" if is_object else f"`{key}`"
        default = "" if is_object else default_of({"default": field.get("default")})
        allowed = "" if is_object else allowed_in(plain, definitions)
        yield shown, type_of(field, definitions), default, allowed, prose(told.get(aliases[key], ""))


def chart_page() -> str:
    """The page of the chart's values: as values.yaml tells of them, else the operator's model or the chart's README."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    said = {**_said_in_readme(), **_said_of_the_configuration(), **_comments(text)}
    return "\n".join(
        (
            _TOP_OF_VALUES,
            table(_COLUMNS, _values(yaml.safe_load(text), schema, said, schema["definitions"])),
        )
    )


def _said_of_the_configuration() -> dict[str, str]:
    """By the path of a value under `config`, where the operator's model has it."""
    parts = {
        "config": OperatorConfig,
        "config.gate": GateConfig,
        "config.prometheus": PrometheusConfig,
        "config.traces": TracesConfig,
    }
    return {
        f"{path}.{to_camel(name)}": told for path, model in parts.items() for name, told in docstrings_in(model).items()
    }


def _said_in_readme() -> dict[str, str]:
    """By the path of a value; a row of the README's table speaks of several, `.name` of what lies beside the first."""
    found: dict[str, str] = {}
    for line in (CHART / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 5 or not cells[1].startswith("`"):
            continue
        names = [name.strip("` ") for name in cells[1].split(",")]
        above = names[0].rpartition(".")[0]
        found |= {f"{above}{name}" if name.startswith(".") else name: cells[3] for name in names}
    return found


def _values(
    values: Mapping[str, Any],
    schema: Schema,
    comments: Mapping[str, str],
    definitions: Mapping[str, Schema],
    *,
    beginning: str = "",
) -> Iterator[tuple[str, ...]]:
    """A row for each value, in the order of the file, and for each that the schema allows besides."""
    known = schema["properties"]
    for key in (*values, *(key for key in known if key not in values and key not in _NOT_SET)):
        value = values.get(key)
        path, field = f"{beginning}{key}", resolved(known[key], dict(definitions))
        if isinstance(value, dict) and "properties" in field:
            if path in comments:
                yield f"`{path}`", "object", "", "", prose(comments[path])
            yield from _values(value, field, comments, definitions, beginning=f"{path}.")
            continue
        allowed = "" if "properties" in field else allowed_in(field, dict(definitions))
        default = "" if value is None else code(value)
        yield f"`{path}`", type_of(field, dict(definitions)), default, allowed, prose(comments.get(path, ""))


def _comments(text: str) -> dict[str, str]:
    """The comment above each key of values.yaml, by the key's path."""
    found: dict[str, str] = {}
    keys: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            said.append(stripped.removeprefix("#").strip())
            continue
        key, separator, _ = stripped.partition(":")
        if separator:
            indentation = len(line) - len(line.lstrip())
            keys = [*(each for each in keys if each[0] < indentation), (indentation, key)]
            if said:
                found[".".join(name for _, name in keys)] = " ".join(said)
        said = []
    return found
