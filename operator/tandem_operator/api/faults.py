"""What is wrong with what a user wrote, in words that they can act upon: path, value, and what is allowed.

The one place where pydantic's errors become sentences: for the resource, for an artifact and for the operator's own
configuration. Pydantic names the one bound that was broken, in Python's words; what else a field allows is read from
the JSON schema of its model.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from tandem_operator.api.fields import BROKEN_RULES, VALIDATIONS
from tandem_operator.masking import masked

Schema = dict[str, Any]
Location = tuple[int | str, ...]

_KEY = "[key]"
"""What pydantic adds to the location of a key of a mapping."""
_NOUNS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "path_type"), "a text"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type"), "a mapping"),
}
_RANGES = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"}
_LENGTHS = {"string_too_short", "string_too_long", "too_short", "too_long"}
_CHOICES = {"enum", "literal_error"}
_BOOLEANS = ("on", "off", "yes", "no")
"""What YAML takes for true and false, besides these."""
_MUST_BE = "must be "


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a resource, or with the configuration, whose own path is empty."""

    path: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        where = f"{self.path}{self._shown()}".strip()
        is_named = where == self.path and self.allowed.startswith(f"{self.path} ")
        return self.allowed if is_named else ": ".join(filter(None, (where, self.allowed)))

    def _shown(self) -> str:
        if isinstance(self.value, bool):
            return f" (is {str(self.value).lower()})"
        return f" (is {masked(repr(self.value))[:100]})" if isinstance(self.value, str | int | float) else ""


def faults_of(error: ValidationError, model: type[BaseModel], root: str = "") -> Sequence[Fault]:
    """What is wrong with what was to be a `model`, fault by fault; their paths begin at `root`."""
    details = error.errors(include_url=False)
    schema = _schema_of(model)
    faults: dict[str, list[Fault]] = {}
    for detail in details:
        loc = detail["loc"]
        if detail["type"] == "too_short" and any(_is_below(other["loc"], loc) for other in details):
            continue  # pydantic counts only the items that are good themselves
        if detail["type"] == "default_factory_not_called":
            continue  # of a default that follows from the fields that are told already
        steps, field = _place(schema, loc)
        path = "".join([root, *(f"[{at}]" if isinstance(at, int) else f".{at}" for at in steps)]).removeprefix(".")
        if detail["type"] == BROKEN_RULES:
            found = [Fault(path + at, detail["input"], said) for at, said in detail["ctx"]["broken"]]
        elif detail["type"] == "extra_forbidden":
            _, parent = _place(schema, loc[:-1])
            found = [Fault(path, None, unknown_field(str(loc[-1]), parent.get("properties", {})))]
        else:
            found = [Fault(path, detail["input"], _allowed(detail, field))]
        if len(steps) < len(loc) and path in faults:  # another branch of a union: one fault, whichever it was to be
            first = faults[path][0]
            either = f"{first.allowed}; or {found[0].allowed.removeprefix(_MUST_BE)}"
            faults[path] = [Fault(path, first.value, either)]
        else:
            faults.setdefault(path, []).extend(found)
    return [fault for found in faults.values() for fault in found]


@cache
def _schema_of(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(by_alias=True)


def unknown_field(name: str, known: Iterable[str]) -> str:
    """What is said of a field that is not there: the one that was meant, or all that there are."""
    plain = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower().replace("_", ""), plain, n=1)
    if near:
        return f"unknown field; did you mean {plain[near[0]]}?"
    return f"unknown field; known are {', '.join(plain.values())}"


def _is_below(inner: Location, outer: Location) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _place(schema: Schema, loc: Location) -> tuple[Location, Schema]:
    """Where a fault is, without what pydantic calls keys and branches of unions, and the schema there."""
    steps: list[int | str] = []
    at, definitions = schema, schema.get("$defs", {})
    for step in loc:
        branches = _branches(at, definitions)
        at = _merged(branches)
        if isinstance(step, int):
            steps.append(step)
            at = at.get("items", {})
        elif step == _KEY:
            return tuple(steps), _merged(_branches(at.get("propertyNames", {}), definitions))
        elif len(branches) == 1:
            steps.append(step)
            at = _member(at, step)
    return tuple(steps), _merged(_branches(at, definitions))


def _branches(schema: Schema, definitions: dict[str, Schema]) -> list[Schema]:
    """What a schema may be, apart from null."""
    rest = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
    if "$ref" in schema:
        return _branches({**definitions[schema["$ref"].removeprefix("#/$defs/")], **rest}, definitions)
    given = [branch for branch in schema.get("anyOf", [{}]) if branch.get("type") != "null"]
    return [{**rest, **found} for branch in given for found in (_branches(branch, definitions) if branch else [{}])]


def _merged(branches: Iterable[Schema]) -> Schema:
    return {key: value for branch in branches for key, value in branch.items()}


def _member(schema: Schema, name: str) -> Schema:
    """The schema of a field, or of what a mapping holds."""
    values = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
    found: Schema = schema.get("properties", {}).get(name) or values or {}
    return found


def _allowed(detail: Any, schema: Schema) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind in _CHOICES:
        expected = detail["ctx"]["expected"]
        is_misread = isinstance(value, bool) and any(f"'{word}'" in expected.lower() for word in _BOOLEANS)
        return f"{_MUST_BE}{expected}{_quoting(value) if is_misread else ''}"
    if kind in _RANGES:
        return _MUST_BE + _range(schema)
    if kind in _LENGTHS:
        return f"must have {_length(schema, 'character' if isinstance(value, str) else 'item')}{_which(schema)}"
    noun = _NOUNS.get(kind)
    if noun is None:
        return str(detail["msg"])
    if noun == "a text":
        return f"{_MUST_BE}{noun}{_which(schema)}{_quoting(value)}"
    bounds = _range(schema)
    return f"{_MUST_BE}{noun}{' ' if bounds.startswith('from') else ', ' if bounds else ''}{bounds}"


def _quoting(value: Any) -> str:
    """What to do where a text was meant, and YAML found something else."""
    if isinstance(value, bool):
        return f"; in quotes, since YAML reads a bare {', '.join(_BOOLEANS[:-1])} or {_BOOLEANS[-1]} as true or false"
    return "; in quotes" if isinstance(value, int | float) else ""


def _which(schema: Schema) -> str:
    """Which texts a field takes, where rules say so."""
    told = [rule["message"] for rule in schema.get(VALIDATIONS, ()) if schema.get("type") == "string"]
    return next((f": {message.removeprefix(_MUST_BE)}" for message in told if message.startswith(_MUST_BE)), "")


def _range(schema: Schema) -> str:
    """`a multiple of 8 from 8 to 64`, `above 0 and at most 30`; empty without bounds."""
    step = f"a multiple of {_number(schema['multipleOf'])}" if "multipleOf" in schema else ""
    if "minimum" in schema and "maximum" in schema:
        bounds = f"from {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    else:
        words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
        bounds = " and ".join(f"{said} {_number(schema[key])}" for key, said in words.items() if key in schema)
    return f"{step} {bounds}".strip()


def _length(schema: Schema, unit: str) -> str:
    """`from 1 to 8 items`, `at least 1 character`."""
    least = schema.get("minItems", schema.get("minProperties", schema.get("minLength")))
    most = schema.get("maxItems", schema.get("maxProperties", schema.get("maxLength")))
    units = unit if (least if most is None else most) == 1 else f"{unit}s"
    if least and most:
        return f"from {least} to {most} {units}"
    return f"at most {most} {units}" if most is not None else f"at least {least} {units}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
