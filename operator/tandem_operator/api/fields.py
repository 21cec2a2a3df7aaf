"""What every model of the API is made of: the base class, rules, and field types with their limits.

The CRD and pydantic enforce the same. Patterns are RE2 (the API server's dialect), ASCII and anchored, since they
match anywhere otherwise: no newline, no traversal and no credentials get through one of them. They are rules, not the
schema's keyword `pattern`, whose refusal is the expression itself and not a word about what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

VALIDATIONS = "x-kubernetes-validations"
BROKEN_RULES = "broken_rules"
"""Type of the pydantic error whose context lists the rules that a value breaks: (path, message) each."""


MESSAGE_BYTES = 5 * 1024
"""Of a `messageExpression`; past it the API server falls back to the `message`."""


@dataclass(frozen=True)
class Given:
    """What breaks a rule, to be shown behind its message: CEL expressions that fill a format, and the same in Python.

    The format is CEL's: the API server's estimate of what an expression costs knows no bound for joined texts.
    """

    format: str
    expressions: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]


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
    given: Given | None = None
    """Left out for a text, which the API server shows itself."""

    def as_cel(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.expression, "message": self.message}
        if self.given is not None:
            text = f"{self.message} ({self.given.format})".replace("'", "\\'")
            entry["messageExpression"] = f"'{text}'.format([{', '.join(self.given.expressions)}])"
        return {**entry, "fieldPath": self.path} if self.path else entry

    def told(self, value: Any) -> str:
        """The message to who wrote `value`, as the API server puts it: without what would break or fill the screen."""
        if self.given is None:
            return self.message
        told = f"{self.message} ({self.given.format % self.given.values(value)})"
        return told if "\n" not in told and len(told.encode()) <= MESSAGE_BYTES else self.message


def members(*paths: str) -> Given:
    """Shows members of a model, which are there whenever the rule is broken: `count is 2, size is 3`."""
    return Given(
        ", ".join(f"{path} is %s" for path in paths),
        tuple(f"self.{path}" for path in paths),
        lambda model: tuple(reduce(getattr, map(to_snake, path.split(".")), model) for path in paths),
    )


def listed(values: Iterable[str | int]) -> str:
    """A list as CEL's format shows it: texts are quoted as Go does, so that none of them can write on a screen."""
    return f"[{', '.join(_quoted(value) if isinstance(value, str) else str(value) for value in values)}]"


_ESCAPED = dict(zip('"\\\a\b\f\n\r\t\v', '"\\abfnrtv', strict=True))


def _quoted(text: str) -> str:
    return f'"{"".join(map(_shown, text))}"'


def _shown(character: str) -> str:
    code = ord(character)
    if character in _ESCAPED:
        return "\\" + _ESCAPED[character]
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


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
        described[VALIDATIONS] = [*described.get(VALIDATIONS, []), *(rule.as_cel() for rule in self.rules)]
        return described


def require(rules: tuple[Rule, ...], value: Any) -> None:
    """Raise pydantic's error that names every rule which `value` breaks."""
    broken = [(rule.path, rule.told(value)) for rule in rules if not rule.holds(value)]
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


def matching(pattern: str, what: str) -> Rules:
    """An annotation of a text: the whole of it matches a pattern; `what` says in words what that means."""
    texts = SchemaValidator(core_schema.str_schema(pattern=pattern))  # linear in the text, as the API server's are
    return Rules(Rule(f"self.matches('{pattern}')", texts.isinstance_python, f"must be {what}"))


_LETTERS = "lower-case letters, digits and '-', with a letter or digit at both ends"
DnsLabel = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", f"a DNS label: {_LETTERS}"),
]
DnsSubdomain = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        f"a DNS name: labels of {_LETTERS}, joined by '.'",
    ),
]
RelativePath = Annotated[
    str,
    Field(min_length=1, max_length=512),
    matching(
        "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$",
        "a path inside the volume: names of letters, digits, '.', '_' and '-', beginning with neither '.' nor '-', "
        "joined by '/'",
    ),
]
ServedName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(
        "^[A-Za-z0-9][A-Za-z0-9._-]*([/:][A-Za-z0-9][A-Za-z0-9._-]*)*$",
        "names of letters, digits, '.', '_' and '-', beginning with a letter or digit, joined by '/' or ':'",
    ),
]
AcceleratorClassName = DnsLabel

LABEL_KEY_LENGTH = 317
LABEL_KEY = (
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)
_LABEL_KEY_IS = "letters, digits, '-', '_' and '.', with a DNS name and '/' in front or not"
LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=LABEL_KEY_LENGTH),
    matching(LABEL_KEY, f"the key of a label: {_LABEL_KEY_IS}"),
]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    matching(
        "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "the value of a label: letters, digits, '-', '_' and '.', with a letter or digit at both ends, or nothing",
    ),
]


def _is_label_key(key: str) -> bool:
    return len(key) <= LABEL_KEY_LENGTH and re.fullmatch(LABEL_KEY, key) is not None


Labels = Annotated[
    dict[str, LabelValue],
    Field(max_length=8),
    Rules(
        Rule(
            f"self.all(key, size(key) <= {LABEL_KEY_LENGTH} && key.matches('{LABEL_KEY}'))",
            lambda labels: all(map(_is_label_key, labels)),
            f"every key must be a label's: {_LABEL_KEY_IS}",
            given=Given(
                "not %s",
                (f"self.filter(key, size(key) > {LABEL_KEY_LENGTH} || !key.matches('{LABEL_KEY}'))",),
                lambda labels: (listed(key for key in labels if not _is_label_key(key)),),
            ),
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
_HOST = rf"({_LABEL}[.])+{_LAST_LABEL}({_PORT})?|{_LAST_LABEL}{_PORT}"
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
_PLAIN = "without scheme, credentials or IP address"
ImageReference = Annotated[
    str,
    Field(min_length=1, max_length=512),
    matching(
        f"^{_REPOSITORY}({_TAG})?({_DIGEST})?$",
        f"an image, host/repository:tag or host/repository@sha256:<64 hex digits>, {_PLAIN}",
    ),
    _NO_METADATA_HOST,
]
PinnedImageReference = Annotated[
    str,
    Field(min_length=1, max_length=512),
    matching(
        f"^{_REPOSITORY}({_TAG})?{_DIGEST}$",
        f"an image by its digest, host/repository@sha256:<64 hex digits>, {_PLAIN}",
    ),
    _NO_METADATA_HOST,
]

_DURATION = "^([0-9]{1,4}h([0-9]{1,5}m)?([0-9]{1,6}s)?|[0-9]{1,5}m([0-9]{1,6}s)?|[0-9]{1,6}s)$"
_UNIT_SECONDS = {"h": 3600, "m": 60, "s": 1}
Duration = Annotated[
    str,
    Field(min_length=2, max_length=20),
    matching(_DURATION, "a duration in whole hours, minutes and seconds, such as 90s, 10m or 1h30m"),
]
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
