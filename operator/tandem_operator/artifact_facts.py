"""What was observed of ModelArtifacts: of one, with its Job, for its own pass; of those that a deployment needs. Pure.

Parses raw objects, decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pydantic import ValidationError

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import TerminationMessage
from tandem_operator import names
from tandem_operator.api.artifact import key_of_source, shown, source_data, source_of, sources_written_in
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tandem_operator.api.model import ModelSource
from tandem_operator.causes import trouble_of
from tandem_operator.facts import ArtifactFacts, Facts, Manifest, Ref
from tandem_operator.names import Reason


class Course(Enum):
    """How far a Job is."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True)
class JobFacts:
    """The Job of an artifact."""

    ref: Ref
    uid: str
    resource_version: str
    applied: str
    """Hash of what was wanted when it was made."""
    course: Course
    is_going: bool
    message: str = ""
    """Why it failed, as its controller says it."""
    ended: datetime | None = None
    """When it came to its end; None while it runs."""


@dataclass(frozen=True)
class LastWord:
    """What the newest pod of a Job has said, or what holds it up."""

    is_over: bool
    model: ModelFacts | None = None
    refusal: TerminationMessage | None = None
    trouble: str = ""
    """In one line; empty when nothing is known."""


@dataclass(frozen=True)
class Inspection:
    """The Job of an artifact and the last word of its pods; None for what is not there."""

    job: JobFacts | None = None
    word: LastWord | None = None


def inspection_of(children: Iterable[Manifest], *, artifact_uid: str, mishaps: Mapping[str, str]) -> Inspection:
    """Parse what carries the artifact's label. A Job of another owner is not looked at, nor are another Job's pods."""
    children = tuple(children)
    jobs = [_job(child) for child in children if child["kind"] == "Job" and _is_owned(child, artifact_uid)]
    if not jobs:
        return Inspection()
    pods = [child for child in children if child["kind"] == "Pod" and _labels(child).get(_JOB_UID) == jobs[0].uid]
    newest = max(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), Ref.of(pod)), default=None)
    mishap = mishaps.get(newest["metadata"].get("uid", ""), "") if newest else ""
    return Inspection(jobs[0], _word(newest, mishap) if newest else None)


_JOB_UID = "batch.kubernetes.io/controller-uid"


def model_in(status: Mapping[str, Any]) -> ModelFacts | None:
    """The facts that an artifact's status holds; None where there are none, or none that can be read."""
    try:
        return ModelFacts.from_data(status.get("model"))
    except ValueError:
        return None


def needed_by(body: Manifest) -> dict[Role, ModelSource]:
    """The models that a raw LLMDeployment uses, by what they do; none for a spec that is refused."""
    try:
        deployment = LLMDeployment.parse(body)
    except InvalidSpecError:
        return {}
    models = {role: deployment.model(role) for role in Role}
    return {role: model.source for role, model in models.items() if model is not None}


def with_artifacts(
    facts: Facts, needed: Mapping[Role, ModelSource], *, find: Callable[[str], Manifest | None]
) -> Facts:
    """The facts of a deployment together with those of the artifacts that its roles need. `find`: one by its name."""
    artifacts = {role: artifact_facts_of(source, find(key_of_source(source))) for role, source in needed.items()}
    models = {role: artifact.model for role, artifact in artifacts.items() if artifact.model is not None}
    return replace(facts, artifacts=artifacts, models=models)


def inspecting(name: str, source: ModelSource) -> str:
    """What is said while nothing more is known: the same from the first moment on, so that it is written once."""
    return f"Job {names.inspect_job_name(name)} looks into {shown(source)}"


def names_in(manifest: Manifest) -> frozenset[str]:
    """Names of the artifacts that an object refers to: an LLMDeployment, or a frozen revision of one."""
    if manifest["kind"] == names.KIND:
        written = sources_written_in(manifest.get("spec") or {})
    elif manifest["kind"] == "ControllerRevision":
        data = manifest.get("data")
        requested = data.get("requested") if isinstance(data, dict) else None
        written = sources_written_in({"verifier": requested, "speculation": requested})
    else:
        return frozenset()
    found = set()
    for source in written:
        try:
            found.add(key_of_source(source_of(source)))
        except ValidationError:
            continue  # it refers to nothing that could be made
    return frozenset(found)


def artifact_facts_of(source: ModelSource, there: Manifest | None) -> ArtifactFacts:
    """What a deployment sees of the artifact of its model; None: it is not made yet."""
    name = key_of_source(source)
    if there is None:
        return ArtifactFacts(name, None, Reason.INSPECTING, inspecting(name, source))
    if (there.get("spec") or {}).get("source") != source_data(source):
        message = f"ModelArtifact {name} was made by somebody else, for another source: delete it"
        return ArtifactFacts(name, None, Reason.KEY_MISMATCH, message)
    status = there.get("status") or {}
    ready: Manifest = next((c for c in status.get("conditions") or [] if c.get("type") == "Ready"), {})
    is_stalled = any(c.get("type") == "Stalled" and c.get("status") == "True" for c in status.get("conditions") or [])
    model = model_in(status)
    if model is not None:
        return ArtifactFacts(name, model, Reason.INSPECTED, status.get("summary", ""))
    reason = Reason.INSPECT_FAILED if is_stalled else Reason.INSPECTING
    return ArtifactFacts(name, None, reason, ready.get("message", "") or inspecting(name, source))


def _is_owned(manifest: Manifest, uid: str) -> bool:
    owners = manifest["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)


def _labels(manifest: Manifest) -> dict[str, str]:
    return manifest["metadata"].get("labels") or {}


def _job(manifest: Manifest) -> JobFacts:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    true = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
    end: Manifest = true.get("Complete") or true.get("Failed") or {}
    course = Course.COMPLETE if "Complete" in true else Course.FAILED if "Failed" in true else Course.RUNNING
    told = ": ".join(word for word in (end.get("reason", ""), end.get("message", "")) if word)
    return JobFacts(
        ref=Ref.of(manifest),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        applied=(metadata.get("annotations") or {}).get(names.ANNOTATION_APPLIED, ""),
        course=course,
        is_going="deletionTimestamp" in metadata,
        message=told if course is Course.FAILED else "",
        ended=_time(end.get("lastTransitionTime")) if end else None,
    )


def _word(pod: Manifest, mishap: str) -> LastWord:
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or [{}]
    ended: Manifest | None = (containers[0].get("state") or {}).get("terminated")
    is_over = status.get("phase") in {"Succeeded", "Failed"}
    message = (ended or {}).get("message", "")
    model, refusal = None, None
    try:
        if ended is not None and ended.get("exitCode", 0) == 0:
            model = ModelFacts.decode(message)
        elif ended is not None:
            refusal = TerminationMessage.decode(message)
    except ValueError:
        pass  # not one of ours: then it is `trouble` that says what is known
    return LastWord(is_over, model, refusal, trouble_of(pod, mishap=mishap))


def _time(written: str | None) -> datetime:
    return datetime.fromisoformat(written) if written else datetime.fromtimestamp(0, UTC)
