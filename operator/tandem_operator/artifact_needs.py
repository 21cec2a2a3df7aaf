"""Which artifacts a deployment needs: each model in the form in which it is served, with every word decided. Pure.

What the user leaves open, the scheme and the algorithm, follows from the accelerator classes. It is decided when an
artifact is asked for, and the key of the artifact holds it from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tandem_contracts.engine_settings import OnlineQuantization
from tandem_contracts.launch import Role
from tandem_contracts.recipe import TOOLCHAIN, AnyScheme, DraftScheme, InvalidRecipeError, Recipe, Scheme
from tandem_operator.accelerators import AcceleratorClass, table_of
from tandem_operator.api.artifact import ArtifactQuantization, ModelArtifactSpec
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment, RoleSpec
from tandem_operator.api.engine import EngineType
from tandem_operator.api.model import Model, ModelSource
from tandem_operator.api.quantization import (
    ONLINE_SCHEMES,
    Calibration,
    Gate,
    GateFailure,
    Quantization,
    QuantizationJob,
    QuantizationMode,
)
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.model_files import Credential, credentials_of
from tandem_operator.names import Reason
from tandem_operator.rejection import RejectedSpecError

DEFAULT_JOB = QuantizationJob()


@dataclass(frozen=True)
class Need:
    """One model of a deployment, as it is to be served."""

    artifact: ModelArtifactSpec
    gate: Gate | None = None
    job: QuantizationJob = DEFAULT_JOB
    classes: tuple[str, ...] = ()
    """Of the role that serves it."""
    credentials: tuple[Credential, ...] = ()
    """What opens the source."""
    ttl_seconds: int | None = None
    """How long it is to be kept once nothing refers to it; None: as the operator's configuration."""
    why: str = ""
    """Why it is this scheme, where the user has left it open."""

    @property
    def key(self) -> str:
        """Name of the artifact."""
        return self.artifact.key

    @property
    def artifacts(self) -> tuple[ModelArtifactSpec, ...]:
        """All that have to be there for it: the model as it is, and then the form in which it is served."""
        first = self.artifact.as_it_is
        return (first,) if first == self.artifact else (first, self.artifact)

    @property
    def asked(self) -> tuple[ModelArtifactSpec, ...]:
        """Those that must be there for as long as it is needed; what it is made from it asks for itself."""
        return self.artifacts if self.serves_source else (self.artifact,)

    @property
    def serves_source(self) -> bool:
        """Whether the model as it is may be served, too."""
        failing = self.gate.on_failure if self.gate else GateFailure.WARN
        return self.artifact.quantization is None or failing is GateFailure.SERVE_UNQUANTIZED


@dataclass(frozen=True)
class Settings:
    """What of the operator's configuration decides over artifacts."""

    table: Mapping[str, AcceleratorClass]
    config: OperatorConfig

    @classmethod
    def of(cls, config: OperatorConfig) -> Self:
        """Raises InvalidConfigError."""
        return cls(table_of(config), config)


def needs_of(deployment: LLMDeployment, settings: Settings) -> dict[Role, Need]:
    """What the models that a spec uses need, by what they do.

    Raises RejectedSpecError for a scheme without a kernel, or a hub that the configuration does not know.
    """
    found = {role: need_of(deployment, role, settings) for role in Role}
    return {role: need for role, need in found.items() if need is not None}


def need_of(deployment: LLMDeployment, role: Role, settings: Settings) -> Need | None:
    """The same of one role; None where it uses no model. Raises RejectedSpecError."""
    model = deployment.model(role)
    return None if model is None else _need(deployment, role, model, settings)


def needs_in(body: Manifest, settings: Settings) -> dict[Role, Need]:
    """The same of a raw LLMDeployment; none for a spec that is refused."""
    try:
        return needs_of(LLMDeployment.parse(body), settings)
    except (InvalidSpecError, RejectedSpecError):
        return {}


def all_needs_in(body: Manifest, settings: Settings) -> Iterator[Need]:
    """What every model that a raw LLMDeployment names would need, used or not: what must not be thrown away."""
    try:
        deployment = LLMDeployment.parse(body)
    except InvalidSpecError:
        return
    in_engine = deployment.spec.speculation.in_engine
    draft = deployment.spec.draft
    named: list[tuple[Role, Model | None]] = [
        (Role.VERIFIER, deployment.spec.verifier.model),
        (Role.DRAFT, draft.model if draft else None),
        (Role.DRAFT, in_engine.model if in_engine else None),
    ]
    for role, model in named:
        try:
            if model is not None:
                yield _need(deployment, role, model, settings)
        except RejectedSpecError:
            continue  # it needs nothing that could be made


def _need(deployment: LLMDeployment, role: Role, model: Model, settings: Settings) -> Need:
    spec, cache = deployment.role(role), deployment.spec.cache
    is_in_engine = spec is None or spec.model is not model
    path = "spec.speculation.inEngine" if is_in_engine else f"spec.{role}"
    _require_place(model, f"{path}.model.source", settings.config)
    shared: dict[str, Any] = {
        "credentials": credentials_of(model.source),
        "ttl_seconds": cache.ttl_seconds if cache is not None else None,
    }
    claim = cache.volume.claim_name if cache is not None and model.needs_cache else None
    quantization = None if is_in_engine or spec is None else spec.model.quantization
    is_shared = settings.config.share_artifacts and not _names_own(model.source, quantization)
    tenant = None if claim is None or is_shared else deployment.owner.namespace
    artifact = ModelArtifactSpec(source=model.source, claim_name=claim, tenant=tenant)
    if quantization is None or spec is None:
        return Need(artifact, **shared)
    if quantization.mode is QuantizationMode.PREQUANTIZED:
        _require_engine(spec, quantization, path=path)
        return Need(artifact, **shared)
    _require_engine(spec, quantization, path=path)
    scheme, why = _scheme(quantization, spec, path=f"{path}.model.quantization.scheme", table=settings.table)
    if quantization.mode is QuantizationMode.ONLINE or isinstance(scheme, DraftScheme):
        return Need(artifact, why=f"the engine quantizes it to {scheme}, {why}" if why else "", **shared)
    made = _quantization(quantization, scheme, path=f"{path}.model.quantization")
    return Need(
        artifact.model_copy(update={"quantization": made}),
        quantization.gate,
        quantization.job or DEFAULT_JOB,
        spec.accelerator.classes,
        why=why,
        **shared,
    )


def _names_own(source: ModelSource, quantization: Quantization | None) -> bool:
    """Whether the files are made from what is the namespace's own: another one has other things of the same name."""
    calibration = quantization.calibration if quantization else None
    has_texts = calibration is not None and calibration.config_map_key_ref is not None
    return has_texts or source.persistent_volume_claim is not None


def online_scheme_of(spec: RoleSpec, path: str, *, table: Mapping[str, AcceleratorClass]) -> OnlineQuantization | None:
    """What the engine is told to make of the weights; None unless the engine itself is to quantize.

    Raises RejectedSpecError.
    """
    quantization = spec.model.quantization
    if quantization is None or quantization.mode is not QuantizationMode.ONLINE:
        return None
    scheme, _ = _scheme(quantization, spec, path=f"{path}.model.quantization.scheme", table=table)
    return None if isinstance(scheme, DraftScheme) else ONLINE_SCHEMES[scheme]


def _scheme(
    quantization: Quantization, spec: RoleSpec, *, path: str, table: Mapping[str, AcceleratorClass]
) -> tuple[AnyScheme, str]:
    """The scheme, and why it is this one; every class that pods may land on must have a kernel for it."""
    classes = [table[name] for name in spec.accelerator.classes if name in table]
    is_for_drafts = isinstance(quantization.scheme, DraftScheme)
    allowed = [
        scheme
        for scheme in (classes[0].schemes if classes else ())
        if all(scheme in other.schemes for other in classes)
        and isinstance(scheme, DraftScheme) is is_for_drafts
        and (quantization.mode is not QuantizationMode.ONLINE or is_for_drafts or scheme in ONLINE_SCHEMES)
    ]
    kind = "of those for drafts" if is_for_drafts else "of vLLM's"
    told = ", ".join(allowed) or f"none {kind} (the operator's accelerators.NAME.schemes says which)"
    names = " and ".join(each.name for each in classes)
    if quantization.scheme is None:
        if not allowed:
            raise RejectedSpecError(
                Reason.SCHEME_NOT_SUPPORTED,
                f"{path} (is omitted): there is no scheme to choose on {names}: the accelerator table allows {told}",
            )
        return allowed[0], f"the first that {names} has a kernel for"
    lacking = next((each for each in classes if quantization.scheme not in each.schemes), None)
    if lacking is not None:
        note = lacking.scheme_notes.get(quantization.scheme, "")
        raise RejectedSpecError(
            Reason.SCHEME_NOT_SUPPORTED,
            f"{path} (is {quantization.scheme}): {lacking.name} cannot serve it{f': {note}' if note else ''}; "
            f"allowed on {names}: {told}",
        )
    return quantization.scheme, ""


def _quantization(given: Quantization, scheme: Scheme, *, path: str) -> ArtifactQuantization:
    algorithm = given.algorithm or scheme.algorithms[0]
    try:
        recipe = Recipe(scheme=scheme, algorithm=algorithm, kv_cache=given.kv_cache, ignore=given.ignore)
    except InvalidRecipeError as error:  # only an omitted scheme can lead here: the CRD compares those that are given
        raise RejectedSpecError(Reason.SCHEME_NOT_SUPPORTED, f"{path}.{error}") from error
    return ArtifactQuantization(
        scheme=scheme,
        algorithm=algorithm,
        kv_cache=given.kv_cache,
        ignore=given.ignore,
        calibration=(given.calibration or Calibration()) if recipe.needs_calibration else None,
        toolchain=dict(TOOLCHAIN),
    )


_WITHOUT_BITSANDBYTES = {
    EngineType.VLLM: "vLLM refuses what bitsandbytes makes",
    EngineType.CUSTOM: "a server that is not ours loads the files as they lie",
}


def _require_engine(spec: RoleSpec, quantization: Quantization, *, path: str) -> None:
    """Refuse what the engine of the role cannot load."""
    path, engine, for_drafts = f"{path}.model.quantization", spec.engine.type, spec.model.draft_scheme
    drafts_with = EngineType.TRANSFORMERS
    if engine is EngineType.TRITON:
        raise RejectedSpecError(
            Reason.SCHEME_NOT_SUPPORTED,
            f"{path} (is given): must be left out with engine.type Triton, which exports the weights to ONNX; VLLM and "
            "Transformers read quantized ones",
        )
    if for_drafts is not None and engine is not drafts_with:
        raise RejectedSpecError(
            Reason.SCHEME_NOT_SUPPORTED,
            f"{path}.scheme (is {for_drafts}): must be one of {', '.join(Scheme)} with engine.type {engine}: "
            f"{_WITHOUT_BITSANDBYTES[engine]}; a draft with engine.type {drafts_with} takes it",
        )
    if for_drafts is None and quantization.mode is QuantizationMode.ONLINE and engine is not EngineType.VLLM:
        unless = f", or the scheme {' or '.join(DraftScheme)}" if engine is drafts_with else ""
        raise RejectedSpecError(
            Reason.SCHEME_NOT_SUPPORTED,
            f"{path}.mode (is Online): must be Offline with engine.type {engine}{unless}: only VLLM makes other "
            "schemes while it loads a model",
        )


def _require_place(model: Model, path: str, config: OperatorConfig) -> None:
    """Refuse a hub or a store that the administrator has not named."""
    hub, s3 = model.source.hugging_face, model.source.s3
    if hub is not None and hub.hub is not None and hub.hub not in config.model_hubs:
        told = _allowed("modelHubs", config.model_hubs)
        raise RejectedSpecError(Reason.UNKNOWN_HUB, f"{path}.huggingFace.hub (is {hub.hub}): {told}")
    if s3 is not None and s3.store is not None and s3.store not in config.model_stores:
        told = _allowed("modelStores", config.model_stores)
        raise RejectedSpecError(Reason.UNKNOWN_STORE, f"{path}.s3.store (is {s3.store}): {told}")


def _allowed(setting: str, known: Mapping[str, str]) -> str:
    return (
        f"must be one of {', '.join(sorted(known))}"
        if known
        else f"must be left out: the operator's {setting} has none"
    )
