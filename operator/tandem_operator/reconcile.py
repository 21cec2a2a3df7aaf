"""One pass: read what was last seen, decide, apply, delete, say. The one place where the steps are strung together.

Level-triggered: a pass never knows which event woke it. Everything is decided by pure code; what is here only carries
the values from one step to the next, and turns what the API server refuses into a condition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_facts import qualities_of
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_pass import ArtifactPasses
from tandem_operator.benchmark_facts import benchmark_in
from tandem_operator.carrying import Carried, Carrier
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
from tandem_operator.engine_readings import DraftingReadings
from tandem_operator.facts import Facts, Manifest, Ref
from tandem_operator.facts_parsing import facts_of
from tandem_operator.gate_readings import GateReadings
from tandem_operator.issuer_keys import PublishedKeys
from tandem_operator.metrics_source import EngineLoads
from tandem_operator.mishaps import Mishaps
from tandem_operator.objects.event import event_of, rescaled_event_of
from tandem_operator.objects.job_policies import benchmark_policy_of
from tandem_operator.observation import Observation
from tandem_operator.outcome import Outcome
from tandem_operator.plan import Plan, checks_tokens, plan
from tandem_operator.readings_source import Readings, readings_by
from tandem_operator.rollout import Clock, drained_pods_of
from tandem_operator.scaling_status import rescaled
from tandem_operator.scalings import Scalings
from tandem_operator.speculation_source import SpeculationFigures
from tandem_operator.status import flipped, status_of
from tandem_operator.store import Key, Store
from tandem_operator.targets import intent_of, needed_by

_log = logging.getLogger(__name__)

AGAIN_AFTER_REFUSAL_SECONDS = 15.0
AGAIN_AFTER_WRITE_SECONDS = 0.1
"""A reply to our own write may hold what a watch event will bring and the pass has not planned from. A converged pass
writes nothing, so this ends by itself, unless an admission webhook or another controller changes our objects back."""
AGAIN_AFTER_WRITE_LIMIT_SECONDS = 60.0
NOT_CONVERGING_PASSES = 8


class Reconciler:
    """Passes over the deployments, and those over the artifacts."""

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
        self._carrier = Carrier(cluster, store)
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
        intent, scaled = self._scalings.scale(key, intent, facts, owner_uid=owner.uid, now=self._now())
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
            loads=self._scalings.loads(key),
        )
        planned = self._scalings.remembered_by(planned, key, owner, intent=intent, now=self._now())
        refs = [Ref.of(apply.manifest) for apply in planned.apply]
        carried = Carried({ref: self._store.child(ref, owner.namespace) for ref in refs})
        # The children of a deployment that was deleted go, too, and that may be heard of before its own end.
        makes_again = bool(body.get("status")) and None in carried.seen.values()
        is_risky = makes_again or self._takes_away(planned, owner, carried.seen)
        if is_risky and not await self._is_newest(body):
            return Outcome(AGAIN_AFTER_WRITE_SECONDS)  # the next pass plans from what it has just read
        for detail in planned.details:
            _log.info("%s/%s: %s", key.namespace, key.name, detail)
        await self._carrier.carry_out(planned, owner, carried)
        if self._config.serves_from_elsewhere(owner.namespace):
            await self._carrier.guard(benchmark_policy_of(owner.namespace), carried)
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
            benchmark=benchmark_in(children, owner_uid=owner.uid),
            qualities=qualities_of(facts, find=partial(self._artifacts.find, owner.namespace)),
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
            for where, ref in missed:
                try:
                    self._store.observe(await self._cluster.get(ref, where))
                except NotFoundError:
                    continue  # gone since the listing
        return self._store.keys()

    async def _say(self, body: Manifest, observation: Observation) -> bool:
        """Write the status if it changed, and events for what flipped or was scaled; whether the spec is another."""
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
        events = [event_of(owner, condition, now=now) for condition in flipped(previous, status)]
        events += [rescaled_event_of(owner, change, now=now) for change in rescaled(previous, status)]
        for event in events:
            try:
                await self._cluster.create(event)
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
