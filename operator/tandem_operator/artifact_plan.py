"""What to do about one ModelArtifact now. Pure; `artifact_status` says it.

`plan_artifact` looks at the artifact, its Jobs and the newest pod of each, and at what those want who refer to it. The
state machine is the order of its questions: nothing is remembered but what Jobs have found, in the artifact's status,
and since when it is unused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tandem_contracts.termination import Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.api.artifact import ModelArtifactSpec, shown
from tandem_operator.artifact_attempts import NO_ATTEMPT, Attempt, Course, JobFacts
from tandem_operator.artifact_facts import DOING, FAILED, NOTHING_KNOWN, Known, doing
from tandem_operator.artifact_known import (
    BUILT_IN,
    NO_ROOM_SECONDS,
    Artifact,
    Asked,
    given_up,
    known_of,
    seconds_without_room,
    smoke_step,
    summary_of,
)
from tandem_operator.artifact_steps import Step, first_step_of
from tandem_operator.causes import steady
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.names import Reason
from tandem_operator.quantities import in_bytes

RETRY_SECONDS = 3600.0
"""A step that failed is tried again after this long: nobody tells us that somebody has mended its cause."""
PASSING_SECONDS = 300.0
"""The same where the cause may pass by itself."""
PASSING = frozenset({Cause.NETWORK_FAILED, Cause.CHECKSUM_MISMATCH, Cause.READ_FAILED, Cause.STEP_FAILED})
_UNREFERRED = "; nothing refers to it now: it is looked into when something does"
LOST_POD_SECONDS = 120.0
"""Longer than the resync, which would have found the pod of a Job that is complete."""
AGAIN_AFTER_REFUSAL_SECONDS = 15.0
AGAIN_BEFORE_EVICTION_SECONDS = 1.0


@dataclass(frozen=True)
class Unmakeable:
    """Why a step's Job cannot be made."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class ArtifactPlan:
    """What to do, and what to say. `make_job` and `delete_job` exclude each other."""

    finding: Finding
    unused_since: datetime | None = None
    make_job: Manifest | None = None
    delete_job: JobFacts | None = None
    delete_artifact: bool = False
    due_seconds: float = 0.0
    """Seconds until another pass is due; 0: with the next event or resync."""


@dataclass(frozen=True)
class Finding:
    """What is known, and what follows from it."""

    reason: str
    message: str
    is_ready: bool = False
    is_stalled: bool = False
    is_held_up: bool = False
    """The step's Job waits for something, such as a ConfigMap or a node."""
    known: Known = NOTHING_KNOWN
    step: Step | None = None
    """The one that is due."""
    runs_at: str = ""
    """Address of the pod that works on it."""
    memory: str = ""
    """That the step's Job gets, where one of less was killed."""
    full_beside_bytes: int | None = None
    """Of the other artifacts on the volume that the step's Job has found full."""
    make_job: Manifest | None = None
    delete_job: JobFacts | None = None
    due_seconds: float = 0.0


def plan_artifact(
    artifact: Artifact,
    attempts: Mapping[str, Attempt],
    *,
    asked: Asked,
    job_of: Callable[[Step], Manifest | Unmakeable],
    source: ArtifactFacts | None = None,
    now: datetime,
    ttl: timedelta,
    refused: str = "",
) -> ArtifactPlan:
    """The plan for one artifact.

    `attempts`: by the name of the Job. `job_of`: what the Job of a step should be. `source`: what a quantized one is
    made from. `refused`: why the API server would not have the Job that the plan before this one was to make.
    """
    unused_since = None if asked.is_used or not artifact.is_ours else _time(artifact.status.get("unusedSince")) or now
    goes = asked.is_pressed or artifact.is_evicting  # what has begun to go is not counted on by anybody any more
    is_over = unused_since is not None and (goes or now - unused_since >= ttl)
    planner = _Planner(artifact, attempts, asked, job_of, source, now)
    eviction = attempts.get(Step(Phase.EVICT).job_name(artifact.name), NO_ATTEMPT)
    if artifact.spec is not None and (eviction.job is not None or (is_over and planner.has_files)):
        unused_since = unused_since if is_over else None
        return _evicted(artifact, planner, eviction, unused_since=unused_since, refused=refused)
    if is_over or (artifact.is_ours and _has_lost_its_files(attempts)):
        # In the second case, too, whoever needs it asks for a new one, that no Job of before speaks for.
        return ArtifactPlan(planner.found(), unused_since, delete_artifact=True)
    found = planner.found()
    if refused:
        found = _without_job(found, artifact, refused)
    if unused_since is not None and not found.is_ready:  # whoever needs it next has it made
        job = attempts.get(found.step.job_name(artifact.name), NO_ATTEMPT).job if found.step else None
        going = job if job and not job.is_going else None
        message = f"{found.message.removesuffix(_UNREFERRED)}{_UNREFERRED}"  # its source may have said so already
        found = replace(found, message=message, make_job=None, delete_job=going, runs_at="", due_seconds=0.0)
    return ArtifactPlan(found, unused_since, found.make_job, found.delete_job, due_seconds=found.due_seconds)


def _without_job(found: Finding, artifact: Artifact, refused: str) -> Finding:
    name = found.step.job_name(artifact.name) if found.step else artifact.name
    message = f"Job {name} cannot be made: {steady(refused)}"
    return Finding(
        Reason.API_REFUSED, message, known=found.known, step=found.step, due_seconds=AGAIN_AFTER_REFUSAL_SECONDS
    )


def _evicted(
    artifact: Artifact, planner: _Planner, eviction: Attempt, *, unused_since: datetime | None, refused: str
) -> ArtifactPlan:
    """First nobody may count on the files any more, then they go, then the artifact. Who needs it again waits."""
    step, job = Step(Phase.EVICT), eviction.job
    assert artifact.spec is not None  # noqa: S101 -- narrows the type
    found = Finding(Reason.EVICTING, doing(step, artifact.name, artifact.spec), step=step)
    if job is None and not artifact.is_evicting:
        return ArtifactPlan(found, unused_since, due_seconds=AGAIN_BEFORE_EVICTION_SECONDS)
    if job is None and refused:
        found = _without_job(found, artifact, refused)
        return ArtifactPlan(found, unused_since, due_seconds=found.due_seconds)
    if job is None:
        made = planner.job_of(step)
        if isinstance(made, Unmakeable):
            return ArtifactPlan(replace(found, message=made.message, is_stalled=True), unused_since)
        return ArtifactPlan(found, unused_since, make_job=made)
    if job.course is Course.RUNNING or job.is_going:
        made = planner.job_of(step)
        has_begun = eviction.word is not None and (bool(eviction.word.runs_at) or eviction.word.is_over)
        is_outdated = not isinstance(made, Unmakeable) and _is_outdated(job, made)
        if is_outdated and unused_since is not None and not has_begun and not job.is_going:
            return ArtifactPlan(found, unused_since, delete_job=job)
        trouble = eviction.word.trouble if eviction.word else ""
        waits = f"{found.message}: {trouble}" if trouble else found.message
        return ArtifactPlan(replace(found, message=waits), unused_since)
    if job.course is Course.COMPLETE or unused_since is None:
        # Also where it is needed again: whoever needs it asks for a new one, that no Job of before speaks for.
        return ArtifactPlan(found, unused_since, delete_artifact=True)
    reason, cause = _failure(step, job, eviction)
    age = (planner.now - (job.ended or planner.now)).total_seconds()
    if age >= RETRY_SECONDS:
        return ArtifactPlan(found, unused_since, delete_job=job)
    found = replace(found, reason=reason, message=f"{cause}; it is tried again an hour later", is_stalled=True)
    return ArtifactPlan(found, unused_since, due_seconds=RETRY_SECONDS - age)


class _Planner:
    """What one call of `plan_artifact` knows."""

    def __init__(
        self,
        artifact: Artifact,
        attempts: Mapping[str, Attempt],
        asked: Asked,
        job_of: Callable[[Step], Manifest | Unmakeable],
        source: ArtifactFacts | None,
        now: datetime,
    ) -> None:
        self._artifact, self._attempts, self._asked = artifact, attempts, asked
        self.job_of, self._source, self.now = job_of, source, now
        self._known = known_of(artifact, attempts, asked, now)

    @property
    def has_files(self) -> bool:
        """Whether there is something of ours on a volume that nobody else counts on."""
        spec = self._artifact.spec
        is_own = spec is not None and spec.claim_name is not None and spec.tenant is not None
        return is_own and (self._known.files is not None or self._artifact.is_evicting)

    def found(self) -> Finding:
        """What is known of it, and the step that is due: the first one that nothing keeps from going on."""
        artifact, spec, known = self._artifact, self._artifact.spec, self._known
        if spec is None:
            return Finding(Reason.INVALID_SPEC, artifact.problem, is_stalled=True)
        if artifact.name != spec.key:
            message = f"metadata.name (is {artifact.name!r}): must be {spec.key}, the key of what it is made from"
            return Finding(Reason.KEY_MISMATCH, message, is_stalled=True)
        steps = self._due(spec)
        if not steps and known.model is not None:
            left = given_up(artifact, self._attempts, self._asked, self.now)
            return Finding(_done(spec), summary_of(known.model), is_ready=True, known=known, delete_job=left)
        found = [self._found_of(step, spec) for step in steps]
        due = min((each.due_seconds for each in found if each.due_seconds), default=0.0)
        going = [each for each in found if not each.is_stalled]
        free = next((each for each in going if not each.is_held_up), None)
        return free or (going[0] if going else replace(found[0], due_seconds=due))

    def _found_of(self, step: Step, spec: ModelArtifactSpec) -> Finding:
        artifact, known = self._artifact, self._known
        attempt = self._attempts.get(step.job_name(artifact.name), NO_ATTEMPT)
        if step.needs_source and attempt.job is None and (self._source is None or self._source.files is None):
            return self._waits_for_source(step)
        wanted = self.job_of(step)
        is_at_work = attempt.word is not None and bool(attempt.word.runs_at)
        if attempt.job is not None and (is_at_work or not isinstance(wanted, Unmakeable)):
            return self._found_by_job(step, attempt.job, attempt, wanted=wanted, spec=spec)
        if isinstance(wanted, Unmakeable):
            return Finding(wanted.reason, wanted.message, is_stalled=True, known=known, step=step)
        message = doing(step, artifact.name, spec)
        return Finding(DOING[step.phase], message, known=known, step=step, make_job=wanted)

    def _due(self, spec: ModelArtifactSpec) -> tuple[Step, ...]:
        """Steps that have still to be taken; evaluations and smoke tests do not wait for each other."""
        known = self._known
        if known.model is None or (spec.claim_name is not None and known.files is None):
            return (first_step_of(spec),)
        if spec.quantization is None:
            return ()
        asked = self._asked.measurements or (() if known.losses else BUILT_IN)
        evaluations = [Step(Phase.EVALUATE, texts) for texts in asked if str(texts) not in known.losses]
        smokes = [smoke_step(target) for target in self._asked.smokes if target.name not in known.smokes]
        return (*evaluations, *smokes)

    def _waits_for_source(self, step: Step) -> Finding:
        source = self._source
        told = f": {source.message}" if source and source.message else ""
        name = f" (ModelArtifact {source.name})" if source else ""
        # What keeps it is the source's own reason, where that does not pass by itself.
        stuck = source.reason if source and source.is_stuck else None
        message = f"waits for the model that it is made from{name}{told}"
        reason = stuck or Reason.SOURCE_NOT_READY
        return Finding(reason, message, is_stalled=stuck is not None, known=self._known, step=step)

    def _found_by_job(
        self, step: Step, there: JobFacts, attempt: Attempt, *, wanted: Manifest | Unmakeable, spec: ModelArtifactSpec
    ) -> Finding:
        word, where = attempt.word, shown(spec.source)
        trouble, is_running = (word.trouble, bool(word.runs_at)) if word else ("", False)
        on = Finding(DOING[step.phase], "", known=self._known, step=step, runs_at=word.runs_at if word else "")
        if there.is_going:
            return replace(on, message=f"Job {there.ref.name} is being deleted and made again")
        # One that does not say what it was made from is left alone: a webhook that strips annotations must not have it
        # made again without end. Nor is one made again that works: hours of it would be lost for another image.
        is_outdated = not isinstance(wanted, Unmakeable) and _is_outdated(there, wanted)
        is_at_work = is_running and step.phase is not Phase.INSPECT
        if is_outdated and there.course is not Course.COMPLETE and not is_at_work:
            message = f"Job {there.ref.name} is made again, since the operator's configuration is another one"
            return replace(on, message=message, delete_job=there)
        memory = self._more_memory(step, attempt, wanted)
        if memory:  # at once: the Job's own tries would have as little as the first one
            message = f"Job {there.ref.name} was killed for want of memory, and is tried once more with {memory}"
            return replace(on, message=message, delete_job=there, memory=memory)
        if there.course is Course.RUNNING:
            waits = f": {trouble}" if trouble else ""
            message = doing(step, self._artifact.name, spec) + waits
            lacks_room = seconds_without_room(attempt, self.now) if step.phase is Phase.SMOKE else 0.0
            due = max(1.0, NO_ROOM_SECONDS - lacks_room) if lacks_room else 0.0
            return replace(on, message=message, is_held_up=bool(trouble) and not is_running, due_seconds=due)
        age = (self.now - (there.ended or self.now)).total_seconds()
        if there.course is Course.COMPLETE and (word is None or not word.is_over):
            if age < LOST_POD_SECONDS:
                message = f"Job {there.ref.name} is complete, the last word of its pod is on its way"
                return replace(on, message=message, due_seconds=LOST_POD_SECONDS - age)
            message = f"Job {there.ref.name} is made again: it is complete, and its pod was deleted before it was read"
            return replace(on, message=message, delete_job=there)
        reason, cause = _failure(step, there, attempt)
        if reason == Cause.MODEL_NOT_FOUND and step.needs_source and self._source and self._source.name:
            cause += f"; if its volume was emptied, delete ModelArtifact {self._source.name} so that it is made again"
        if attempt.is_out_of_memory and spec.quantization is not None and not isinstance(wanted, Unmakeable):
            cause += f": it had {_limit_of(wanted)}, and gets what quantization.job.memory says"
        retry_seconds, full_beside = _retry_seconds(step, attempt), self._full_beside(attempt)
        has_room_now = full_beside is not None and self._asked.others_bytes < full_beside
        if age >= retry_seconds or (has_room_now and not self._asked.is_making_room):
            message = f"Job {there.ref.name} looks again: {where}: {cause}"
            return replace(on, message=message, delete_job=there)
        later = "an hour" if retry_seconds == RETRY_SECONDS else f"{retry_seconds / 60:.0f} minutes"
        again = f"it is looked at again {later} later, or when this ModelArtifact is deleted"
        message = f"{where}: {cause}; {again}"
        due = retry_seconds - age
        return Finding(
            reason,
            message,
            is_stalled=True,
            known=self._known,
            step=step,
            full_beside_bytes=full_beside,
            due_seconds=due,
        )

    def _full_beside(self, attempt: Attempt) -> int | None:
        """Bytes of the other artifacts on a volume that was full; None where it was not. More may have come since."""
        refusal = attempt.word.refusal if attempt.word else None
        if refusal is None or refusal.reason is not Cause.VOLUME_FULL:
            return None
        before = self._artifact.status.get("fullBesideBytes")
        return max(before if isinstance(before, int) else 0, self._asked.others_bytes)

    def _more_memory(self, step: Step, attempt: Attempt, wanted: Manifest | Unmakeable) -> str:
        """Half as much again, for a Job that was killed for want of it, and not for the second time."""
        if isinstance(wanted, Unmakeable) or step.phase is Phase.SMOKE:  # which has what the pods to come will have
            return ""
        limit = _limit_of(wanted)
        if not attempt.is_out_of_memory or limit == self._artifact.memory_of(step):
            return ""
        return f"{in_bytes(limit) * 3 // 2 // (1 << 20):.0f}Mi"


def _limit_of(job: Manifest) -> str:
    """Memory of its container."""
    limit: str = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    return limit


def _has_lost_its_files(attempts: Mapping[str, Attempt]) -> bool:
    """Whether a Job has looked for what another one had published, and found nothing: the volume is another one."""
    refusals = [attempt.word.refusal for attempt in attempts.values() if attempt.word and attempt.word.refusal]
    return any(refusal.reason is Cause.ARTIFACT_MISSING for refusal in refusals)


def _is_outdated(there: JobFacts, wanted: Manifest) -> bool:
    """Whether a Job was made from another wish. One that does not say what it was made from never is."""
    return there.applied not in {"", wanted["metadata"]["annotations"][names.ANNOTATION_APPLIED]}


def _done(spec: ModelArtifactSpec) -> Reason:
    if spec.quantization is not None:
        return Reason.MEASURED_LOSS
    return Reason.PUBLISHED if spec.source.is_fetched else Reason.INSPECTED


def _retry_seconds(step: Step, attempt: Attempt) -> float:
    """A folder that cannot be read is somebody's to mend; a network mends itself."""
    refusal = attempt.word.refusal if attempt.word else None
    passes = refusal is not None and refusal.reason in PASSING and step.phase is not Phase.INSPECT
    return PASSING_SECONDS if passes else RETRY_SECONDS


def _failure(step: Step, there: JobFacts, attempt: Attempt) -> tuple[str, str]:
    """Reason and cause of a Job that came to its end without a result."""
    word = attempt.word
    if word and word.refusal:
        return word.refusal.reason.value, word.refusal.message
    if there.course is Course.COMPLETE:
        return Reason.NO_FACTS, f"Job {there.ref.name} succeeded without saying what the model is: is its image ours?"
    cause = (word.trouble if word else "") or there.message or "no pod of it is left that could say why"
    return FAILED[step.phase], f"Job {there.ref.name} failed: {cause}"


def _time(written: object) -> datetime | None:
    """None for what is no time: then the count begins anew."""
    try:
        return datetime.fromisoformat(written).astimezone(UTC) if isinstance(written, str) else None
    except ValueError:
        return None
