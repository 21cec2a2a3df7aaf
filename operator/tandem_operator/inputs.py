"""What a role's pods depend on: what the user requested, and what that resolves to under this configuration. Pure.

A revision is the hash of the resolved inputs. It is frozen together with what was requested: as long as the request
is the same, the frozen revision stays, whatever a newer operator or another configuration would resolve it to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from tandem_contracts.launch import Role, Speculation
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.deployment import LLMDeployment, RoleSpec
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.names import Reason


class RejectedSpecError(ValueError):
    """The spec is well formed, but this operator cannot act on it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class RoleInputs:
    """Resolved inputs of a role: everything that its pod template is rendered from."""

    role: Role
    served_name: str
    claim_name: str
    model_path: str
    image: str
    accelerators: tuple[AcceleratorClass, ...]
    count: int
    speculation: Speculation
    max_depth: int

    @property
    def accelerator(self) -> AcceleratorClass:
        """The most preferred class; every class of one role has the same resource name."""
        return self.accelerators[0]

    @property
    def tensor_parallel(self) -> int:
        """Ranks over which the model is split: all GPUs of a replica; a CPU engine is one rank with threads."""
        return 1 if self.accelerator.is_cpu else self.count

    def as_data(self) -> Manifest:
        """Plain JSON values, for hashing and for the ControllerRevision."""
        data: Manifest = json.loads(json.dumps(asdict(self), sort_keys=True))
        return data

    @property
    def revision(self) -> str:
        """8 hex digits over the resolved inputs."""
        return digest(self.as_data())[:8]


def digest(value: Any) -> str:
    """SHA-256 in hex of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def requested_of(deployment: LLMDeployment, role: Role) -> Manifest:
    """What the user asked of the role, without what never restarts a pod (replicas)."""
    spec = _spec(deployment, role)
    requested = _dumped(spec)
    requested["servedName"] = deployment.served_name
    requested.update(speculation=_speculation(deployment, role).value, maxDepth=_max_depth(deployment, role))
    return requested


_ADDED = ("servedName", "speculation", "maxDepth")


def _dumped(spec: RoleSpec) -> Manifest:
    dumped: Manifest = spec.model_dump(mode="json", by_alias=True, exclude={"replicas"}, exclude_none=True)
    return dumped


def is_same_request(frozen: Manifest, requested: Manifest) -> bool:
    """Whether a frozen request asks for what `requested` asks.

    A field that the frozen one does not know yet counts as its default: an operator that learns a field must not
    take every frozen revision for another one.
    """
    given = {key: value for key, value in frozen.items() if key not in _ADDED}
    try:
        spec = RoleSpec.model_validate(given)
    except ValidationError:
        return False
    added = {key: frozen.get(key) for key in _ADDED}
    return {**_dumped(spec), **added} == requested


def resolve(
    deployment: LLMDeployment,
    role: Role,
    *,
    config: OperatorConfig,
    table: Mapping[str, AcceleratorClass],
) -> RoleInputs:
    """Resolve a role's inputs.

    Raises RejectedSpecError for an unknown class, classes of different resources, an image that may not be named, or
    a speculation method that the hardware cannot run; each names path, value and what is allowed.
    """
    spec, path = _spec(deployment, role), f"spec.{role}"
    accelerators = _accelerators(spec, path, table=table)
    speculation = _speculation(deployment, role)
    for accelerator in accelerators if role is Role.VERIFIER else ():
        if speculation.value not in accelerator.methods:
            raise RejectedSpecError(
                Reason.METHOD_NOT_SUPPORTED,
                f"spec.speculation.method (is {speculation.value}): a verifier on {accelerator.name} can run "
                f"{', '.join(accelerator.methods)}, since its engine replaces vLLM's own runner",
            )
    return RoleInputs(
        role=role,
        served_name=deployment.served_name,
        claim_name=spec.model.source.claim.claim_name,
        model_path=spec.model.source.claim.path,
        image=_image(spec, path, config=config, accelerator=accelerators[0]),
        accelerators=accelerators,
        count=spec.accelerator.count,
        speculation=speculation,
        max_depth=_max_depth(deployment, role),
    )


def _spec(deployment: LLMDeployment, role: Role) -> RoleSpec:
    spec = deployment.role(role)
    if spec is None:
        raise ValueError(f"spec.{role} is not given")
    return spec


def _speculation(deployment: LLMDeployment, role: Role) -> Speculation:
    return deployment.spec.method if role is Role.VERIFIER else Speculation.OFF


def _max_depth(deployment: LLMDeployment, role: Role) -> int:
    return 0 if _speculation(deployment, role) is Speculation.OFF else deployment.spec.speculation.max_depth


def _accelerators(spec: RoleSpec, path: str, *, table: Mapping[str, AcceleratorClass]) -> tuple[AcceleratorClass, ...]:
    unknown = [name for name in spec.accelerator.classes if name not in table]
    if unknown:
        raise RejectedSpecError(
            Reason.UNKNOWN_ACCELERATOR_CLASS,
            f"{path}.accelerator.classes (is {', '.join(unknown)}): must be of {', '.join(sorted(table))}",
        )
    accelerators = tuple(table[name] for name in spec.accelerator.classes)
    resources = {accelerator.resource for accelerator in accelerators}
    if len(resources) > 1:
        raise RejectedSpecError(
            Reason.MIXED_ACCELERATOR_RESOURCES,
            f"{path}.accelerator.classes (is {', '.join(spec.accelerator.classes)}): all must be of one resource, "
            f"these are of {', '.join(sorted(resources))}",
        )
    return accelerators


def _image(spec: RoleSpec, path: str, *, config: OperatorConfig, accelerator: AcceleratorClass) -> str:
    named = spec.engine.image
    if named is not None:
        if not config.allows_engine_image(named):
            allowed = ", ".join(config.engine_image_allow_list) or "none: the operator's engineImageAllowList is empty"
            raise RejectedSpecError(
                Reason.ENGINE_IMAGE_NOT_ALLOWED,
                f"{path}.engine.image (is {named}): must match one of {allowed}",
            )
        return named
    if accelerator.engine_image not in config.engine_images:
        raise RejectedSpecError(
            Reason.ENGINE_IMAGE_NOT_ALLOWED,
            f"{path}.engine.image (is omitted): the operator's engineImages has no {accelerator.engine_image!r}, the "
            f"image of class {accelerator.name}; it has {', '.join(sorted(config.engine_images))}",
        )
    return config.engine_images[accelerator.engine_image]
