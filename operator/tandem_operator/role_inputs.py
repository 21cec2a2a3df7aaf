"""Everything that the pods of a role's revision follow from, resolved. Pure.

A revision is the hash of these inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from tandem_contracts.engine_settings import EngineSettings
from tandem_contracts.launch import DraftEngine, InEngineKind, Role, Speculation
from tandem_contracts.recipe import DraftScheme
from tandem_contracts.stopping import DEFAULT_DRAIN_SECONDS
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.draft_tls import DraftTLS
from tandem_operator.api.scheduling import TopologySpread
from tandem_operator.facts import Manifest
from tandem_operator.model_files import ModelFiles

DEFAULT_START_LIMIT_SECONDS = 1800
UNSET = EngineSettings()

NOT_HASHED: Mapping[str, Any] = {"hashed": False}
"""Metadata of a field that does not restart a pod."""


@dataclass(frozen=True)
class SecretKey:
    """A key of a Secret, by name."""

    name: str
    key: str


@dataclass(frozen=True)
class DraftCertificates:
    """Where the certificates of a pair come from: a Secret by name, or an issuer; the other is empty."""

    secret_name: str = ""
    issuer_name: str = ""
    issuer_kind: str = ""
    issuer_group: str = ""

    @classmethod
    def of(cls, tls: DraftTLS) -> DraftCertificates:
        if tls.cert_manager is None:
            return cls(secret_name=tls.secret_name or "")
        issuer = tls.cert_manager.issuer_ref
        return cls(
            issuer_name=issuer.name,
            issuer_kind=issuer.kind or "Issuer",
            issuer_group=issuer.group or "cert-manager.io",
        )


@dataclass(frozen=True)
class Traces:
    """Where an engine sends its traces, and by which of OpenTelemetry's protocols."""

    endpoint: str
    protocol: str


@dataclass(frozen=True)
class RoleInputs:
    """Resolved inputs of a role: everything that its pod template is rendered from.

    A field that comes with a later version has a default that means "as before": what equals its default is left out
    of the hash, so that a revision which does not use the field keeps its name.
    """

    role: Role
    served_name: str
    claim_name: str
    model_path: str
    image: str
    accelerators: tuple[AcceleratorClass, ...]
    count: int
    speculation: Speculation
    max_depth: int
    model_image: str = ""
    """Image with the model, where it lies in no claim."""
    engine: EngineSettings = UNSET
    draft_engine: DraftEngine | None = None
    """None for a verifier, and for a draft server that is not ours."""
    draft_scheme: DraftScheme | None = None
    """What the draft server makes of the weights while it loads them."""
    is_custom: bool = False
    """The image brings its own draft server, and is started by its own command."""
    in_engine: InEngineKind | None = None
    in_engine_model: ModelFiles | None = None
    api_key: SecretKey | None = None
    draft_tls: DraftCertificates | None = None
    """None: drafts go in plaintext, or there are none."""
    traces: Traces | None = None
    """None: nowhere. Drafts have none."""
    scrape_annotations: bool = False
    """Pods have annotations by which Prometheus finds them."""
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Beside those for the taints of the accelerator classes."""
    topology_spread: TopologySpread | None = None
    priority_class_name: str = ""
    ranks: int = 0
    """Ranks over which the model is split, where it is not all GPUs of a replica, or one rank of CPU threads."""
    drain_seconds: int = field(default=DEFAULT_DRAIN_SECONDS, metadata=NOT_HASHED)
    """How long an old pod may go on with its requests; a change of it is for the pods of the next revision."""
    start_limit_seconds: int = field(default=DEFAULT_START_LIMIT_SECONDS, metadata=NOT_HASHED)
    """How long a pod may take to load its model before it is started again; for the next revision likewise."""

    @property
    def accelerator(self) -> AcceleratorClass:
        """The most preferred class; every class of one role has the same resource name."""
        return self.accelerators[0]

    @property
    def model(self) -> ModelFiles:
        """The role's own model."""
        return ModelFiles(claim_name=self.claim_name, image=self.model_image, path=self.model_path)

    @property
    def tensor_parallel(self) -> int:
        """Ranks over which the model is split."""
        return self.ranks or (1 if self.accelerator.is_cpu else self.count)

    def as_data(self) -> Manifest:
        """Plain JSON values, for hashing and for the ControllerRevision."""
        kept = [each.name for each in fields(self) if each.metadata != NOT_HASHED and not self._is_default(each)]
        whole = {
            **asdict(self),
            "accelerators": [accelerator.as_data() for accelerator in self.accelerators],
            "engine": self.engine.given(),
        }
        data: Manifest = json.loads(json.dumps({name: whole[name] for name in kept}, sort_keys=True))
        return data

    def _is_default(self, each: Field[Any]) -> bool:
        return each.default is not MISSING and getattr(self, each.name) == each.default

    @property
    def revision(self) -> str:
        """8 hex digits over the resolved inputs."""
        return digest(self.as_data())[:8]


def digest(value: Any) -> str:
    """SHA-256 in hex of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differing(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Paths of the values in which two documents differ, as `accelerators[0].environment.OMP_NUM_THREADS`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {*before, *after}:
            yield from differing(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (was, now) in enumerate(zip(before, after, strict=True)):
            yield from differing(was, now, f"{path}[{index}]")
    elif before != after:
        yield path
