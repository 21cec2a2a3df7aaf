"""What is said of one ModelArtifact: its plan and how far its Job is, as status. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prometheus_client.parser import text_string_to_metric_families

from tandem_contracts.metrics import ARTIFACT_DONE, ARTIFACT_SECONDS, ARTIFACT_TOTAL
from tandem_contracts.termination import Phase
from tandem_operator.api.artifact import (
    MEMORIES_KEPT,
    ArtifactLoss,
    ArtifactProgress,
    ArtifactReference,
    InspectedModel,
    ModelArtifactStatus,
    shown,
)
from tandem_operator.api.status import Condition
from tandem_operator.artifact_facts import form_of, loss_line
from tandem_operator.artifact_known import Artifact, size_of, summary_of
from tandem_operator.artifact_plan import ArtifactPlan, Finding
from tandem_operator.artifact_steps import first_step_of
from tandem_operator.facts import Manifest
from tandem_operator.names import ConditionType
from tandem_operator.timestamps import timestamp_of

MESSAGE_LIMIT = 4096
LEAST_SHARE = 0.02
"""Of a step that must be done before the rest is estimated from it."""


@dataclass(frozen=True)
class Progress:
    """How far the program of a Job says that it is: parts of the step, and seconds since it began."""

    step: str
    done: float
    total: float
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """As if the rest took as long as what is done, part by part; None while there is too little to tell from."""
        if not self.total > 0 or self.done < LEAST_SHARE * self.total:
            return None
        return self.seconds * (self.total - self.done) / self.done


def progress_in(page: str) -> Progress | None:
    """What a Job's metrics page says; None where it says nothing of a step."""
    families = {ARTIFACT_DONE: "done", ARTIFACT_TOTAL: "total", ARTIFACT_SECONDS: "seconds"}
    lines = "\n".join(line for line in page.splitlines() if line.startswith(tuple(families)))
    found: dict[str, float] = {}
    step = ""
    try:
        for family in text_string_to_metric_families(lines + "\n"):
            for sample in family.samples:
                found[families[sample.name]] = sample.value
                step = sample.labels.get("step", "")
    except (ValueError, KeyError):
        return None
    if len(found) < len(families) or not all(0 <= value < 1e18 for value in found.values()):
        return None
    return Progress(step, found["done"], found["total"], found["seconds"])


def artifact_status_of(
    artifact: Artifact,
    planned: ArtifactPlan,
    *,
    now: datetime,
    progress: Progress | None = None,
    ttl_seconds: int | None = None,
) -> Manifest:
    """The status subresource; equal to the one before when nothing changed."""
    found, known, spec = planned.finding, planned.finding.known, artifact.spec
    quality = max(known.losses.values(), key=lambda each: each.kl_divergence, default=None)
    has_its_key = spec is not None and artifact.name == spec.key
    step = found.step or (first_step_of(spec) if spec else None)
    status = ModelArtifactStatus(
        observed_generation=artifact.generation,
        conditions=_conditions(artifact, found, now),
        source=shown(spec.source) if spec else "",
        summary=summary_of(known.model) if known.model else "",
        scheme=form_of(spec) if spec else "",
        loss=loss_line(quality) if quality else "",
        model=InspectedModel.model_validate(known.model.to_data()) if known.model else None,
        files=known.files,
        reference=ArtifactReference.of(known.reference) if known.reference else None,
        smokes=tuple(smoke for _, smoke in sorted(known.smokes.items())),
        losses=tuple(ArtifactLoss.of(texts, quality) for texts, quality in sorted(known.losses.items())),
        progress=_progress(found, progress),
        job=step.job_name(artifact.name) if step and has_its_key else "",
        memory=_memory(artifact, found),
        full_beside_bytes=found.full_beside_bytes,
        unused_since=timestamp_of(planned.unused_since) if planned.unused_since else None,
        ttl_seconds=ttl_seconds,
    )
    written: Manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def _conditions(artifact: Artifact, found: Finding, now: datetime) -> tuple[Condition, ...]:
    before = {condition["type"]: condition for condition in artifact.status.get("conditions") or []}

    def condition(kind: ConditionType, *, holds: bool) -> Condition:
        truth, was = "True" if holds else "False", before.get(kind, {})
        return Condition(
            type=kind.value,
            status="True" if holds else "False",
            reason=str(found.reason),
            message=found.message[:MESSAGE_LIMIT],
            last_transition_time=was["lastTransitionTime"] if was.get("status") == truth else timestamp_of(now),
            observed_generation=artifact.generation,
        )

    conditions = [condition(ConditionType.READY, holds=found.is_ready)]
    if found.is_stalled:
        conditions.append(condition(ConditionType.STALLED, holds=True))
    elif not found.is_ready:
        conditions.append(condition(ConditionType.RECONCILING, holds=True))
    return tuple(conditions)


def _memory(artifact: Artifact, found: Finding) -> dict[str, str]:
    """Of all steps that are still to be taken: one may wait while another is looked at."""
    kept = {} if found.is_ready else artifact.memory
    if found.memory and found.step:
        job = found.step.job_name(artifact.name)
        others = [name for name in sorted(kept) if name != job][: MEMORIES_KEPT - 1]
        kept = {**{name: kept[name] for name in others}, job: found.memory}
    return kept


def _progress(found: Finding, progress: Progress | None) -> ArtifactProgress | None:
    """Only of the step that is due, and while something works on it."""
    if progress is None or found.step is None or not found.runs_at or progress.step != found.step.phase:
        return None
    return ArtifactProgress(step=progress.step, done=_done(progress), left=_left(progress.seconds_left))


def _done(progress: Progress) -> str:
    if not progress.total:
        return ""
    if progress.step == Phase.FETCH:
        return f"{size_of(progress.done)} of {size_of(progress.total)}"
    return f"{progress.done:.0f} of {progress.total:.0f}"


def _left(seconds: float | None) -> str:
    """Rounded, so that it is not another one each time that it is read."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{10 * round(seconds / 10) or 5:.0f}s"
    return f"{round(seconds / 60):.0f}m" if seconds < 5400 else f"{seconds / 3600:.1f}h"
