"""`LLMDeployment`, `tandem.dev/v1alpha1`: what a user writes.

Docstrings under the fields become `kubectl explain`. A field is here from the day the operator acts on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from tandem_contracts.launch import DEPTH_LIMIT, Role
from tandem_contracts.launch import Speculation as SpeculationMethod
from tandem_operator import names
from tandem_operator.api.fields import (
    AcceleratorClassName,
    ApiModel,
    DnsSubdomain,
    ImageReference,
    RelativePath,
    Replicas,
    Rule,
    ServedName,
    rules,
)


class EngineType(StrEnum):
    """Programs that can serve a role."""

    VLLM = "VLLM"


class PersistentVolumeClaimSource(ApiModel):
    """A model folder on a volume of the same namespace, mounted read-only."""

    claim_name: DnsSubdomain
    """Name of the PersistentVolumeClaim, in the namespace of the LLMDeployment."""
    path: RelativePath
    """Folder of the model inside the volume: config.json, tokenizer and safetensors files. Relative, without '..'."""


class ModelSource(ApiModel):
    """Where the model's files are. Exactly one source."""

    model_config = rules(
        Rule("has(self.persistentVolumeClaim)", "exactly one source is required: persistentVolumeClaim")
    )

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """The model lies on a PersistentVolumeClaim."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.persistent_volume_claim is None:
            raise ValueError("exactly one source is required: persistentVolumeClaim")
        return self

    @property
    def claim(self) -> PersistentVolumeClaimSource:
        """The one source that there is, already validated."""
        assert self.persistent_volume_claim is not None  # noqa: S101 -- narrows the type; the validator guarantees it
        return self.persistent_volume_claim


class Model(ApiModel):
    """A model: its files."""

    source: ModelSource
    """Where the files are."""


class Engine(ApiModel):
    """The program that serves the model."""

    type: EngineType = EngineType.VLLM
    """VLLM: vLLM's OpenAI server, as published."""
    image: ImageReference | None = None
    """Image of the engine. It must contain tandem_runtime and match the operator's allow-list.
    Omitted: the image of the accelerator class."""


class Accelerator(ApiModel):
    """Hardware of one replica."""

    classes: Annotated[
        tuple[AcceleratorClassName, ...],
        Field(min_length=1, max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ]
    """Accelerator classes of the operator's table, in order of preference; all of one resource name.
    `tandem plan` and the chart's values list the classes."""
    count: Annotated[int, Field(ge=1, le=16)] = 1
    """Accelerators of one replica: GPUs with tensor parallelism over all of them, or shares of the class cpu."""


class RoleSpec(ApiModel):
    """One role: a model, the engine that serves it, and the hardware of each replica."""

    model: Model
    """The model of this role."""
    engine: Engine = Engine()
    """The engine that serves it."""
    accelerator: Accelerator
    """The hardware of each replica."""
    replicas: Replicas = 1
    """Wanted replicas. `kubectl scale` and autoscalers write the verifier's through the scale subresource."""


class Speculation(ApiModel):
    """How tokens are proposed before the verifier checks them. The text is the same with every method."""

    method: SpeculationMethod | None = None
    """Remote: draft pods propose (needs spec.draft). NGram: the verifier proposes from the prompt itself.
    Off: plain decoding. Omitted: Remote when spec.draft is given, else Off."""
    max_depth: Annotated[int, Field(ge=1, le=DEPTH_LIMIT)] = 5
    """Most tokens proposed at once."""


class LLMDeploymentSpec(ApiModel):
    """A large language model served as a pair: verifier pods, and draft pods that propose tokens to them."""

    model_config = rules(
        Rule(
            "has(self.draft) || !has(self.speculation) || !has(self.speculation.method)"
            " || self.speculation.method != 'Remote'",
            "spec.draft is required when spec.speculation.method is Remote",
            path=".draft",
        )
    )

    served_name: ServedName | None = None
    """Name of the model in the OpenAI API. Omitted: metadata.name."""
    verifier: RoleSpec
    """The large model. Its pods answer at the Service named like the resource."""
    draft: RoleSpec | None = None
    """The small model. Its pods exist while the speculation method is Remote."""
    speculation: Speculation = Speculation()
    """How tokens are proposed."""

    @model_validator(mode="after")
    def _remote_needs_a_draft(self) -> Self:
        if self.speculation.method is SpeculationMethod.REMOTE and self.draft is None:
            raise ValueError("spec.draft is required when spec.speculation.method is Remote")
        return self

    @property
    def method(self) -> SpeculationMethod:
        """The method in force, with the omitted one resolved."""
        if self.speculation.method is not None:
            return self.speculation.method
        return SpeculationMethod.OFF if self.draft is None else SpeculationMethod.REMOTE


class Owner(ApiModel):
    """Identity of an LLMDeployment: what its children need to know of it, also when its spec is invalid."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        metadata = body["metadata"]
        return cls(name=metadata["name"], namespace=metadata.get("namespace", ""), uid=metadata.get("uid", ""))


class LLMDeployment(ApiModel):
    """The resource as the operator works on it: identity, generation and a validated spec."""

    owner: Owner
    generation: int
    spec: LLMDeploymentSpec

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Validate a raw object of the API server.

        Raises `InvalidSpecError` that names each path, its value and what is allowed.
        """
        name = body["metadata"]["name"]
        if len(name) > names.NAME_MAX_LENGTH or not re.fullmatch(names.NAME_PATTERN, name):
            raise InvalidSpecError(f"metadata.name (is {name!r}): {NAME_RULE}")
        try:
            # As JSON, since pydantic's strict mode then takes what JSON has for what it is, and nothing else.
            written = json.dumps(body.get("spec") or {}, default=str)
            spec = LLMDeploymentSpec.model_validate_json(written, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            raise InvalidSpecError(_sentences(error)) from error
        return cls(owner=Owner.of(body), generation=body["metadata"].get("generation", 1), spec=spec)

    @property
    def served_name(self) -> str:
        return self.spec.served_name or self.owner.name

    def role(self, role: Role) -> RoleSpec | None:
        """The spec of a role; None for a draft that is not asked for."""
        return self.spec.verifier if role is Role.VERIFIER else self.spec.draft

    def uses(self, role: Role) -> bool:
        """Whether pods of the role are wanted by this spec."""
        return role is Role.VERIFIER or self.spec.method is SpeculationMethod.REMOTE


class InvalidSpecError(ValueError):
    """The spec breaks a rule of the schema; the message is for the user who wrote it."""


def _sentences(error: ValidationError) -> str:
    parts = []
    for detail in error.errors(include_url=False, include_context=False):
        path = "spec" + "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in detail["loc"])
        value = detail.get("input")
        shown = f" (is {repr(value)[:100]})" if isinstance(value, str | int | float | bool) else ""
        parts.append(f"{path}{shown}: {detail['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)


NAME_RULE = (
    f"must be a DNS-1035 label of at most {names.NAME_MAX_LENGTH} characters: lower-case letters, digits and '-', "
    "beginning with a letter"
)

RESOURCE_RULES = (
    Rule(
        f"size(self.metadata.name) <= {names.NAME_MAX_LENGTH} && self.metadata.name.matches('{names.NAME_PATTERN}')",
        f"metadata.name {NAME_RULE}",
    ),
)
