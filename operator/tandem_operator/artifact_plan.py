"""What to do about one ModelArtifact now, and what to say of it. Pure.

`plan_artifact` looks at the artifact, its Job and that one's newest pod, and at who refers to it. The state machine is
the order of its questions: nothing is remembered but the facts that a Job has found, in the artifact's status, and
since when it is unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tandem_contracts.model_facts import ModelFacts
from tandem_operator import names
from tandem_operator.api.artifact import InspectedModel, ModelArtifactStatus, key_of_source, shown
from tandem_operator.api.model import ModelSource
from tandem_operator.api.status import Condition
from tandem_operator.artifact_facts import Course, Inspection, JobFacts, inspecting, model_in
from tandem_operator.causes import steady
from tandem_operator.facts import Manifest
from tandem_operator.names import ConditionType, Reason

RETRY_SECONDS = 3600.0
"""A folder that could not be read is looked at again after this long: nobody tells us that somebody has mended it."""
LOST_POD_SECONDS = 120.0
"""Longer than the resync, which would have found the pod of a Job that is complete."""
AGAIN_AFTER_REFUSAL_SECONDS = 15.0
MESSAGE_LIMIT = 4096


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
    source: ModelSource | None
    """None for a spec that is refused; `problem` says why."""
    problem: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ArtifactPlan:
    """What to do, and the status to write. `make_job` and `delete_job` exclude each other."""

    status: Manifest
    make_job: bool = False
    delete_job: JobFacts | None = None
    delete_artifact: bool = False
    due_seconds: float = 0.0
    """Seconds until another pass is due; 0: with the next event or resync."""


@dataclass(frozen=True)
class _Finding:
    """What is known, and what follows from it."""

    reason: str
    message: str
    is_ready: bool = False
    is_stalled: bool = False
    model: ModelFacts | None = None
    make_job: bool = False
    delete_job: JobFacts | None = None
    due_seconds: float = 0.0


def plan_artifact(
    artifact: Artifact,
    inspection: Inspection,
    *,
    job: Manifest | None,
    is_used: bool,
    now: datetime,
    ttl: timedelta,
    refused: str = "",
) -> ArtifactPlan:
    """The plan for one artifact.

    `job`: what its Job should be, None where the configuration has no image for it. `is_used`: something refers to
    the artifact. `refused`: why the API server would not have the Job that the plan before this one was to make.
    """
    found = _found(artifact, inspection, job=job, now=now)
    if refused:
        message = f"Job {names.inspect_job_name(artifact.name)} cannot be made: {steady(refused)}"
        found = _Finding(Reason.API_REFUSED, message, due_seconds=AGAIN_AFTER_REFUSAL_SECONDS)
    unused_since = None if is_used or not artifact.is_ours else _time(artifact.status.get("unusedSince")) or now
    if unused_since is not None and not found.is_ready:  # whoever needs it next has it looked into
        going = inspection.job if inspection.job and not inspection.job.is_going else None
        message = f"{found.message}; nothing refers to it now: it is looked into when something does"
        found = replace(found, message=message, make_job=False, delete_job=going, due_seconds=0.0)
    status = _status(artifact, found, unused_since=unused_since, now=now)
    if unused_since is not None and now - unused_since >= ttl:
        return ArtifactPlan(status, delete_artifact=True)
    return ArtifactPlan(status, found.make_job, found.delete_job, due_seconds=found.due_seconds)


def _found(artifact: Artifact, inspection: Inspection, *, job: Manifest | None, now: datetime) -> _Finding:
    if artifact.source is None:
        return _Finding(Reason.INVALID_SPEC, artifact.problem, is_stalled=True)
    key = key_of_source(artifact.source)
    if artifact.name != key:
        message = f"metadata.name (is {artifact.name!r}): must be {key}, the key of spec.source"
        return _Finding(Reason.KEY_MISMATCH, message, is_stalled=True)
    known = model_in(artifact.status) or (inspection.word.model if inspection.word else None)
    if known is not None:
        return _Finding(Reason.INSPECTED, summary_of(known), is_ready=True, model=known)
    if job is None:
        message = "the operator's engineImages has no image of class cpu, which the Job runs that inspects the model"
        return _Finding(Reason.NO_INSPECT_IMAGE, message, is_stalled=True)
    if inspection.job is None:
        return _Finding(Reason.INSPECTING, inspecting(artifact.name, artifact.source), make_job=True)
    return _found_by_job(inspection.job, inspection, job=job, now=now, artifact=artifact, source=artifact.source)


def _found_by_job(
    there: JobFacts, inspection: Inspection, *, job: Manifest, now: datetime, artifact: Artifact, source: ModelSource
) -> _Finding:
    word, where = inspection.word, shown(source)
    trouble = word.trouble if word else ""
    if there.is_going:
        return _Finding(Reason.INSPECTING, f"Job {there.ref.name} is being deleted and made again")
    # One that does not say what it was made from is left alone: a webhook that strips annotations must not have it
    # made again without end.
    is_outdated = there.applied not in {"", job["metadata"]["annotations"][names.ANNOTATION_APPLIED]}
    if is_outdated and there.course is not Course.COMPLETE:
        message = f"Job {there.ref.name} is made again, since the operator's configuration is another one"
        return _Finding(Reason.INSPECTING, message, delete_job=there)
    if there.course is Course.RUNNING:
        waits = f": {trouble}" if trouble else ""
        return _Finding(Reason.INSPECTING, inspecting(artifact.name, source) + waits)
    age = (now - (there.ended or now)).total_seconds()
    if there.course is Course.COMPLETE and (word is None or not word.is_over):
        if age < LOST_POD_SECONDS:
            message = f"Job {there.ref.name} is complete, the last word of its pod is on its way"
            return _Finding(Reason.INSPECTING, message, due_seconds=LOST_POD_SECONDS - age)
        message = f"Job {there.ref.name} is made again: it is complete, and its pod was deleted before it was read"
        return _Finding(Reason.INSPECTING, message, delete_job=there)
    reason, cause = _failure(there, inspection)
    if age >= RETRY_SECONDS:
        return _Finding(Reason.INSPECTING, f"Job {there.ref.name} looks again: {where}: {cause}", delete_job=there)
    again = "it is looked at again an hour later, or when this ModelArtifact is deleted"
    message = f"{where}: {cause}; {again}"
    return _Finding(reason, message, is_stalled=True, due_seconds=RETRY_SECONDS - age)


def _failure(there: JobFacts, inspection: Inspection) -> tuple[str, str]:
    """Reason and cause of a Job that came to its end without facts."""
    word = inspection.word
    if word and word.refusal:
        return word.refusal.reason.value, word.refusal.message
    if there.course is Course.COMPLETE:
        return Reason.NO_FACTS, f"Job {there.ref.name} succeeded without saying what the model is: is its image ours?"
    cause = (word.trouble if word else "") or there.message or "no pod of it is left that could say why"
    return Reason.INSPECT_FAILED, f"Job {there.ref.name} failed: {cause}"


def summary_of(model: ModelFacts) -> str:
    """The model in one line."""
    size = (
        f"{model.weights_bytes / 1e9:.1f} GB" if model.weights_bytes >= 1e8 else f"{model.weights_bytes / 1e6:.1f} MB"
    )
    parts = [model.architecture]
    if model.parameters:
        billions = model.parameters / 1e9
        parts.append(f"{billions:.1f}B parameters" if billions >= 0.1 else f"{model.parameters / 1e6:.1f}M parameters")
    return ", ".join([*parts, size, *(part for part in (model.data_type, model.quantization) if part)])


def _status(artifact: Artifact, found: _Finding, *, unused_since: datetime | None, now: datetime) -> Manifest:
    before = {condition["type"]: condition for condition in artifact.status.get("conditions") or []}

    def condition(kind: ConditionType, *, holds: bool) -> Condition:
        truth, was = "True" if holds else "False", before.get(kind, {})
        return Condition(
            type=kind.value,
            status="True" if holds else "False",
            reason=str(found.reason),
            message=found.message[:MESSAGE_LIMIT],
            last_transition_time=was["lastTransitionTime"] if was.get("status") == truth else _stamp(now),
            observed_generation=artifact.generation,
        )

    conditions = [condition(ConditionType.READY, holds=found.is_ready)]
    if found.is_stalled:
        conditions.append(condition(ConditionType.STALLED, holds=True))
    elif not found.is_ready:
        conditions.append(condition(ConditionType.RECONCILING, holds=True))
    status = ModelArtifactStatus(
        observed_generation=artifact.generation,
        conditions=tuple(conditions),
        source=shown(artifact.source) if artifact.source else "",
        summary=summary_of(found.model) if found.model else "",
        model=InspectedModel.model_validate(found.model.to_data()) if found.model else None,
        job=names.inspect_job_name(artifact.name) if artifact.name == _key(artifact) else "",
        unused_since=_stamp(unused_since) if unused_since else None,
    )
    written: Manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def _key(artifact: Artifact) -> str:
    return key_of_source(artifact.source) if artifact.source else ""


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(written: object) -> datetime | None:
    """None for what is no time: then the count begins anew."""
    try:
        return datetime.fromisoformat(written).astimezone(UTC) if isinstance(written, str) else None
    except ValueError:
        return None
