"""What is known of one ModelArtifact: what its status holds, and what the last words of its Jobs add to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from tandem_contracts.artifact_job import Evaluated, Made, Smoked
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Phase
from tandem_operator.api.artifact import (
    CLASSES_LIMIT,
    LOSSES_KEPT,
    SMOKES_KEPT,
    SUMMARY_LIMIT,
    ArtifactFiles,
    ArtifactSmoke,
    ModelArtifactSpec,
)
from tandem_operator.artifact_attempts import NO_ATTEMPT, Attempt, Course, JobFacts
from tandem_operator.artifact_facts import Known, known_in
from tandem_operator.artifact_smoke import SmokeTarget
from tandem_operator.artifact_steps import Measurement, Step, first_step_of, is_evicting
from tandem_operator.timestamps import timestamp_of

NO_ROOM_SECONDS = 120.0
"""A smoke test that no node or quota has room for is given up after this long: old pods may hold what it needs until
new ones come."""
_EXCEEDED_QUOTA = "exceeded quota"
"""So says the API server's admission of a pod that its namespace has no room for."""
BUILT_IN = (Measurement(),)
T = TypeVar("T")


@dataclass(frozen=True)
class Artifact:
    """One ModelArtifact as its pass sees it."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int
    is_ours: bool
    """The operator made it, so the operator may delete it."""
    spec: ModelArtifactSpec | None
    """None for a spec that is refused; `problem` says why."""
    problem: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_evicting(self) -> bool:
        """Whether nobody may count on its files any more."""
        return is_evicting(self.status, self.name)

    def memory_of(self, step: Step) -> str:
        """What the step's Job gets after one of less was killed for want of it; empty: as usual."""
        return self.memory.get(step.job_name(self.name), "")

    @property
    def memory(self) -> dict[str, str]:
        """The same of all its Jobs, by their names."""
        written = self.status.get("memory")
        found = written.items() if isinstance(written, Mapping) else ()
        return {name: value for name, value in found if isinstance(value, str)}


@dataclass(frozen=True)
class Asked:
    """What those who refer to an artifact want of it."""

    is_used: bool = True
    measurements: tuple[Measurement, ...] = ()
    """Of a quantized one. Empty where nobody says so: then once, on the built-in texts."""
    smokes: tuple[SmokeTarget, ...] = ()
    """On which deployments wait for it to be asked."""
    others_bytes: int = 0
    """Of the other artifacts on its volume."""
    is_making_room: bool = False
    """Whether files of others are going from there."""
    is_pressed: bool = False
    """Whether it has to make room on its volume, if nothing refers to it."""


def known_of(artifact: Artifact, attempts: Mapping[str, Attempt], asked: Asked, now: datetime) -> Known:
    """Everything that is known, as much of it as a status may hold: what is asked for first."""
    spec, known = artifact.spec, known_in(artifact.status)
    if spec is None:
        return known
    first = attempts.get(first_step_of(spec).job_name(artifact.name), NO_ATTEMPT)
    said = first.word.result if first.word else None
    if known.model is None and isinstance(said, ModelFacts):
        known = replace(known, model=said)
    elif isinstance(said, Made) and (known.model is None or known.files is None):
        known = replace(known, model=said.model, files=_files(artifact.name, said, asked.others_bytes, now))
    losses, reference = dict(known.losses), known.reference
    for texts in asked.measurements or BUILT_IN:
        attempt = attempts.get(Step(Phase.EVALUATE, texts).job_name(artifact.name), NO_ATTEMPT)
        said = attempt.word.result if attempt.word else None
        if isinstance(said, Evaluated):
            losses.setdefault(str(texts), said.quality)
            reference = reference or said.reference  # on whatever texts: the engine has to say the same on all
    smokes = {**known.smokes, **_smokes(artifact, attempts, asked, now)}
    return replace(
        known,
        losses=_remembered(losses, first=map(str, asked.measurements), most=LOSSES_KEPT),
        smokes=_remembered(smokes, first=(target.name for target in asked.smokes), most=SMOKES_KEPT),
        reference=reference,
    )


def _remembered(found: Mapping[str, T], *, first: Iterable[str], most: int) -> dict[str, T]:
    """As many as a status may hold, by name: those that are asked for before others."""
    asked = [name for name in first if name in found]
    kept = [*asked, *(name for name in found if name not in asked)][:most]
    return {name: found[name] for name in sorted(kept)}


def smoke_step(target: SmokeTarget) -> Step:
    """The smoke test of a target."""
    return Step(Phase.SMOKE, smoke=target.name)


def given_up(artifact: Artifact, attempts: Mapping[str, Attempt], asked: Asked, now: datetime) -> JobFacts | None:
    """A Job that would wait for ever: a smoke test that no node has room for, whether somebody has waited for it or
    nobody does any more, since it would take room from the pods to come; and an evaluation that nobody asks for any
    more, of which no pod works.
    """
    smoke, evaluate = (Step(phase).job_name(artifact.name) for phase in (Phase.SMOKE, Phase.EVALUATE))
    wanted = {Step(Phase.EVALUATE, texts).job_name(artifact.name) for texts in asked.measurements or BUILT_IN}
    for name, attempt in sorted(attempts.items()):
        if attempt.job is None or attempt.job.is_going:
            continue
        if name.startswith(f"{smoke}-") and seconds_without_room(attempt, now) >= NO_ROOM_SECONDS:
            return attempt.job
        is_waiting = attempt.job.course is Course.RUNNING and not (attempt.word and attempt.word.runs_at)
        if name.startswith(evaluate) and name not in wanted and is_waiting:
            return attempt.job
    return None


def seconds_without_room(attempt: Attempt, now: datetime) -> float:
    """For how long a Job's pod has been waiting for a node or for its namespace's quota; 0 for one that is not."""
    made = attempt.job.made if attempt.job else None
    trouble = attempt.word.trouble if attempt.word else ""
    is_over_quota = trouble.startswith("FailedCreate") and _EXCEEDED_QUOTA in trouble
    lacks_room = trouble.startswith("Unschedulable") or is_over_quota
    return (now - made).total_seconds() if made and lacks_room else 0.0


def _smokes(
    artifact: Artifact, attempts: Mapping[str, Attempt], asked: Asked, now: datetime
) -> Mapping[str, ArtifactSmoke]:
    """Those that were passed. One for which no node has room is not waited for: the rollout will tell."""
    found = {}
    for target in asked.smokes:
        attempt = attempts.get(smoke_step(target).job_name(artifact.name), NO_ATTEMPT)
        said = attempt.word.result if attempt.word else None
        if isinstance(said, Smoked):
            found[target.name] = _smoke(target, said)
        elif attempt.word is not None and seconds_without_room(attempt, now) >= NO_ROOM_SECONDS:
            found[target.name] = _smoke(target, f"not asked: {attempt.word.trouble}")
    return found


def _smoke(target: SmokeTarget, said: Smoked | str) -> ArtifactSmoke:
    inputs = target.inputs
    about = ArtifactSmoke(
        target=target.name,
        image=inputs.image,
        classes=f"{inputs.count} × {', '.join(each.name for each in inputs.accelerators)}"[:CLASSES_LIMIT],
        message=(said if isinstance(said, str) else said.uncompared and f"not compared: {said.uncompared}")[:1024],
    )
    if isinstance(said, str):
        return about
    figures = {"ready_seconds": round(said.ready_seconds, 1), "tokens_per_second": round(said.tokens_per_second, 1)}
    cache = {"compile_cache_bytes": max(0, said.compile_cache_bytes)}
    deviation = None if said.deviation is None else round(said.deviation, 4)
    return about.model_copy(update={**figures, **cache, "kernel": said.kernel[:128], "deviation": deviation})


def _files(path: str, made: Made, others_bytes: int, now: datetime) -> ArtifactFiles:
    return ArtifactFiles(
        path=path,
        bytes=made.bytes,
        manifest=made.manifest,
        seconds=round(made.seconds, 3),
        revision=made.revision,
        content=made.source,
        free_bytes=made.free_bytes,
        capacity_bytes=made.capacity_bytes,
        shared_bytes=made.bytes + others_bytes,
        published_at=timestamp_of(now),
    )


def summary_of(model: ModelFacts) -> str:
    """The model in one line."""
    parts = [model.architecture]
    if model.parameters:
        billions = model.parameters / 1e9
        parts.append(f"{billions:.1f}B parameters" if billions >= 0.1 else f"{model.parameters / 1e6:.1f}M parameters")
    size = size_of(model.weights_bytes)
    told = ", ".join([*parts, size, *(part for part in (model.data_type, model.quantization) if part)])
    return told[:SUMMARY_LIMIT]


def size_of(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
