"""`LLMDeployment`, `tandem.dev/v1alpha1`: what a user writes.

Docstrings under the fields become `kubectl explain`. A field is here from the day the operator acts on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationError

from tandem_contracts.launch import Role
from tandem_contracts.launch import Speculation as SpeculationMethod
from tandem_operator import names
from tandem_operator.api.access import Access
from tandem_operator.api.autoscaling import Autoscaling
from tandem_operator.api.cache import Cache
from tandem_operator.api.engine import Engine, EngineType
from tandem_operator.api.faults import Fault, faults_of
from tandem_operator.api.fields import (
    AcceleratorClassName,
    ApiModel,
    Given,
    Replicas,
    Rule,
    ServedName,
    members,
)
from tandem_operator.api.model import Model, RoleModel
from tandem_operator.api.quantization import is_offline
from tandem_operator.api.rollout import Rollout
from tandem_operator.api.scheduling import Scheduling
from tandem_operator.api.speculation import Speculation


class Accelerator(ApiModel):
    """Hardware of one replica."""

    classes: Annotated[
        tuple[AcceleratorClassName, ...],
        Field(min_length=1, max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ]
    """Accelerator classes of the operator's table, in order of preference; all of one resource name.
    `tandem accelerators` lists the classes."""
    count: Annotated[int, Field(ge=1, le=16)] | None = None
    """Accelerators of one replica: GPUs with tensor parallelism over all of them, or shares of the class cpu.
    Omitted: as many as tensorParallel, else by sizing."""


class RoleSpec(ApiModel):
    """One role: a model, the engine that serves it, and the hardware of each replica."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.tensorParallel) || !has(self.accelerator.count)"
            " || self.tensorParallel <= self.accelerator.count",
            lambda role: (
                role.tensor_parallel is None
                or role.accelerator.count is None
                or role.tensor_parallel <= role.accelerator.count
            ),
            "tensorParallel must not be above accelerator.count",
            path=".tensorParallel",
            given=members("tensorParallel", "accelerator.count"),
        ),
    )

    model: RoleModel
    """The model of this role."""
    engine: Engine = Engine()
    """The engine that serves it."""
    accelerator: Accelerator
    """The hardware of each replica."""
    tensor_parallel: Annotated[int, Field(ge=1, le=16)] | None = None
    """Ranks over which the model is split. Omitted: all GPUs of a replica; 1 on the class cpu."""
    scheduling: Scheduling = Scheduling()
    """Where the pods may go, beyond what the accelerator classes say."""
    replicas: Replicas = 1
    """Wanted replicas; with bounds in spec.autoscaling those to begin with. `kubectl scale` and autoscalers write the
    verifier's through the scale subresource; while those are 0 there are no draft pods either."""


def _needs_cache(model: str) -> str:
    """CEL for `needs_cache` of a role's model."""
    return f"{_is_fetched(model)} || (has({model}.quantization) && {is_offline(f'{model}.quantization')})"


def _is_fetched(model: str) -> str:
    return f"has({model}.source.huggingFace) || has({model}.source.s3)"


_CEL_NEEDS_CACHE = " || ".join(
    (
        _needs_cache("self.verifier.model"),
        f"(has(self.draft) && ({_needs_cache('self.draft.model')}))",
        "(has(self.speculation) && has(self.speculation.inEngine) && has(self.speculation.inEngine.model)"
        f" && ({_is_fetched('self.speculation.inEngine.model')}))",
    )
)


class LLMDeploymentSpec(ApiModel):
    """A large language model served as a pair: verifier pods, and draft pods that propose tokens to them."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.draft) || !has(self.speculation) || !has(self.speculation.method)"
            " || self.speculation.method != 'Remote'",
            lambda spec: spec.draft is not None or spec.speculation.method is not SpeculationMethod.REMOTE,
            "spec.draft is required when spec.speculation.method is Remote",
            path=".draft",
        ),
        Rule(
            "!has(self.verifier.engine) || !has(self.verifier.engine.type) || self.verifier.engine.type == 'VLLM'",
            lambda spec: spec.verifier.engine.type is EngineType.VLLM,
            "spec.verifier.engine.type must be VLLM: other engines only draft",
            path=".verifier.engine.type",
        ),
        Rule(
            f"has(self.cache) || !({_CEL_NEEDS_CACHE})",
            lambda spec: spec.cache is not None or not any(model.needs_cache for model in spec.models()),
            "spec.cache is required for a model that is fetched (huggingFace, s3) or quantized (quantization)",
            path=".cache",
        ),
        Rule(
            "!has(self.autoscaling) || !has(self.autoscaling.draft) || (has(self.draft)"
            " && (!has(self.speculation) || !has(self.speculation.method) || self.speculation.method == 'Remote'))",
            lambda spec: (
                spec.autoscaling is None
                or spec.autoscaling.draft is None
                or (spec.draft is not None and spec.method is SpeculationMethod.REMOTE)
            ),
            "spec.autoscaling.draft needs draft pods: spec.draft, and spec.speculation.method Remote or omitted",
            path=".autoscaling.draft",
        ),
    )

    served_name: ServedName | None = None
    """Name of the model in the OpenAI API. Omitted: metadata.name."""
    verifier: RoleSpec
    """The large model. Its pods answer at the Service named like the resource."""
    draft: RoleSpec | None = None
    """The small model. Its pods exist while the speculation method is Remote."""
    speculation: Speculation = Speculation()
    """How tokens are proposed."""
    access: Access = Access()
    """Who may ask the verifiers."""
    rollout: Rollout = Rollout()
    """How a change reaches the pods."""
    autoscaling: Autoscaling | None = None
    """Replicas by latency targets. Omitted: verifier.replicas counts, which kubectl scale and autoscalers write."""
    cache: Cache | None = None
    """Where fetched and quantized models are kept. Required for a source that is fetched, and for a quantization."""

    def models(self) -> tuple[Model, ...]:
        """All that are named, used or not."""
        in_engine = self.speculation.in_engine
        draft = self.draft.model if self.draft else None
        named = (self.verifier.model, draft, in_engine.model if in_engine else None)
        return tuple(model for model in named if model is not None)

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
        if not is_name(name):
            raise InvalidSpecError([Fault("metadata.name", name, NAME_RULE)])
        if body.get("spec") is None:
            raise InvalidSpecError([Fault("spec", None, "is required")])
        try:
            # As JSON, since pydantic's strict mode then takes what JSON has for what it is, and nothing else.
            written = json.dumps(_without_nulls(body["spec"]), default=str)
            spec = LLMDeploymentSpec.model_validate_json(written, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            raise InvalidSpecError(faults_of(error, LLMDeploymentSpec, "spec")) from error
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

    def model(self, role: Role) -> Model | None:
        """The model that verifies, or that drafts: on its own pods, or inside the engine. None: there is none."""
        in_engine, spec = self.spec.speculation.in_engine, self.role(role)
        if role is Role.DRAFT and in_engine is not None:
            return in_engine.model
        return spec.model if spec is not None and self.uses(role) else None


class InvalidSpecError(ValueError):
    """The spec breaks a rule of the schema; the message is for the user who wrote it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


def _without_nulls(value: Any) -> Any:
    """`value` as the API server keeps it: a member of an object that is null counts as left out."""
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def is_name(name: str) -> bool:
    """Whether an LLMDeployment may be called so: its children's names are made of it."""
    return len(name) <= names.NAME_MAX_LENGTH and re.fullmatch(names.NAME_PATTERN, name) is not None


NAME_RULE = (
    f"must be a DNS-1035 label of at most {names.NAME_MAX_LENGTH} characters: lower-case letters, digits and '-', "
    "beginning with a letter"
)

RESOURCE_RULES = (
    Rule(
        f"size(self.metadata.name) <= {names.NAME_MAX_LENGTH} && self.metadata.name.matches('{names.NAME_PATTERN}')",
        lambda body: is_name(body["metadata"]["name"]),
        f"metadata.name {NAME_RULE}",
        given=Given("is %s", ("self.metadata.name",), lambda body: (body["metadata"]["name"],)),
    ),
)
