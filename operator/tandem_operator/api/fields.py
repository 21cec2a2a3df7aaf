"""What every model of the API is made of: the base class, rules, and field types with their limits.

The CRD and pydantic enforce the same. Patterns are RE2 (the API server's dialect), ASCII and anchored, since the
patterns of a CRD match anywhere otherwise: no newline, no traversal and no credentials get through one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"
BROKEN_RULES = "broken_rules"
"""Type of the pydantic error whose context lists the rules that a value breaks: (path, message) each."""


@dataclass(frozen=True)
class Rule:
    """A rule that no keyword of a schema can say: as CEL for the API server, as a predicate for pydantic.

    `path` is that of the field to blame, relative to the model, with a dot in front; empty for the value itself.
    In a model's `RULES` it holds for the model; in `Rules`, an annotation of a field, for that field's value.
    """

    expression: str
    holds: Callable[[Any], bool]
    message: str
    path: str = ""

    def as_cel(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.expression, "message": self.message}
        return {**entry, "fieldPath": self.path} if self.path else entry


class Rules:
    """An annotation of a field: rules for its value."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any) -> Any:
            require(self.rules, value)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        described[VALIDATIONS] = [rule.as_cel() for rule in self.rules]
        return described


def require(rules: tuple[Rule, ...], value: Any) -> None:
    """Raise pydantic's error that names every rule which `value` breaks."""
    broken = [(rule.path, rule.message) for rule in rules if not rule.holds(value)]
    if broken:
        text = "; ".join(message for _, message in broken)
        raise PydanticCustomError(BROKEN_RULES, "{text}", {"text": text, "broken": broken})


class ApiModel(BaseModel):
    """Base of every model: frozen, camelCase on the wire, unknown fields ignored, cross-field rules in `RULES`.

    Unknown fields are ignored so that an older operator survives a newer CRD; a typing error is the API
    server's to report (`kubectl` asks it for strict validation).
    """

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obeys_its_rules(self) -> Self:
        require(self.RULES, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        if cls.RULES:
            handler.resolve_ref_schema(described)[VALIDATIONS] = [rule.as_cel() for rule in cls.RULES]
        return described


DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
DnsSubdomain = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        min_length=1,
        max_length=253,
    ),
]
RelativePath = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", min_length=1, max_length=512),
]
ServedName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*([/:][A-Za-z0-9][A-Za-z0-9._-]*)*$", min_length=1, max_length=128)
]
AcceleratorClassName = DnsLabel

LABEL_KEY_LENGTH = 317
LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)
LabelKey = Annotated[str, Field(pattern=LABEL_KEY, min_length=1, max_length=LABEL_KEY_LENGTH)]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
Labels = Annotated[
    dict[str, LabelValue],
    Field(max_length=8),
    Rules(
        Rule(
            f"self.all(key, size(key) <= {LABEL_KEY_LENGTH} && key.matches('{LABEL_KEY}'))",
            lambda labels: all(len(key) <= LABEL_KEY_LENGTH and re.fullmatch(LABEL_KEY, key) for key in labels),
            "every key must be a label's: letters, digits, '-', '_' and '.', with a DNS name and '/' in front or not",
        )
    ),
]
Replicas = Annotated[int, Field(ge=0, le=1000)]

# A registry's host has a letter at the start of its last label: no IPv4 or IPv6 address, in whatever notation.
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_LAST_LABEL = "[a-zA-Z]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_PORT = ":[0-9]{1,5}"
_PART = "[a-z0-9]+([._-]+[a-z0-9]+)*"
_FIRST_PART = "[a-z0-9]+([_-]+[a-z0-9]+)*"  # with a dot it would be a host
_HOST = rf"({_LABEL}\.)+{_LAST_LABEL}({_PORT})?|{_LAST_LABEL}{_PORT}"
_REPOSITORY = rf"(({_HOST})/{_PART}|{_FIRST_PART})(/{_PART})*"
_TAG = ":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = "@sha256:[0-9a-f]{64}"
_METADATA_HOST = "^(metadata|instance-data|metadata[.]google[.]internal|instance-data[.]ec2[.]internal)(:[0-9]+)?/"

_NO_METADATA_HOST = Rules(
    Rule(
        f"!self.matches('{_METADATA_HOST}')",
        lambda reference: re.match(_METADATA_HOST, reference) is None,
        "must not be on the metadata host of a cloud",
    )
)
ImageReference = Annotated[
    str,
    Field(pattern=rf"^{_REPOSITORY}({_TAG})?({_DIGEST})?$", min_length=1, max_length=512),
    _NO_METADATA_HOST,
]
PinnedImageReference = Annotated[
    str,
    Field(pattern=rf"^{_REPOSITORY}({_TAG})?{_DIGEST}$", min_length=1, max_length=512),
    _NO_METADATA_HOST,
]

_DURATION = "^([0-9]{1,4}h([0-9]{1,5}m)?([0-9]{1,6}s)?|[0-9]{1,5}m([0-9]{1,6}s)?|[0-9]{1,6}s)$"
_UNIT_SECONDS = {"h": 3600, "m": 60, "s": 1}
Duration = Annotated[str, Field(pattern=_DURATION, min_length=2, max_length=20)]
"""A duration as Go writes it, in whole hours, minutes and seconds: `30s`, `10m`, `1h30m`."""


def seconds_of(duration: str) -> int:
    """Seconds of a `Duration`."""
    return sum(int(number) * _UNIT_SECONDS[unit] for number, unit in re.findall("([0-9]+)([hms])", duration))


def is_duration(*fields: str) -> str:
    """CEL: whether all these expressions are durations. The API server judges rules also where a pattern failed."""
    return " && ".join(f"{field}.matches('{_DURATION}')" for field in fields)


def between(shortest: str, longest: str) -> Rules:
    """An annotation of a `Duration`: its range, both ends included."""
    return Rules(
        Rule(
            f"!({is_duration('self')}) || (duration(self) >= duration('{shortest}')"
            f" && duration(self) <= duration('{longest}'))",
            lambda duration: seconds_of(shortest) <= seconds_of(duration) <= seconds_of(longest),
            f"must be from {shortest} to {longest}",
        )
    )
