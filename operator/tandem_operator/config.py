"""The operator's own configuration: what its administrator decides, never a user of the resource. Pure.

One source, one file: the chart renders it as YAML. There are no environment variables that win over it.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from tandem_contracts.launch import Speculation


class AcceleratorOverride(BaseModel):
    """What an administrator changes in one line of the accelerator table, or a line of their own (all fields)."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    resource: str | None = None
    """Extended resource that a pod asks for, `nvidia.com/gpu`, or `cpu`."""
    quantity: str | None = None
    """How much of the resource one `count` asks for; a whole number except for cpu."""
    host_memory: str | None = None
    """Memory request of one `count`."""
    node_labels: dict[str, str] | None = None
    """Node selector."""
    tolerated_taints: tuple[str, ...] | None = None
    """Keys of the taints that such nodes carry."""
    engine_image: str | None = None
    """Key of `engineImages`."""
    environment: dict[str, str] | None = None
    """Environment variables of the engine on this hardware."""
    methods: tuple[Speculation, ...] | None = None
    """Speculation methods that a verifier on this hardware can run."""


class OperatorConfig(BaseModel):
    """Configuration of one operator process."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    engine_images: dict[str, str] = {
        "cpu": "tandem.local/engine-cpu:0.1.0",
        "gpu": "tandem.local/engine-gpu:0.1.0",
    }
    """Engine images by key; the accelerator table names the key."""
    engine_image_allow_list: tuple[str, ...] = ()
    """Regular expressions; an image that a user names must match one of them whole. Empty: none may be named."""
    accelerators: dict[str, AcceleratorOverride] = {}
    """Overrides and additions to the accelerator table, by class name."""
    resync_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Every deployment is looked at again after this long, whatever was heard of it."""
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 8.0
    """Limit of one request to the API server; shorter than the lease's renew deadline."""
    lease_seconds: Annotated[int, Field(ge=5, le=300)] = 15
    """How long a lease lasts that nobody renews; another operator takes over after it."""

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read the YAML file at `path` (None: defaults).

        Raises pydantic's ValidationError that names the key, its value and what is allowed; OSError and
        yaml.YAMLError for a file that cannot be read.
        """
        written = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
        return cls.model_validate(written or {})

    @field_validator("engine_image_allow_list")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns

    @model_validator(mode="after")
    def _requests_end_before_the_lease(self) -> Self:
        limit = self.lease_seconds * 2 / 3
        if self.request_timeout_seconds >= limit:
            raise ValueError(
                f"requestTimeoutSeconds (is {self.request_timeout_seconds:g}): must be below two thirds of "
                f"leaseSeconds, {limit:g}, the time after which an operator that could not renew its lease gives up"
            )
        return self

    @cached_property
    def _allowed_images(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(pattern) for pattern in self.engine_image_allow_list)

    def allows_engine_image(self, reference: str) -> bool:
        """Whether a user may name this image."""
        return any(pattern.fullmatch(reference) for pattern in self._allowed_images)
