"""One pass: read what was last seen, decide, apply, delete, say. The one place where the steps are strung together.

Level-triggered: a pass never knows which event woke it. Everything is decided by pure code; what is here only carries
the values from one step to the next, and turns what the API server refuses into a condition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_pass import ArtifactPasses
from tandem_operator.cluster import (
    OPTIONAL_WATCHED,
    Cluster,
    ClusterError,
    ConflictError,
    NotFoundError,
    RefusedError,
    watched_of,
)
from tandem_operator.cold_starts import ColdStarts
from tandem_operator.config import OperatorConfig
from tandem_operator.drift import needs_apply
from tandem_operator.engine_readings import DraftingReadings
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid
from tandem_operator.facts_parsing import facts_of
from tandem_operator.gate_readings import GateReadings
from tandem_operator.issuer_keys import PublishedKeys
from tandem_operator.metrics_source import EngineLoads
from tandem_operator.mishaps import Mishaps
from tandem_operator.names import Reason
from tandem_operator.objects.event import event_of
from tandem_operator.objects.ownership import Conflict, conflict_of
from tandem_operator.observation import Observation
from tandem_operator.outcome import Outcome
from tandem_operator.plan import Apply, Plan, checks_tokens, plan
from tandem_operator.pod_marks import PodMarks
from tandem_operator.readings_source import Readings, readings_by
from tandem_operator.rollout import Clock, drained_pods_of
from tandem_operator.scalings import Scalings
from tandem_operator.speculation_source import SpeculationFigures
from tandem_operator.status import flipped, status_of
from tandem_operator.store import Key, Store
from tandem_operator.targets import Problem, intent_of, needed_by

_log = logging.getLogger(__name__)

AGAIN_AFTER_REFUSAL_SECONDS = 15.0
AGAIN_AFTER_WRITE_SECONDS = 0.1
"""A reply to our own write may hold what a watch event will bring and the pass has not planned from. A converged pass
writes nothing, so this ends by itself, unless an admission webhook or another controller changes our objects back."""
AGAIN_AFTER_WRITE_LIMIT_SECONDS = 60.0
NOT_CONVERGING_PASSES = 8


@dataclass
class _Carried:
    """What became of a plan."""

    seen: Mapping[Ref, Manifest | None]
    """What the plan applies, as it was when the plan was made. A pass takes time, and news come in: what is judged by
    them, and written from a plan that knew none of them, would undo what has been done meanwhile."""
    wrote: bool = False
    conflicts: list[Conflict] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    failed: list[ClusterError] = field(default_factory=list)
    unfrozen: set[str] = field(default_factory=set)
    """ControllerRevisions that should be there and are not."""

    def lacks_template(self, apply: Apply) -> bool:
        """Whether the pods would run from a template that no later pass could find again."""
        ref = Ref.of(apply.manifest)
        return ref.kind == "Deployment" and ref.name in self.unfrozen

    def note(self, ref: Ref, error: ClusterError) -> None:
        """Keep an error: what a person must mend or should know of in words, what passes by itself to be raised."""
        if isinstance(error, RefusedError):
            self.refused.append(f"{ref.kind} {ref.name}: {error.message}")
            return
        self.failed.append(error)
        if not isinstance(error, ConflictError):
            self.unanswered.append(f"{ref.kind} {ref.name}: {error}")

    def conflict(self) -> Problem | None:
        """The objects of others that are in the way and will not go by themselves."""
        told = [conflict.message for conflict in self.conflicts if not conflict.passes]
        return Problem(Reason.NAME_CONFLICT, "; ".join(told)) if told else None


_STAGES = 3


def _stage(apply: Apply) -> int:
    """What goes first: all that pods need, then the pods, then what selects them. Each stage is written at once."""
    return {"Deployment": 1, "Service": 2}.get(apply.manifest["kind"], 0)


class Reconciler:
    """Passes over the deployments, and those over the artifacts, of one namespace."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        *,
        config: OperatorConfig,
        clock: Callable[[], datetime] | None = None,
        readings: Readings | None = None,
        gates: GateReadings | None = None,
        loads: EngineLoads | None = None,
        drafting: DraftingReadings | None = None,
    ) -> None:
        self._cluster, self._store, self._config = cluster, store, config
        self._table = table_of(config)
        self._watched = watched_of(self._table)
        self._writing: dict[Key, int] = {}
        self._loads = loads or EngineLoads()
        self._mishaps = Mishaps(cluster)
        self._cold_starts = ColdStarts()
        self._keys = PublishedKeys(cluster)
        self._marks = PodMarks(cluster, store)
        self._speculation = SpeculationFigures()
        self._scalings = Scalings(
            store,
            readings or readings_by(config),
            drafting or DraftingReadings(),
            gates or GateReadings(),
            table=self._table,
        )
        self._now = clock or (lambda: datetime.now(UTC))
        self._settings = Settings(self._table, config)
        self._artifacts = ArtifactPasses(cluster, store, settings=self._settings, clock=self._now)

    async def run(self, key: Key) -> Outcome:
        """One pass. Raises ClusterError for what the queue should try again with backoff."""
        if key.kind == names.ARTIFACT_KIND:
            return await self._artifacts.run(key)
        body = self._store.deployment(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._mishaps.forget(key)
            self._cold_starts.forget(key)
            self._speculation.forget(key)
            self._writing.pop(key, None)
            self._scalings.forget(key)
            await self._loads.idle(key, {})
            self._artifacts.ask_smokes((), key)
            return Outcome()  # the children carry an ownerReference; the garbage collector takes them
        owner = Owner.of(body)
        mishaps = await self._mishaps.look(key, self._store.children(key))
        facts = facts_of(self._store.children(key), owner_uid=owner.uid, mishaps=mishaps)
        idle: frozenset[str] = frozenset()
        if drained := drained_pods_of(facts):
            idle = await self._loads.idle(key, drained)
            facts = facts_of(self._store.children(key), owner_uid=owner.uid, mishaps=mishaps)
        needed = needed_by(body, facts, self._settings, find=partial(self._artifacts.find, owner.namespace))
        facts = self._artifacts.seen(facts, needed, owner.namespace)
        intent = intent_of(body, facts, config=self._config, table=self._table)
        intent, scaled = self._scalings.scale(key, intent, facts, now=self._now())
        if checks_tokens(facts, intent.wants):
            facts = replace(facts, issuer_keys=await self._keys.latest())
        clock = Clock(self._now(), intent.limits)
        planned = plan(
            owner,
            facts,
            intent.wants,
            clock=clock,
            asked_replicas=intent.asked_replicas,
            idle=idle,
            terms=intent.terms,
            waits=intent.waits,
            keeping=self._scalings.keeping(key, intent, facts),
            readings=self._scalings.readings(key),
        )
        planned = self._scalings.remembered_by(planned, key, owner, intent=intent, now=self._now())
        refs = [Ref.of(apply.manifest) for apply in planned.apply]
        carried = _Carried({ref: self._store.child(ref, owner.namespace) for ref in refs})
        # The children of a deployment that was deleted go, too, and that may be heard of before its own end.
        makes_again = bool(body.get("status")) and None in carried.seen.values()
        is_risky = makes_again or self._takes_away(planned, owner, carried.seen)
        if is_risky and not await self._is_newest(body):
            return Outcome(AGAIN_AFTER_WRITE_SECONDS)  # the next pass plans from what it has just read
        for detail in planned.details:
            _log.info("%s/%s: %s", key.namespace, key.name, detail)
        await self._carry_out(planned, owner, carried)
        # Status speaks of what is there now, so that it counts what this very pass has made.
        children = self._store.children(key)
        facts_now = facts_of(children, owner_uid=owner.uid, mishaps=mishaps)
        facts_now = replace(facts_now, issuer_keys=facts.issuer_keys)
        observation = Observation(
            name=owner.name,
            generation=body["metadata"].get("generation", 1),
            facts=self._artifacts.seen(facts_now, needed, owner.namespace),
            plan=planned,
            problem=intent.problem or carried.conflict(),
            assessment=intent.assessment,
            predecessors=tuple(conflict.message for conflict in carried.conflicts if conflict.passes),
            refused=tuple(carried.refused),
            unanswered=tuple(carried.unanswered),
            cold_start=self._cold_starts.last(key, children),
            scaled=scaled,
            measured=self._speculation.latest(key, _drafting_pods_of(facts_now, intent.assessment.method)),
        )
        is_news = await self._say(body, observation)
        if carried.failed:
            raise max(carried.failed, key=lambda error: error.retry_after_seconds)
        asked = await self._artifacts.ask(needed, owner.namespace)  # last: what serves comes first
        asked += self._artifacts.ask_smokes(intent.smokes, key)
        if carried.wrote or is_news:
            return Outcome(self._after_a_write(key), asked)
        self._writing.pop(key, None)
        after_refusal = AGAIN_AFTER_REFUSAL_SECONDS if carried.refused or carried.conflicts else 0.0
        due = (
            after_refusal,
            planned.due_seconds,
            self._mishaps.due_seconds(key),
            self._speculation.due_seconds(key),
            self._scalings.interval_seconds(key) if scaled else 0.0,
        )
        return Outcome(min((seconds for seconds in due if seconds), default=0.0), asked)

    def _takes_away(self, planned: Plan, owner: Owner, seen: Mapping[Ref, Manifest | None]) -> bool:
        """Whether the plan deletes anything, moves a Service, or wants fewer pods than there are."""
        there = {ref: self._store.child(ref, owner.namespace) for ref in (d.ref for d in planned.delete)}
        if any(child is not None and "deletionTimestamp" not in child["metadata"] for child in there.values()):
            return True
        return any(
            apply.resource_version or _is_scale_down(apply.manifest, seen[Ref.of(apply.manifest)])
            for apply in planned.apply
        )

    async def _is_newest(self, body: Manifest) -> bool:
        """Whether this is the spec that counts, asked of the API server itself, and taken in if it is not.

        A list or a watch may be behind, a get without a version never is. The preconditions of what is written say
        only that the child is the one that was seen; whether any is superfluous or missing is the spec's to say.
        """
        owner = Owner.of(body)
        try:
            newest = await self._cluster.get(Ref(names.KIND, owner.name), owner.namespace)
        except NotFoundError:
            self._store.forget(body)
            return False
        self._store.observe(newest)
        before, now = body["metadata"], newest["metadata"]
        return bool((now["uid"], now.get("generation", 1)) == (before["uid"], before.get("generation", 1)))

    def _after_a_write(self, key: Key) -> float:
        """Seconds until a pass looks at what this one wrote; longer each time that it has to write again."""
        passes = self._writing[key] = self._writing.get(key, 0) + 1
        if passes == NOT_CONVERGING_PASSES:
            _log.warning(
                "%s/%s: %d passes in a row had to write: does somebody change our objects back?",
                key.namespace,
                key.name,
                passes,
            )
        return float(min(AGAIN_AFTER_WRITE_SECONDS * 2 ** (passes - 1), AGAIN_AFTER_WRITE_LIMIT_SECONDS))

    async def close(self) -> None:
        """End the connections to engines."""
        await self._loads.close()
        await self._artifacts.close()
        await self._cold_starts.close()
        await self._speculation.close()
        await self._scalings.close()

    async def resync(self, namespace: str) -> tuple[Key, ...]:
        """Compare the store with cheap listings, fetch what was missed, drop ghosts; the keys that are due."""
        return await self._read(namespace)

    async def fill(self, namespace: str) -> tuple[Key, ...]:
        """Read everything once, before the first pass: a store that is half full must not be planned from."""
        return await self._read(namespace, take=self._store.observe)

    async def _read(self, namespace: str, *, take: Callable[[Manifest], object] | None = None) -> tuple[Key, ...]:
        """List every kind. One that is optional and that the API server does not have, or grants no right to, is left
        out: deployments that need it get a condition when it is applied; all others go on.
        """
        self._keys.outdate()
        for kind, selector in self._watched.items():
            try:
                listing = await self._cluster.list_versions(kind, namespace, selector=selector, take=take)
            except (NotFoundError, RefusedError) as error:
                if kind not in OPTIONAL_WATCHED:
                    raise
                _log.warning("%s cannot be read, but a class of the accelerator table needs it: %s", kind, error)
                continue
            missed = self._store.settle(kind, namespace, listed=listing.items, version=listing.version)
            for ref in missed:
                try:
                    self._store.observe(await self._cluster.get(ref, namespace))
                except NotFoundError:
                    continue  # gone since the listing
        return self._store.keys()

    async def _carry_out(self, planned: Plan, owner: Owner, carried: _Carried) -> None:
        """Apply and delete all that can be: one object that the API server will not have keeps no other one back."""
        await self._marks.put(planned.costs, owner.namespace)
        for stage in range(_STAGES):
            due = [apply for apply in planned.apply if _stage(apply) == stage and not carried.lacks_template(apply)]
            await asyncio.gather(*(self._try(apply, owner, carried) for apply in due))
            if any(not error.status for error in carried.failed):
                return  # no answer at all: each further request would only wait as long again
        for deletion in planned.delete:
            ref, seen = deletion.ref, {"uid": deletion.uid, "resource_version": deletion.resource_version}
            there = self._store.child(ref, owner.namespace)
            if there is None or "deletionTimestamp" in there["metadata"]:
                continue  # it is going already
            try:
                await self._cluster.delete(ref, owner.namespace, **seen)
                carried.wrote = True
                self._store.forget(there)
            except ClusterError as error:
                carried.note(ref, error)
                if isinstance(error, ConflictError):  # it changed since it was seen: decide again from what it is
                    await self._refresh(ref, owner)

    async def _try(self, apply: Apply, owner: Owner, carried: _Carried) -> None:
        """Apply an object; what keeps it from being there is noted."""
        ref = Ref.of(apply.manifest)
        try:
            conflict = await self._apply(apply, owner, carried)
            if conflict:
                carried.conflicts.append(conflict)
        except ClusterError as error:
            carried.note(ref, error)
        else:
            if not conflict:
                return
        if ref.kind == "ControllerRevision":
            carried.unfrozen.add(ref.name)

    async def _apply(self, apply: Apply, owner: Owner, carried: _Carried) -> Conflict | None:
        """Apply an object where that is due; what is in its way, if it is not ours. The one place that judges this."""
        ref = Ref.of(apply.manifest)
        there = carried.seen[ref]
        if there is None:
            there = await self._make(apply.manifest, owner, carried)
        if there is None:
            return None
        conflict = conflict_of(there, owner)
        if conflict or not needs_apply(apply.manifest, there):
            return conflict
        try:
            written = await self._cluster.apply(apply.manifest, resource_version=apply.resource_version)
        except ConflictError:
            await self._refresh(ref, owner)
            raise
        self._wrote(written, carried)
        return None

    async def _make(self, manifest: Manifest, owner: Owner, carried: _Carried) -> Manifest | None:
        """Make an object; the one that is there already, if it is not ours or has lost its labels.

        Raises ConflictError for one of ours that the watch has yet to tell of: the plan was made without it.
        """
        try:
            made = await self._cluster.make(manifest)
        except ConflictError:
            there = await self._refresh(Ref.of(manifest), owner)
            if there is None or (controller_uid(there) == owner.uid and _has_labels_of(manifest, there)):
                raise
            return there
        self._wrote(made, carried)
        return None

    def _wrote(self, manifest: Manifest, carried: _Carried) -> None:
        carried.wrote = True
        self._store.observe(manifest)

    async def _refresh(self, ref: Ref, owner: Owner) -> Manifest | None:
        """Read an object live, past the store, after it turned out to be there or to be another.

        What is not ours is not remembered: no watch would tell when it goes.
        """
        try:
            there = await self._cluster.get(ref, owner.namespace)
        except NotFoundError:
            return None
        if controller_uid(there) == owner.uid:
            self._store.observe(there)
        return there

    async def _say(self, body: Manifest, observation: Observation) -> bool:
        """Write the status if it changed, and events for what flipped; whether the spec has changed meanwhile."""
        previous: Mapping[str, Any] = body.get("status") or {}
        now = self._now()
        status = status_of(observation, previous=previous, now=now)
        if status == previous:
            return False
        owner = Owner.of(body)
        try:
            ref = Ref(names.KIND, owner.name)
            written = await self._cluster.apply_status(ref, owner.namespace, status=status, uid=owner.uid)
        except (NotFoundError, ConflictError):
            return False  # deleted, or deleted and made again, in the meantime: another pass is on its way
        self._store.observe(written)
        for condition in flipped(previous, status):
            try:
                await self._cluster.create(event_of(owner, condition, now=now))
            except ClusterError as error:
                _log.warning("%s/%s: event was not posted: %s", owner.namespace, owner.name, error)
        # The store has the newer spec by our own reply, so the watch event about it will be no news to it.
        return bool(written["metadata"].get("generation") != body["metadata"].get("generation"))


def _is_scale_down(wanted: Manifest, there: Manifest | None) -> bool:
    if wanted["kind"] != "Deployment" or there is None:
        return False
    return bool(wanted["spec"]["replicas"] < there["spec"].get("replicas", 1))


def _drafting_pods_of(facts: Facts, method: Speculation) -> dict[str, str]:
    """Addresses by uid of the verifiers that remote drafts are made for."""
    if method is not Speculation.REMOTE:
        return {}
    pods = (pod for pod in facts.pods if pod.role is Role.VERIFIER and pod.is_ready and not pod.is_going)
    return {pod.uid: pod.address for pod in pods if pod.address}


def _has_labels_of(manifest: Manifest, there: Manifest) -> bool:
    """Whether a watch by labels tells of what is there, as it does of the manifest."""
    return bool(manifest["metadata"]["labels"].items() <= (there["metadata"].get("labels") or {}).items())
