"""Field types shared by the models: patterns and limits that the CRD and pydantic both enforce.

Patterns are RE2 (the API server's dialect) and anchored, since CRD patterns match anywhere otherwise.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of every model: frozen, camelCase on the wire, unknown fields ignored.

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


class Rule(dict[str, Any]):
    """One CEL rule of a model, placed by `rules` below into `x-kubernetes-validations`."""

    def __init__(self, expression: str, message: str, *, path: str | None = None) -> None:
        super().__init__(rule=expression, message=message)
        if path is not None:
            self["fieldPath"] = path


def rules(*cel: Rule) -> ConfigDict:
    """Model configuration that carries CEL rules into the generated schema."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": [dict(rule) for rule in cel]})


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
ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", min_length=1, max_length=128)]
ImageReference = Annotated[
    str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?$", min_length=1, max_length=512)
]
AcceleratorClassName = DnsLabel
Replicas = Annotated[int, Field(ge=0, le=1000)]
