"""On which terms an artifact is made: what those ask for who refer to it, and the Job that follows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.accelerators import CPU, AcceleratorClass
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.api.quantization import QuantizationJob
from tandem_operator.artifact_cost import SMALL_MODEL_PARAMETERS, Estimate, estimate_of, parameters_of
from tandem_operator.artifact_facts import artifact_facts_of, known_in
from tandem_operator.artifact_known import Artifact, Asked
from tandem_operator.artifact_needs import DEFAULT_JOB, Need, Settings, all_needs_in
from tandem_operator.artifact_plan import Unmakeable
from tandem_operator.artifact_smoke import SmokeTarget
from tandem_operator.artifact_steps import Measurement, Step
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.model_files import Credential, ModelFiles, credentials_of
from tandem_operator.names import Reason
from tandem_operator.objects.artifact_jobs import (
    INSPECT_LIMIT_SECONDS,
    INSPECT_MEMORY,
    JobTerms,
    job_of,
    smoke_job_of,
)
from tandem_operator.quantities import in_bytes

_IMAGE_ENDING = "-artifacts"
"""Of keys in `engineImages`, for Jobs that do not run in the image of their accelerator class."""
MADE_ON_THE_FLY = frozenset({Phase.FETCH, Phase.EVICT})
"""What needs no accelerator and no memory to speak of."""


class Referrers:
    """Who refers to one artifact, and what they want of it. The same for the same objects in any order."""

    def __init__(self, name: str, naming: Iterable[Manifest], settings: Settings) -> None:
        self._settings = settings
        naming = tuple(naming)
        self._revisions = [each for each in naming if each["kind"] == "ControllerRevision"]
        self._artifacts = [each for each in naming if each["kind"] == names.ARTIFACT_KIND]
        deployments = sorted(
            (each for each in naming if each["kind"] == names.KIND), key=lambda each: str(each["metadata"]["name"])
        )
        needs = [need for each in deployments for need in all_needs_in(each, settings)]
        self._needs = [need for need in needs if need.key == name]
        """Of those who serve it."""
        self._opening = [need for need in needs if name in {spec.key for spec in need.artifacts}]
        self._ttls = [need.ttl_seconds for need in self._opening]
        self._serving_source = [need for need in self._opening if need.key == name or need.serves_source]

    def asked(self, smokes: Iterable[SmokeTarget] = ()) -> Asked:
        """What the artifact's plan goes by. `smokes`: on which deployments wait for it to be asked."""
        is_used = bool(self._serving_source or self._revisions or any(map(_is_being_made, self._artifacts)))
        measured = [Measurement.of_need(need.gate, need.artifact) for need in self._needs]
        texts = {str(found): found for found in measured}
        targets = {target.name: target for target in smokes}
        return Asked(
            is_used,
            tuple(texts[name] for name in sorted(texts)),
            tuple(targets[name] for name in sorted(targets)),
        )

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """What opens the source: those of the first deployment that has any."""
        return next((need.credentials for need in self._opening if need.credentials), ())

    @property
    def job(self) -> QuantizationJob:
        """Where and how long its Jobs run, as the first deployment says that serves it and says anything."""
        return next((need.job for need in self._needs if need.job != DEFAULT_JOB), DEFAULT_JOB)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the role that serves it."""
        return next((need.classes for need in self._needs if need.classes), ())

    def ttl_kept(self, status: Mapping[str, Any]) -> int | None:
        """The longest time that any of them wants it kept; while nobody refers to it, that of before. None: as the
        operator's configuration, which also counts for those who say nothing.
        """
        if self._opening:
            usual = int(self._settings.config.artifact_ttl_seconds)
            said = [ttl for ttl in self._ttls if ttl is not None]
            silent = [usual] if len(said) < len(self._ttls) else []
            return max([*said, *silent]) if said else None
        kept = status.get("ttlSeconds")
        return kept if isinstance(kept, int) else None

    def ttl_seconds(self, status: Mapping[str, Any]) -> float:
        """How long it is kept once nothing refers to it."""
        kept = self.ttl_kept(status)
        return self._settings.config.artifact_ttl_seconds if kept is None else float(kept)

    def source_of(self, spec: ModelArtifactSpec | None, find: Callable[[str], Manifest | None]) -> ArtifactFacts | None:
        """The artifact that a quantized one is made from."""
        return artifact_facts_of(Need(spec.as_it_is), find) if spec is not None and spec.quantization else None


def _is_being_made(artifact: Manifest) -> bool:
    """Whether an artifact has still a use for what it is made from; what nothing refers to is not made."""
    status = artifact.get("status") or {}
    conditions = status.get("conditions") or []
    is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return not is_ready and not status.get("unusedSince")


def job_maker(
    owner: Owner,
    artifact: Artifact,
    source: ArtifactFacts | None,
    *,
    referrers: Referrers,
    settings: Settings,
    smokes: Iterable[SmokeTarget] = (),
) -> Callable[[Step], Manifest | Unmakeable]:
    """What makes the Job of a step. `smokes`: the targets that smoke tests may be of."""
    targets = {target.name: target for target in smokes}

    def made(step: Step) -> Manifest | Unmakeable:
        spec = artifact.spec
        assert spec is not None  # noqa: S101 -- narrows the type: a spec that is refused has no steps
        if step.phase is Phase.INSPECT:
            return _inspecting(owner, spec, settings, more_memory=artifact.memory_of(step))
        if step.phase is Phase.SMOKE:
            deadline = referrers.job.active_deadline_seconds
            reference = known_in(artifact.status).reference
            secrets = settings.config.engine_pull_secrets
            return smoke_job_of(
                owner,
                targets[step.smoke],
                secrets,
                deadline,
                reference=reference,
                scrape_annotations=settings.config.scrape_annotations,
            )
        return _making(owner, artifact, spec, source, step=step, referrers=referrers, settings=settings)

    return made


def _inspecting(
    owner: Owner, spec: ModelArtifactSpec, settings: Settings, *, more_memory: str
) -> Manifest | Unmakeable:
    node, config = settings.table[CPU], settings.config
    image = config.engine_images.get(node.engine_image)
    if image is None:
        message = "the operator's engineImages has no image of class cpu, which the Job runs that inspects the model"
        return Unmakeable(Reason.NO_INSPECT_IMAGE, message)
    terms = JobTerms(
        image,
        (node,),
        config.engine_pull_secrets,
        memory=_larger(more_memory, INSPECT_MEMORY),
        is_last_try=bool(more_memory),
        source=ModelFiles.of(spec.source),
    )
    return job_of(owner, spec, Step(Phase.INSPECT), terms)


def _making(
    owner: Owner,
    artifact: Artifact,
    spec: ModelArtifactSpec,
    source: ArtifactFacts | None,
    *,
    step: Step,
    referrers: Referrers,
    settings: Settings,
) -> Manifest | Unmakeable:
    model, job = source.model if source else None, referrers.job
    classes = _classes(spec, step, model, referrers=referrers, settings=settings)
    if isinstance(classes, Unmakeable):
        return classes
    if step.phase is Phase.QUANTIZE and model is not None and model.quantization:
        message = f"the source is quantized already ({model.quantization}): quantization.mode must be Prequantized"
        return Unmakeable(Reason.QUANTIZED_ALREADY, message)
    key = classes[0].engine_image + _IMAGE_ENDING
    image = settings.config.engine_images.get(key)
    if image is None:
        there = ", ".join(sorted(settings.config.engine_images))
        message = f"the operator's engineImages has no {key!r}, which the Job {step.phase} runs; it has {there}"
        return Unmakeable(Reason.NO_JOB_IMAGE, message)
    endpoint = _endpoint(spec, settings.config) if step.phase is Phase.FETCH else ""
    if isinstance(endpoint, Unmakeable):
        return endpoint
    estimate = estimate_of(step.phase, model, spec.quantization, on_cpu=classes[0].is_cpu)
    deadline = job.active_deadline_seconds
    if estimate.seconds > deadline:
        return Unmakeable(Reason.DEADLINE_TOO_SHORT, _too_short(spec, estimate, job, classes[0]))
    asked = job.memory if job.memory and step.phase not in MADE_ON_THE_FLY else estimate.memory
    terms = JobTerms(
        image,
        classes,
        settings.config.engine_pull_secrets,
        memory=_larger(artifact.memory_of(step), asked),
        is_last_try=bool(artifact.memory_of(step)),
        deadline_seconds=max(deadline, INSPECT_LIMIT_SECONDS) if step.phase in MADE_ON_THE_FLY else deadline,
        credentials=referrers.credentials or credentials_of(spec.source),
        source=source.files if source else None,
        endpoint=endpoint,
        scrape_annotations=settings.config.scrape_annotations,
    )
    return job_of(owner, spec, step, terms)


def _endpoint(spec: ModelArtifactSpec, config: OperatorConfig) -> str | Unmakeable:
    """Where the source is fetched from; empty: the public hub, or Amazon's S3."""
    hub, s3 = spec.source.hugging_face, spec.source.s3
    if hub is not None and hub.hub is not None and hub.hub not in config.model_hubs:
        message = f"the operator's modelHubs has no {hub.hub!r} any more, from which the model is to be fetched"
        return Unmakeable(Reason.UNKNOWN_HUB, message)
    if s3 is not None and s3.store is not None and s3.store not in config.model_stores:
        message = f"the operator's modelStores has no {s3.store!r} any more, from which the model is to be fetched"
        return Unmakeable(Reason.UNKNOWN_STORE, message)
    if hub is not None:
        return config.model_hubs[hub.hub] if hub.hub else ""
    return config.model_stores[s3.store] if s3 is not None and s3.store else ""


def _larger(kept: str, asked: str) -> str:
    """The larger of two quantities; `asked` where the other is none, whoever has written it."""
    try:
        return kept if kept and in_bytes(kept) > in_bytes(asked) else asked
    except ValueError:
        return asked


def _classes(
    spec: ModelArtifactSpec, step: Step, model: ModelFacts | None, *, referrers: Referrers, settings: Settings
) -> tuple[AcceleratorClass, ...] | Unmakeable:
    """Where a step runs: on the CPU unless it computes with a large model, or somebody has said where."""
    named = () if step.phase in MADE_ON_THE_FLY else referrers.job.classes
    if not named and _wants_accelerator(spec, step, model, referrers.job.active_deadline_seconds):
        named = referrers.classes
    found = [settings.table[name] for name in named if name in settings.table]
    unknown = [name for name in named if name not in settings.table]
    if unknown:
        message = f"quantization.job.classes (is {', '.join(unknown)}): must be classes of the accelerator table"
        return Unmakeable(Reason.UNKNOWN_ACCELERATOR_CLASS, message)
    resources = sorted({each.asked_as for each in found})
    if len(resources) > 1:
        message = (
            f"quantization.job.classes (is {', '.join(named)}): all must be of one resource, these are of "
            f"{', '.join(resources)}"
        )
        return Unmakeable(Reason.MIXED_ACCELERATOR_RESOURCES, message)
    if any(each.is_claimed for each in found):
        told = ", ".join(each.name for each in found if each.is_claimed)
        message = (
            f"quantization.job.classes (is {told}): Jobs ask for no ResourceClaim: name another class, such as cpu"
        )
        return Unmakeable(Reason.MIXED_ACCELERATOR_RESOURCES, message)
    return tuple(found) or (settings.table[CPU],)


def _wants_accelerator(spec: ModelArtifactSpec, step: Step, model: ModelFacts | None, deadline_seconds: float) -> bool:
    """Whether a calibrated model is too large for a CPU: it has more parameters than that, or takes too long there."""
    made = spec.quantization
    if model is None or made is None or made.calibration is None or step.phase in MADE_ON_THE_FLY:
        return False
    seconds = estimate_of(Phase.QUANTIZE, model, made, on_cpu=True).seconds
    return parameters_of(model) > SMALL_MODEL_PARAMETERS or seconds > deadline_seconds


def _too_short(spec: ModelArtifactSpec, estimate: Estimate, job: QuantizationJob, where: AcceleratorClass) -> str:
    made = spec.quantization
    how = f"{made.scheme} by {made.algorithm}" if made else "it"
    return (
        f"quantization.job.activeDeadline (is {job.active_deadline}): {how} takes about "
        f"{estimate.seconds / 3600:.1f} h on {where.name} by estimate; a longer deadline, fewer samples, or other "
        "classes in quantization.job.classes"
    )
