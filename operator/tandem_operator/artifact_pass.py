"""The pass over one ModelArtifact, and what a deployment's pass needs of artifacts: to ask for them, to see them.

Carries out what `artifact_plan` decides and decides nothing itself. What serves never waits for it: a deployment asks
for the artifacts of its models and goes on with what it has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from pydantic import ValidationError

from tandem_contracts.launch import Role
from tandem_contracts.ports import METRICS_PORT
from tandem_contracts.termination import Phase
from tandem_operator import artifact_figures, names
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.api.faults import faults_of
from tandem_operator.artifact_attempts import NO_ATTEMPT, Course, JobFacts, attempts_of
from tandem_operator.artifact_eviction import Stored, Watermarks, is_making_room, leaving, shared_bytes
from tandem_operator.artifact_facts import with_artifacts
from tandem_operator.artifact_known import Artifact, Asked
from tandem_operator.artifact_needs import Need, Settings
from tandem_operator.artifact_plan import ArtifactPlan, plan_artifact
from tandem_operator.artifact_smoke import SmokeTarget
from tandem_operator.artifact_status import Progress, artifact_status_of, progress_in
from tandem_operator.artifact_steps import Step
from tandem_operator.artifact_terms import Referrers, job_maker
from tandem_operator.cluster import Cluster, ClusterError, ConflictError, NotFoundError, RefusedError
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid
from tandem_operator.mishaps import Mishaps
from tandem_operator.objects.artifact_jobs import artifact_of
from tandem_operator.objects.job_policies import job_policies_of
from tandem_operator.outcome import Outcome
from tandem_operator.pod_pages import PodPages
from tandem_operator.protection_plan import watchers_of
from tandem_operator.store import Key, Store

_log = logging.getLogger(__name__)

AGAIN_AFTER_WRITE_SECONDS = 1.0
PROGRESS_EVERY_SECONDS = 10.0


class ArtifactPasses:
    """Passes over the artifacts."""

    def __init__(self, cluster: Cluster, store: Store, *, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._cluster, self._store, self._settings, self._now = cluster, store, settings, clock
        self._mishaps = Mishaps(cluster)
        self._pages = PodPages(METRICS_PORT)
        self._smokes: dict[Key, dict[Key, tuple[SmokeTarget, ...]]] = {}
        """By artifact and by the deployment that waits for it. A pass of the deployment says it again."""
        self._being_made: set[Key] = set()
        """By passes that run beside each other: one write is enough."""

    async def close(self) -> None:
        """End the connections to Jobs' pods."""
        await self._pages.close()

    async def ask(self, needs: Mapping[Role, Need], namespace: str) -> tuple[Key, ...]:
        """Make the artifacts of these models that are not there; which are new.

        One that cannot be made now is asked for again with the next pass: nothing that serves depends on it.
        """
        artifact_figures.begin(namespace)
        return await self._ask((spec for need in needs.values() for spec in need.asked), namespace)

    async def _ask(self, specs: Iterable[ModelArtifactSpec], namespace: str) -> tuple[Key, ...]:
        made = []
        for spec in specs:
            manifest = artifact_of(spec, namespace)
            ref = Ref.of(manifest)
            key = Key(namespace, ref.name, ref.kind)
            if self._store.deployment(key) is not None or key in self._being_made:
                continue
            self._being_made.add(key)
            try:
                self._store.observe(await self._made(manifest))
                made.append(key)
            except ClusterError as error:
                _log.warning("%s/%s: the artifact was not made: %s", namespace, ref.name, error)
            finally:
                self._being_made.discard(key)
        return tuple(made)

    def ask_smokes(self, targets: Iterable[SmokeTarget], deployment: Key) -> tuple[Key, ...]:
        """Have artifacts asked on these targets, and on no others for this deployment; which have to be looked at."""
        asked: dict[Key, tuple[SmokeTarget, ...]] = {}
        for target in targets:
            key = Key(deployment.namespace, target.artifact, names.ARTIFACT_KIND)
            asked[key] = (*asked.get(key, ()), target)
        news = []
        for key in {*self._smokes, *asked}:
            waiting = self._smokes.setdefault(key, {})
            if asked.get(key, ()) != waiting.get(deployment, ()):
                news += [key] if key in asked else []
                waiting[deployment] = asked.get(key, ())
            if not waiting.get(deployment):
                waiting.pop(deployment, None)
            if not waiting:
                del self._smokes[key]
        return tuple(sorted(news))

    async def _made(self, artifact: Manifest) -> Manifest:
        """The artifact, made, or as somebody has made it: applying it would make that one ours to delete."""
        try:
            return await self._cluster.make(artifact)
        except ConflictError:
            return await self._cluster.get(Ref.of(artifact), artifact["metadata"]["namespace"])

    def seen(self, facts: Facts, needs: Mapping[Role, Need], namespace: str) -> Facts:
        """A deployment's facts with those of its artifacts."""
        return with_artifacts(facts, needs, find=partial(self.find, namespace))

    def find(self, namespace: str, name: str) -> Manifest | None:
        """An artifact by its name, as last seen."""
        return self._store.child(Ref(names.ARTIFACT_KIND, name), namespace)

    async def run(self, key: Key) -> Outcome:
        """One pass. Raises ClusterError for what the queue should try again with backoff."""
        body = self._store.deployment(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._mishaps.forget(key)
            return Outcome(wake=self._referrers(key))
        artifact_figures.begin(key.namespace)
        artifact = _artifact(body)
        mishaps = await self._mishaps.look(key, self._store.children(key))
        referrers = Referrers(key.name, self._naming(key), self._settings)
        source = referrers.source_of(artifact.spec, partial(self.find, key.namespace))
        smokes = tuple(target for each in self._smokes.get(key, {}).values() for target in each)
        attempts = attempts_of(self._store.children(key), artifact_uid=artifact.uid, mishaps=mishaps)
        decide = partial(
            plan_artifact,
            artifact,
            attempts,
            asked=self._with_room(referrers.asked(smokes), artifact),
            job_of=job_maker(
                Owner.of(body), artifact, source, referrers=referrers, settings=self._settings, smokes=smokes
            ),
            source=source,
            now=self._now(),
            ttl=timedelta(seconds=referrers.ttl_seconds(artifact.status)),
        )
        planned = decide()
        if planned.delete_artifact:
            _log.info("%s/%s: deleted, since nothing has referred to it for its time", key.namespace, key.name)
            seen = {"uid": artifact.uid, "resource_version": artifact.resource_version}
            is_deleted = await self._cluster.delete(Ref(names.ARTIFACT_KIND, key.name), key.namespace, **seen)
            eviction = attempts.get(Step(Phase.EVICT).job_name(key.name), NO_ATTEMPT).job
            if is_deleted and eviction is not None and eviction.course is Course.COMPLETE:
                artifact_figures.EVICTIONS.labels(key.namespace).inc()
            return Outcome()
        asked: tuple[Key, ...] = ()
        step, is_used = planned.finding.step, planned.unused_since is None
        if artifact.spec is not None and step is not None and step.needs_source and is_used:
            asked = await self._ask([artifact.spec.as_it_is], key.namespace)
        after_write, refused = await self._carry_out(planned, artifact)
        if refused:
            planned = decide(refused=refused)
        progress = await self._progress(planned)
        status = artifact_status_of(
            artifact, planned, now=self._now(), progress=progress, ttl_seconds=referrers.ttl_kept(artifact.status)
        )
        await self._say(artifact, status)
        follows = PROGRESS_EVERY_SECONDS if planned.finding.runs_at else 0.0
        due = (after_write, planned.due_seconds, follows, self._mishaps.due_seconds(key))
        again = min((seconds for seconds in due if seconds), default=0.0)
        is_news = _told(artifact.status) != _told(status)
        return Outcome(again, (*asked, *(self._referrers(key) if is_news else ())))

    def _with_room(self, asked: Asked, artifact: Artifact) -> Asked:
        """With what the other artifacts on its volume mean to it. Where others share the files, nobody deletes them."""
        claim = artifact.spec.claim_name if artifact.spec and artifact.spec.tenant else None
        if claim is None:
            return asked
        there = self._store.artifacts(artifact.namespace)
        stored = [Stored.of(each) for each in there if (each.get("spec") or {}).get("claimName") == claim]
        config = self._settings.config
        marks = Watermarks(config.cache_high_percent / 100, config.cache_low_percent / 100)
        others = [each for each in stored if each.name != artifact.name]
        return replace(
            asked,
            others_bytes=shared_bytes(others),
            is_making_room=is_making_room(others),
            is_pressed=artifact.name in leaving(stored, marks),
        )

    async def _carry_out(self, planned: ArtifactPlan, artifact: Artifact) -> tuple[float, str]:
        """Delete or make the Job; seconds until a pass should look at it, and why it could not be made."""
        if planned.delete_job is not None:
            await self._delete(planned.delete_job, artifact.namespace)
            return AGAIN_AFTER_WRITE_SECONDS, ""
        if planned.make_job is not None:
            try:
                await self._make(planned.make_job, artifact)
            except RefusedError as error:
                return 0.0, error.message
            return AGAIN_AFTER_WRITE_SECONDS, ""
        return 0.0, ""

    async def _progress(self, planned: ArtifactPlan) -> Progress | None:
        """How far the program is that works on the step; None where nothing works, or nothing answers."""
        if not planned.finding.runs_at:
            return None
        page = await self._pages.read(planned.finding.runs_at)
        return None if page is None else progress_in(page)

    async def _say(self, artifact: Artifact, status: Manifest) -> None:
        """Write the status if it changed."""
        if status == artifact.status:
            return
        ref = Ref(names.ARTIFACT_KIND, artifact.name)
        try:
            written = await self._cluster.apply_status(ref, artifact.namespace, status=status, uid=artifact.uid)
        except (NotFoundError, ConflictError):
            return  # deleted, or made again, in the meantime: another pass is on its way
        self._store.observe(written)

    async def _delete(self, job: JobFacts, namespace: str) -> None:
        """Delete the Job that was seen; its pods go with it. Raises ClusterError."""
        await self._cluster.delete(job.ref, namespace, uid=job.uid, resource_version=job.resource_version)
        there = self._store.child(job.ref, namespace)
        if there is not None:
            self._store.forget(there)

    async def _make(self, job: Manifest, artifact: Artifact) -> None:
        """Make the Job, unless one of its name is there that the store does not know. Raises ClusterError."""
        config = self._settings.config
        if config.serves_from_elsewhere(artifact.namespace):
            for policy in job_policies_of(artifact.namespace, watchers_of(config)):
                self._store.observe(await self._cluster.apply(policy))
        try:
            made = await self._cluster.make(job)
            artifact_figures.JOBS.labels(artifact.namespace, job["metadata"]["labels"][names.LABEL_COMPONENT]).inc()
        except ConflictError:
            made = await self._cluster.get(Ref.of(job), artifact.namespace)
            if controller_uid(made) != artifact.uid:
                name = made["metadata"]["name"]
                raise RefusedError(409, f"Job {name} exists and does not belong to the artifact") from None
        self._store.observe(made)

    def _naming(self, key: Key) -> tuple[Manifest, ...]:
        """Who names the artifact: deployments, revisions of theirs that still have pods, and what is made from it."""
        return tuple(
            manifest
            for manifest in self._store.naming(key)
            if manifest["kind"] != "ControllerRevision" or self._has_pods(manifest, key.namespace)
        )

    def _has_pods(self, revision: Manifest, namespace: str) -> bool:
        """Whether pods of a revision read its model, or may come to: they go on for a while after their Deployment."""
        if self._store.child(Ref("Deployment", revision["metadata"]["name"]), namespace) is not None:
            return True
        labels = revision["metadata"].get("labels") or {}
        own = {name: labels.get(name, "") for name in (names.LABEL_ROLE, names.LABEL_REVISION)}
        return any(
            child["kind"] == "Pod" and own.items() <= (child["metadata"].get("labels") or {}).items()
            for child in self._store.children(Key(namespace, labels.get(names.LABEL_DEPLOYMENT, "")))
        )

    def _referrers(self, key: Key) -> tuple[Key, ...]:
        """The resources whose passes look at the artifact."""
        found = set()
        for manifest in self._naming(key):
            name = manifest["metadata"]["name"]
            if manifest["kind"] == "ControllerRevision":
                labels = manifest["metadata"].get("labels") or {}
                found.add(Key(key.namespace, labels.get(names.LABEL_DEPLOYMENT, "")))
            else:
                found.add(Key(key.namespace, name, manifest["kind"]))
        return tuple(sorted(found))


def _told(status: Mapping[str, object]) -> dict[str, object]:
    """What of an artifact's status anybody else goes by."""
    return {name: status.get(name) for name in ("conditions", "model", "files", "losses", "smokes", "job")}


def _artifact(body: Manifest) -> Artifact:
    metadata, owner = body["metadata"], Owner.of(body)
    spec, problem = None, ""
    try:
        spec = ModelArtifactSpec.parse(body.get("spec"))
    except ValidationError as error:
        problem = "; ".join(map(str, faults_of(error, ModelArtifactSpec, "spec")))
    return Artifact(
        name=owner.name,
        namespace=owner.namespace,
        uid=owner.uid,
        resource_version=metadata.get("resourceVersion", ""),
        generation=metadata.get("generation", 1),
        is_ours=(metadata.get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY,
        spec=spec,
        problem=problem,
        status=body.get("status") or {},
    )
