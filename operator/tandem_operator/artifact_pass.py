"""The pass over one ModelArtifact, and what a deployment's pass needs of artifacts: to ask for them, to see them.

Carries out what `artifact_plan` decides and decides nothing itself. Serving never waits for it: a deployment asks for
the artifacts of its models and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from pydantic import ValidationError

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.accelerators import CPU, AcceleratorClass
from tandem_operator.api.artifact import source_of
from tandem_operator.api.deployment import Owner, faults_of
from tandem_operator.api.model import ModelSource
from tandem_operator.artifact_facts import JobFacts, artifact_facts_of, inspection_of, with_artifacts
from tandem_operator.artifact_plan import Artifact, plan_artifact
from tandem_operator.cluster import Cluster, ClusterError, ConflictError, NotFoundError, RefusedError
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid
from tandem_operator.mishaps import Mishaps
from tandem_operator.objects.inspect_job import artifact_of, configured_job
from tandem_operator.outcome import Outcome
from tandem_operator.store import Key, Store

_log = logging.getLogger(__name__)

AGAIN_AFTER_WRITE_SECONDS = 1.0


class ArtifactPasses:
    """Passes over the artifacts of one namespace."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        *,
        config: OperatorConfig,
        table: Mapping[str, AcceleratorClass],
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster, self._store, self._config, self._now = cluster, store, config, clock
        self._node = table[CPU]
        self._mishaps = Mishaps(cluster)
        self._being_made: set[Key] = set()
        """By passes that run beside each other: one write is enough."""

    async def ask(self, needed: Mapping[Role, ModelSource], namespace: str) -> tuple[Key, ...]:
        """Make the artifacts of these models that are not there; which were made.

        One that cannot be made now is asked for again with the next pass: nothing that serves depends on it.
        """
        made = []
        for source in needed.values():
            manifest = artifact_of(source, namespace)
            ref = Ref.of(manifest)
            key = Key(namespace, ref.name, ref.kind)
            if self._store.deployment(key) is not None or key in self._being_made:
                continue
            self._being_made.add(key)
            try:
                self._store.observe(await self._cluster.apply(manifest))
                made.append(key)
            except ClusterError as error:
                _log.warning("%s/%s: the artifact was not made: %s", namespace, ref.name, error)
            finally:
                self._being_made.discard(key)
        return tuple(made)

    def seen(self, facts: Facts, needed: Mapping[Role, ModelSource], namespace: str) -> Facts:
        """A deployment's facts with those of its artifacts."""
        return with_artifacts(
            facts, needed, find=lambda name: self._store.child(Ref(names.ARTIFACT_KIND, name), namespace)
        )

    async def run(self, key: Key) -> Outcome:
        """One pass. Raises ClusterError for what the queue should try again with backoff."""
        body = self._store.deployment(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._mishaps.forget(key)
            return Outcome(wake=self._referrers(key))
        owner = Owner.of(body)
        artifact = _artifact(body, owner)
        job = self._job(owner, artifact.source)
        mishaps = await self._mishaps.look(key, self._store.children(key))
        decide = partial(
            plan_artifact,
            artifact,
            inspection_of(self._store.children(key), artifact_uid=owner.uid, mishaps=mishaps),
            job=job,
            is_used=bool(self._referrers(key)),
            now=self._now(),
            ttl=timedelta(seconds=self._config.artifact_ttl_seconds),
        )
        planned = decide()
        if planned.delete_artifact:
            _log.info("%s/%s: deleted, since nothing has referred to it for its time", key.namespace, key.name)
            seen = {"uid": artifact.uid, "resource_version": artifact.resource_version}
            await self._cluster.delete(Ref(names.ARTIFACT_KIND, key.name), key.namespace, **seen)
            return Outcome()
        after_write = 0.0
        if planned.delete_job is not None:
            await self._delete(planned.delete_job, key.namespace)
            after_write = AGAIN_AFTER_WRITE_SECONDS
        if planned.make_job and job is not None:
            try:
                await self._make(job, artifact)
                after_write = AGAIN_AFTER_WRITE_SECONDS
            except RefusedError as error:
                planned = decide(refused=error.message)
        await self._say(artifact, planned.status)
        due = (after_write, planned.due_seconds, self._mishaps.due_seconds(key))
        again = min((seconds for seconds in due if seconds), default=0.0)
        now = self._store.deployment(key)
        source = artifact.source
        is_news = source is not None and artifact_facts_of(source, body) != artifact_facts_of(source, now)
        return Outcome(again, self._referrers(key) if is_news else ())

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
        try:
            made = await self._cluster.make(job)
        except ConflictError:
            made = await self._cluster.get(Ref.of(job), artifact.namespace)
            if controller_uid(made) != artifact.uid:
                name = made["metadata"]["name"]
                raise RefusedError(409, f"Job {name} exists and does not belong to the artifact") from None
        self._store.observe(made)

    def _job(self, owner: Owner, source: ModelSource | None) -> Manifest | None:
        return configured_job(owner, source, config=self._config, node=self._node) if source else None

    def _referrers(self, key: Key) -> tuple[Key, ...]:
        """Deployments that need the artifact: by their spec, or by a revision of theirs that still has pods."""
        found = set()
        for manifest in self._store.naming(key):
            if manifest["kind"] == names.KIND:
                found.add(Key(key.namespace, manifest["metadata"]["name"]))
            elif self._store.child(Ref("Deployment", manifest["metadata"]["name"]), key.namespace):
                labels = manifest["metadata"].get("labels") or {}
                found.add(Key(key.namespace, labels.get(names.LABEL_DEPLOYMENT, "")))
        return tuple(sorted(found))


def _artifact(body: Manifest, owner: Owner) -> Artifact:
    metadata = body["metadata"]
    source, problem = None, ""
    try:
        source = source_of((body.get("spec") or {}).get("source"))
    except ValidationError as error:
        problem = "; ".join(map(str, faults_of(error, "spec.source")))
    return Artifact(
        name=owner.name,
        namespace=owner.namespace,
        uid=owner.uid,
        resource_version=metadata.get("resourceVersion", ""),
        generation=metadata.get("generation", 1),
        is_ours=(metadata.get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY,
        source=source,
        problem=problem,
        status=body.get("status") or {},
    )
