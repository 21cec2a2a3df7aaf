"""What a role's pods depend on: what the user requested, and what that resolves to under this configuration. Pure.

A revision, the hash of the resolved inputs, is frozen together with what was requested: as long as the request
is the same, the frozen revision stays, whatever a newer operator or another configuration would resolve it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches

from pydantic import ValidationError

from tandem_contracts.engine_settings import DataType, EngineSettings, KVCacheDtype
from tandem_contracts.launch import DraftEngine, InEngineKind, Role, Speculation
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.recipe import KVCache
from tandem_contracts.termination import Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.access import SecretKeyRef
from tandem_operator.api.deployment import LLMDeployment, RoleSpec
from tandem_operator.api.draft_tls import DraftTLS
from tandem_operator.api.engine import EngineType
from tandem_operator.api.model import Model
from tandem_operator.api.quantization import QuantizationMode
from tandem_operator.api.speculation import InEngine
from tandem_operator.artifact_needs import online_scheme_of
from tandem_operator.artifact_smoke import SmokeTarget, smoke_target_of
from tandem_operator.artifact_steps import Step
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason
from tandem_operator.rejection import RejectedSpecError
from tandem_operator.role_inputs import DraftCertificates, RoleInputs, SecretKey, Traces
from tandem_operator.sizing import COUNTS, SizingRequest, Unfit, size_over, split_problem


class ModelNotReadyError(Exception):
    """Pods of the role cannot be made yet, since of their model something is missing; the message says what.

    `smoke`: on what the model has to be asked first.
    """

    def __init__(self, reason: Reason | Cause, message: str, *, smoke: SmokeTarget | None = None) -> None:
        super().__init__(message)
        self.reason, self.smoke = reason, smoke


CLASSES_TOLD = 8
"""So many are named in full to whoever asks for one that there is not."""
ENGINE_MEMORY_PERCENT = 92
"""vLLM's own share of an accelerator's memory, where the user gives none."""

_KEY_ENDINGS = {EngineType.TRITON: "-triton"}
"""Of keys in `engineImages`, for engines that are not in the image of their accelerator class."""


class _Request(RoleSpec):
    """What is asked of a role: its spec, and what it takes from the rest of the resource."""

    served_name: str = ""
    speculation: Speculation = Speculation.OFF
    max_depth: int = 0
    in_engine: InEngine | None = None
    api_key: SecretKeyRef | None = None
    draft_tls: DraftTLS | None = None
    cache_claim: str | None = None
    """Where the model is published, if Jobs make it."""

    def as_data(self) -> Manifest:
        """Plain JSON values, without what never restarts a pod (replicas)."""
        data: Manifest = self.model_dump(mode="json", by_alias=True, exclude={"replicas"}, exclude_none=True)
        return data


def requested_of(deployment: LLMDeployment, role: Role) -> Manifest:
    """What the user asked of the role, without what never restarts a pod."""
    spec = _spec(deployment, role)
    return _Request(
        **dict(spec),
        served_name=deployment.served_name,
        speculation=_speculation(deployment, role),
        max_depth=_max_depth(deployment, role),
        in_engine=_in_engine(deployment, role),
        api_key=_api_key(deployment, role),
        draft_tls=_draft_tls(deployment),
        cache_claim=_cache_claim(deployment, role),
    ).as_data()


def role_of_request(requested: Manifest) -> Manifest:
    """The role's own part of a request, as somebody would write it: without what is so anyway.

    Raises pydantic's ValidationError for a request that this operator does not understand.
    """
    added = set(_Request.model_fields) - set(RoleSpec.model_fields)
    written = _Request.model_validate(requested)
    data: Manifest = written.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=added | {"replicas"})
    return data


def is_same_request(frozen: Manifest, requested: Manifest) -> bool:
    """Whether a frozen request asks for what `requested` asks.

    A field that the frozen one does not know yet counts as its default: an operator that learns a field must not
    take every frozen revision for another one.
    """
    try:
        return _Request.model_validate(frozen).as_data() == requested
    except ValidationError:
        return False


def is_same_form(frozen: Manifest, requested: Manifest) -> bool:
    """Whether both ask for the same but for what says how good a model must be, and where it is made."""
    try:
        return _without_gate(_Request.model_validate(frozen).as_data()) == _without_gate(requested)
    except ValidationError:
        return False


def _without_gate(requested: Manifest) -> Manifest:
    model = requested["model"]
    quantization = dict(model.get("quantization") or {})
    quantization.pop("job", None)
    quantization["gate"] = (quantization.pop("gate", None) or {}).get("evaluation")
    return {**requested, "model": {**model, "quantization": quantization}}


def resolve(
    deployment: LLMDeployment,
    role: Role,
    *,
    config: OperatorConfig,
    table: Mapping[str, AcceleratorClass],
    artifacts: Mapping[Role, ArtifactFacts] | None = None,
    models: Mapping[Role, ModelFacts] | None = None,
) -> RoleInputs:
    """Resolve a role's inputs. `artifacts`: where Jobs have published models, for those that lie nowhere else.
    `models`: what is known of the models; only an omitted count needs it.

    Raises ModelNotReadyError where a model is not published, or where a count is to be sized and it is not known.
    Raises RejectedSpecError for an unknown class, classes of different resources, an image that may not be named, or
    a speculation method that the hardware cannot run; each names path, value and what is allowed.
    """
    spec, path = _spec(deployment, role), f"spec.{role}"
    accelerators = _accelerators(spec, path, table=table)
    speculation = _speculation(deployment, role)
    count, ranks = _split(spec, path, is_cpu=accelerators[0].is_cpu)
    count = count or _sized(deployment, role, accelerators, models=models or {})
    for accelerator in accelerators if role is Role.VERIFIER else ():
        if speculation.value not in accelerator.methods:
            raise RejectedSpecError(
                Reason.METHOD_NOT_SUPPORTED,
                f"spec.speculation.method (is {speculation.value}): a verifier on {accelerator.name} can run "
                f"{', '.join(accelerator.methods) or 'none'}: {accelerator.methods_note}",
            )
    for accelerator in accelerators:
        if count > accelerator.max_count:
            raise RejectedSpecError(
                Reason.TOO_MANY_ACCELERATORS,
                f"{path}.accelerator.count (is {count}): must be at most {accelerator.max_count}, as many "
                f"{accelerator.name} as one replica can use together",
            )
    files = _files(spec.model, path, (artifacts or {}).get(role))
    in_engine, api_key = _in_engine(deployment, role), _api_key(deployment, role)
    tls, is_custom = _draft_tls(deployment), spec.engine.type is EngineType.CUSTOM
    return RoleInputs(
        role=role,
        served_name=deployment.served_name,
        claim_name=files.claim_name,
        model_path=files.path,
        model_image=files.image,
        image=_image(spec, path, config=config, accelerator=accelerators[0]),
        accelerators=accelerators,
        count=count,
        speculation=speculation,
        max_depth=_max_depth(deployment, role),
        engine=_engine_settings(spec, path, table=table, model=(models or {}).get(role)),
        draft_engine=DraftEngine(spec.engine.type) if role is Role.DRAFT and not is_custom else None,
        draft_scheme=spec.model.draft_scheme,
        is_custom=is_custom,
        in_engine=in_engine.kind if in_engine else None,
        in_engine_model=_in_engine_files(in_engine, (artifacts or {}).get(Role.DRAFT)),
        api_key=SecretKey(name=api_key.name, key=api_key.key) if api_key else None,
        draft_tls=DraftCertificates.of(tls) if tls else None,
        traces=_traces(role, config),
        scrape_annotations=config.scrape_annotations,
        tolerations=tuple(
            toleration.model_dump(mode="json", by_alias=True, exclude_none=True)
            for toleration in spec.scheduling.tolerations
        ),
        topology_spread=spec.scheduling.topology_spread,
        priority_class_name=spec.scheduling.priority_class_name or "",
        ranks=ranks,
        drain_seconds=deployment.spec.rollout.drain_timeout_seconds,
        start_limit_seconds=deployment.spec.rollout.progress_deadline_seconds,
    )


def _files(model: Model, path: str, artifact: ArtifactFacts | None) -> ModelFiles:
    """Where pods find the model: where it lies, or where Jobs have published it."""
    lies = None if model.needs_cache else ModelFiles.of(model.source)
    files = lies or (artifact.files if artifact else None)
    if files is None:
        reason = artifact.reason if artifact else Reason.MODEL_NOT_INSPECTED
        told = f": {artifact.message}" if artifact and artifact.message else ""
        raise ModelNotReadyError(reason, f"{path}.model is not ready to be served{told}")
    return files


def require_smoked(inputs: RoleInputs, artifact: ArtifactFacts | None) -> None:
    """Hold back a quantized model that has not answered yet in the engine that is to serve it.

    Raises ModelNotReadyError.
    """
    target = smoke_target_of(inputs)
    if target is None or artifact is None or artifact.smoked is None or target.name in artifact.smoked:
        return
    job = Step(Phase.SMOKE, smoke=target.name).job_name(target.artifact)
    has_failed = artifact.job == job and artifact.is_stuck
    reason = Reason.SMOKE_FAILED if has_failed else Reason.SMOKE_TESTING
    told = artifact.telling if artifact.job == job else f"Job {job} asks it in the engine that is to serve it"
    raise ModelNotReadyError(reason, told, smoke=target)


def _in_engine_files(in_engine: InEngine | None, artifact: ArtifactFacts | None) -> ModelFiles | None:
    if in_engine is None or in_engine.model is None:
        return None
    return _files(in_engine.model, "spec.speculation.inEngine", artifact)


def _engine_settings(
    spec: RoleSpec, path: str, *, table: Mapping[str, AcceleratorClass], model: ModelFacts | None
) -> EngineSettings:
    """What the user sets of the engine, and what follows from how the model is quantized.

    Kernels of quantized weights compute in 16 bits; in 32 an engine starts well and dies at the first request.
    """
    settings, online = spec.engine.settings, online_scheme_of(spec, path, table=table)
    is_wide = model is not None and bool(model.quantization) and model.data_type == DataType.FLOAT32
    if is_wide and settings.data_type is None and spec.engine.type is EngineType.VLLM:
        settings = replace(settings, data_type=DataType.BFLOAT16)
    return replace(settings, quantization=online) if online else settings


def _cache_claim(deployment: LLMDeployment, role: Role) -> str | None:
    cache, in_engine = deployment.spec.cache, _in_engine(deployment, role)
    models = (_spec(deployment, role).model, in_engine.model if in_engine else None)
    is_used = any(model is not None and model.needs_cache for model in models)
    return cache.volume.claim_name if cache is not None and is_used else None


def _split(spec: RoleSpec, path: str, *, is_cpu: bool) -> tuple[int, int]:
    """Accelerators of a replica, 0 where sizing decides; and the ranks over them, 0 for the usual number."""
    ranks, count = spec.tensor_parallel or 0, spec.accelerator.count or 0
    if is_cpu:  # shares of CPU are the threads of a rank
        return count or ranks, ranks if ranks > 1 else 0
    if ranks and count and ranks != count:
        raise RejectedSpecError(
            Reason.TENSOR_PARALLEL_MISMATCH,
            f"{path}.tensorParallel (is {ranks}): must be {count}, {path}.accelerator.count; other "
            f"{spec.accelerator.classes[0]} of the replica would stand idle",
        )
    return count or ranks, 0


def require_servable(deployment: LLMDeployment, role: Role, model: ModelFacts, *, is_cpu: bool) -> None:
    """Refuse what no engine can do with this model: it would fail at each start.

    Raises RejectedSpecError that names path, value and what is allowed. An estimate of memory is no reason.
    """
    spec, path = _spec(deployment, role), f"spec.{role}"
    length = spec.engine.max_model_length or 0
    if length > model.max_positions > 0:
        raise RejectedSpecError(
            Reason.MODEL_DOES_NOT_FIT,
            f"{path}.engine.maxModelLength (is {length}): must be at most {model.max_positions}, what the model was "
            "made for",
        )
    _require_form(spec, path, model)
    method = _speculation(deployment, role)
    keeps_defaults = spec.engine.settings.flags.get("generation-config") != "vllm"
    if model.generation_min_p and method is not Speculation.OFF and keeps_defaults:
        raise RejectedSpecError(
            Reason.METHOD_NOT_SUPPORTED,
            f"spec.speculation.method (is {method.value}): must be {Speculation.OFF.value} for this model, whose "
            f"generation_config.json makes min_p {model.generation_min_p:g} the default of every request: the engine "
            f"refuses min_p while it speculates. {path}.engine.args.generation-config vllm leaves the model's "
            "defaults out",
        )
    count, ranks = _split(spec, path, is_cpu=is_cpu)
    ranks = ranks or (1 if is_cpu else count)
    problem = split_problem(model, ranks) if ranks else ""
    if problem:
        allowed = ", ".join(str(each) for each in range(1, COUNTS[-1] + 1) if not split_problem(model, each))
        field = "tensorParallel" if spec.tensor_parallel else "accelerator.count"
        raise RejectedSpecError(
            Reason.MODEL_DOES_NOT_FIT,
            f"{path}.{field} (is {ranks}): {problem}; this model can be split over {allowed}",
        )


def _require_form(spec: RoleSpec, path: str, model: ModelFacts) -> None:
    """Refuse a model that is said to be quantized and is not, or to be quantized once more."""
    wanted = spec.model.quantization
    if spec.model.draft_scheme is not None and model.quantization:
        raise RejectedSpecError(
            Reason.QUANTIZED_ALREADY,
            f"{path}.model.quantization.scheme (is {spec.model.draft_scheme}): must be left out for this model, which "
            f"is quantized already ({model.quantization}), with mode Prequantized",
        )
    if wanted is not None and wanted.mode is QuantizationMode.PREQUANTIZED and not model.quantization:
        raise RejectedSpecError(
            Reason.NOT_QUANTIZED,
            f"{path}.model.quantization.mode (is Prequantized): must be Offline or Online for this model, whose "
            "config.json has no quantization_config",
        )


def _sized(
    deployment: LLMDeployment,
    role: Role,
    accelerators: tuple[AcceleratorClass, ...],
    *,
    models: Mapping[Role, ModelFacts],
) -> int:
    path, model, in_engine = f"spec.{role}.accelerator.count", models.get(role), _in_engine(deployment, role)
    drafts_inside = in_engine is not None and in_engine.kind is InEngineKind.DRAFT_MODEL
    if model is None or (drafts_inside and Role.DRAFT not in models):
        missing = "the model" if model is None else "the model of spec.speculation.inEngine"
        message = f"{path} is omitted: it follows from {missing}, which has not been inspected"
        raise ModelNotReadyError(Reason.MODEL_NOT_INSPECTED, message)
    sized = size_over(model, accelerators, request=sizing_request_of(deployment, role, models=models))
    if isinstance(sized, Unfit):
        raise RejectedSpecError(Reason.MODEL_DOES_NOT_FIT, f"{path} (is omitted): no count will do: {sized.reason}")
    return sized.count


def _kv_cache_dtype(spec: RoleSpec, model: ModelFacts | None) -> str:
    """What the engine keeps keys and values in: what it is told, else, with vLLM, what the files have scales for."""
    said, quantization = spec.engine.kv_cache_dtype, spec.model.quantization
    is_left_to_it = spec.engine.type is EngineType.VLLM and said in {None, KVCacheDtype.AUTO}
    has_scales = quantization is not None and quantization.kv_cache is KVCache.FP8
    if is_left_to_it and has_scales and model is not None and model.quantization:
        return KVCacheDtype.FP8
    return said or ""


def sizing_request_of(deployment: LLMDeployment, role: Role, *, models: Mapping[Role, ModelFacts]) -> SizingRequest:
    """What a role's engine is asked to hold."""
    spec, wanted = _spec(deployment, role), SizingRequest()
    engine = spec.engine
    return SizingRequest(
        max_model_length=engine.max_model_length or 0,
        concurrency=min(wanted.concurrency, engine.scheduler.max_sequences or wanted.concurrency),
        data_type=engine.data_type or "",
        kv_cache_dtype=_kv_cache_dtype(spec, models.get(role)),
        memory_utilization_percent=engine.paging.memory_utilization_percent or ENGINE_MEMORY_PERCENT,
        count=spec.accelerator.count or 0,
        tensor_parallel=spec.tensor_parallel or 0,
        draft_scheme=spec.model.draft_scheme,
        beside=models.get(Role.DRAFT) if _in_engine(deployment, role) else None,
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


def _in_engine(deployment: LLMDeployment, role: Role) -> InEngine | None:
    return deployment.spec.speculation.in_engine if role is Role.VERIFIER else None


def _api_key(deployment: LLMDeployment, role: Role) -> SecretKeyRef | None:
    """Clients talk to verifiers only; drafts are kept from everybody else by their NetworkPolicy."""
    api_key = deployment.spec.access.api_key
    return api_key.secret_key_ref if api_key and role is Role.VERIFIER else None


def _traces(role: Role, config: OperatorConfig) -> Traces | None:
    """Of what clients ask: drafts are asked by verifiers only."""
    traces = config.traces
    return Traces(traces.url, traces.protocol.value) if traces.url and role is Role.VERIFIER else None


def _draft_tls(deployment: LLMDeployment) -> DraftTLS | None:
    """Of both roles: each must speak as the other does."""
    return deployment.spec.speculation.tls if deployment.spec.method is Speculation.REMOTE else None


def _accelerators(spec: RoleSpec, path: str, *, table: Mapping[str, AcceleratorClass]) -> tuple[AcceleratorClass, ...]:
    unknown = [name for name in spec.accelerator.classes if name not in table]
    if unknown:
        raise RejectedSpecError(
            Reason.UNKNOWN_ACCELERATOR_CLASS,
            f"{path}.accelerator.classes (is {', '.join(unknown)}): must be {_near(unknown[0], table)}",
        )
    accelerators = tuple(table[name] for name in spec.accelerator.classes)
    resources = {accelerator.asked_as for accelerator in accelerators}
    if len(resources) > 1:
        raise RejectedSpecError(
            Reason.MIXED_ACCELERATOR_RESOURCES,
            f"{path}.accelerator.classes (is {', '.join(spec.accelerator.classes)}): all must be of one resource, "
            f"these are of {', '.join(sorted(resources))}",
        )
    return accelerators


def _near(unknown: str, table: Mapping[str, AcceleratorClass]) -> str:
    """The classes that may have been meant, among the names of all where they are few."""
    if len(table) <= CLASSES_TOLD:
        return f"of {', '.join(sorted(table))}"
    near = get_close_matches(unknown, table, n=3, cutoff=0.5) or sorted(table)[:3]
    return f"one of {len(table)} classes, such as {', '.join(near)}; `tandem accelerators` lists them"


def _image(spec: RoleSpec, path: str, *, config: OperatorConfig, accelerator: AcceleratorClass) -> str:
    named = spec.engine.image
    if named is not None:
        if not config.allows_engine_image(named):
            listed = ", ".join(config.engine_image_allow_list)
            allowed = f"must match one of {listed}" if listed else "may not be set: engineImageAllowList is empty"
            raise RejectedSpecError(Reason.ENGINE_IMAGE_NOT_ALLOWED, f"{path}.engine.image (is {named}): {allowed}")
        return named
    key = accelerator.engine_image + _KEY_ENDINGS.get(spec.engine.type, "")
    if key not in config.engine_images:
        raise RejectedSpecError(
            Reason.ENGINE_IMAGE_NOT_ALLOWED,
            f"{path}.engine.image (is omitted): the operator's engineImages has no {key!r}, the "
            f"image of class {accelerator.name}; it has {', '.join(sorted(config.engine_images))}",
        )
    return config.engine_images[key]
