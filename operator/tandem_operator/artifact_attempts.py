"""What the Jobs of a ModelArtifact have done, as they and their pods say it. Pure: parses raw objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

from tandem_contracts.artifact_job import Evaluated, Made, Smoked
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Phase, TerminationMessage
from tandem_operator import names
from tandem_operator.causes import trouble_of
from tandem_operator.facts import Manifest, Ref


class Course(Enum):
    """How far a Job is."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True)
class JobFacts:
    """The Job of one step of an artifact."""

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
    made: datetime | None = None
    """When it was made."""


Result = ModelFacts | Made | Evaluated | Smoked


@dataclass(frozen=True)
class LastWord:
    """What the newest pod of a Job has said, or what holds it up, or keeps the next one from being made."""

    is_over: bool
    result: Result | None = None
    refusal: TerminationMessage | None = None
    trouble: str = ""
    """In one line; empty when nothing is known."""
    runs_at: str = ""
    """The pod's address while it runs."""


@dataclass(frozen=True)
class Attempt:
    """The Job of a step and the last word of its pods; None for what is not there."""

    job: JobFacts | None = None
    word: LastWord | None = None
    is_out_of_memory: bool = False
    """Whether any of its pods was killed for want of memory."""


NO_ATTEMPT = Attempt()


def attempts_of(children: Iterable[Manifest], *, artifact_uid: str, mishaps: Mapping[str, str]) -> dict[str, Attempt]:
    """What carries the artifact's label, by the name of its Job.

    A Job of another owner is not looked at, nor are another Job's pods. `mishaps`, by the uid of a pod or a Job: what
    the cluster's events say of it.
    """
    children = tuple(children)
    found = {}
    for child in children:
        if child["kind"] != "Job" or not _is_owned(child, artifact_uid):
            continue
        job, phase = _job(child), _labels(child).get(names.LABEL_COMPONENT, "")
        pods = [each for each in children if each["kind"] == "Pod" and _labels(each).get(_JOB_UID) == job.uid]
        newest = max(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), Ref.of(pod)), default=None)
        mishap = mishaps.get(newest["metadata"].get("uid", ""), "") if newest else ""
        word = _word(newest, mishap, phase) if newest else None
        if uncreated := mishaps.get(job.uid, ""):
            word = replace(word or LastWord(is_over=False), trouble=uncreated)
        found[job.ref.name] = Attempt(job, word, any(map(_was_out_of_memory, pods)))
    return found


_JOB_UID = "batch.kubernetes.io/controller-uid"


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
        made=_time(metadata.get("creationTimestamp")),
    )


def _was_out_of_memory(pod: Manifest) -> bool:
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    states = [(container.get("state") or {}).get("terminated") or {} for container in containers]
    return any(state.get("reason") == "OOMKilled" for state in states)


def _word(pod: Manifest, mishap: str, phase: str) -> LastWord:
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state") or {}
    ended: Manifest | None = state.get("terminated")
    is_over = status.get("phase") in {"Succeeded", "Failed"}
    message = (ended or {}).get("message", "")
    result: Result | None = None
    refusal = None
    try:
        if ended is not None and ended.get("exitCode", 0) == 0:
            result = _result(message, phase)
        elif ended is not None:
            refusal = TerminationMessage.decode(message)
    except ValueError:
        pass  # not one of ours: then it is `trouble` that says what is known
    return LastWord(
        is_over,
        result,
        refusal,
        trouble_of(pod, mishap=mishap),
        runs_at=status.get("podIP", "") if "running" in state and not is_over else "",
    )


def _result(message: str, phase: str) -> Result | None:
    match phase:
        case Phase.EVICT:
            return None
        case Phase.FETCH | Phase.QUANTIZE:
            return Made.decode(message)
        case Phase.EVALUATE:
            return Evaluated.decode(message)
        case Phase.SMOKE:
            return Smoked.decode(message)
    return ModelFacts.decode(message)


def _time(written: str | None) -> datetime:
    return datetime.fromisoformat(written) if written else datetime.fromtimestamp(0, UTC)
