"""One pass: read what was last seen, decide, apply, delete, say. The one place where the steps are strung together.

Level-triggered: a pass never knows which event woke it. Everything is decided by pure code; what is here only carries
the values from one step to the next, and turns what the API server refuses into a condition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment, Owner
from tandem_operator.cluster import WATCHED, Cluster, ClusterError, ConflictError, NotFoundError, RefusedError
from tandem_operator.config import OperatorConfig
from tandem_operator.drift import needs_apply
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid, facts_of
from tandem_operator.inputs import RejectedSpecError
from tandem_operator.names import Reason
from tandem_operator.objects.event import event_of
from tandem_operator.plan import Apply, Plan, Want, plan
from tandem_operator.status import Observation, Problem, flipped, status_of
from tandem_operator.store import Key, Store
from tandem_operator.targets import wants_of

_log = logging.getLogger(__name__)

AGAIN_AFTER_REFUSAL_SECONDS = 15.0
AGAIN_AFTER_WRITE_SECONDS = 0.1
"""A reply to our own write may hold what a watch event will bring and the pass has not planned from. A converged pass
writes nothing, so this ends by itself, unless an admission webhook or another controller changes our objects back."""
AGAIN_AFTER_WRITE_LIMIT_SECONDS = 60.0
NOT_CONVERGING_PASSES = 8


@dataclass(frozen=True)
class Outcome:
    """What a pass asks of the queue. `again_after_seconds` 0: nothing, until an event or the resync."""

    again_after_seconds: float = 0.0


@dataclass
class _Carried:
    """What became of a plan."""

    wrote: bool = False
    conflict: Problem | None = None
    refused: list[str] = field(default_factory=list)
    failed: list[ClusterError] = field(default_factory=list)

    def note(self, ref: Ref, error: ClusterError) -> None:
        """Keep an error: what a person must mend or should know of in words, what passes by itself to be raised."""
        if not isinstance(error, ConflictError):
            self.refused.append(f"{ref.kind} {ref.name}: {error.message}")
        if not isinstance(error, RefusedError):
            self.failed.append(error)


class Reconciler:
    """Passes over the deployments of one namespace."""

    def __init__(
        self, cluster: Cluster, store: Store, *, config: OperatorConfig, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._cluster, self._store, self._config = cluster, store, config
        self._table = table_of(config)
        self._writing: dict[Key, int] = {}
        self._now = clock or (lambda: datetime.now(UTC))

    async def run(self, key: Key) -> Outcome:
        """One pass. Raises ClusterError for what the queue should try again with backoff."""
        body = self._store.deployment(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return Outcome()  # the children carry an ownerReference; the garbage collector takes them
        owner = Owner.of(body)
        facts = facts_of(self._store.children(key), owner_uid=owner.uid)
        wants, asked_replicas, problem = self._wants(body, facts)
        planned = plan(owner, facts, wants, asked_replicas=asked_replicas)
        for detail in planned.details:
            _log.info("%s/%s: %s", key.namespace, key.name, detail)
        carried = await self._carry_out(planned, owner)
        # Status speaks of what is there now, so that it counts what this very pass has made.
        observation = Observation(
            name=owner.name,
            generation=body["metadata"].get("generation", 1),
            facts=facts_of(self._store.children(key), owner_uid=owner.uid),
            plan=planned,
            problem=problem or carried.conflict,
            refused=tuple(carried.refused),
        )
        is_news = await self._say(body, observation)
        if carried.failed:
            raise carried.failed[0]
        if carried.wrote or is_news:
            return Outcome(self._after_a_write(key))
        self._writing.pop(key, None)
        return Outcome(AGAIN_AFTER_REFUSAL_SECONDS if carried.refused or carried.conflict else 0.0)

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

    async def resync(self, namespace: str) -> tuple[Key, ...]:
        """Compare the store with cheap listings, fetch what was missed, drop ghosts; the keys that are due."""
        for kind, selector in WATCHED.items():
            listing = await self._cluster.list_metadata(kind, namespace, selector=selector)
            missed = self._store.settle(kind, namespace, listed=listing.items, version=listing.version)
            for ref in missed:
                try:
                    self._store.observe(await self._cluster.get(ref, namespace))
                except NotFoundError:
                    continue  # gone since the listing
        return self._store.keys()

    async def fill(self, namespace: str) -> tuple[Key, ...]:
        """Read everything once, before the first pass: a store that is half full must not be planned from."""
        for kind, selector in WATCHED.items():
            listing = await self._cluster.list_objects(kind, namespace, selector=selector)
            self._store.settle(kind, namespace, listed=listing.items, version=listing.version)
            for item in listing.items:
                self._store.observe(item)
        return self._store.keys()

    def _wants(self, body: Manifest, facts: Facts) -> tuple[dict[Role, Want], dict[Role, int], Problem | None]:
        try:
            deployment = LLMDeployment.parse(body)
        except InvalidSpecError as error:
            return {}, {}, Problem(Reason.INVALID_SPEC, str(error))
        specs = {role: deployment.role(role) for role in Role}
        asked_replicas = {role: spec.replicas for role, spec in specs.items() if spec}
        try:
            wants = wants_of(deployment, facts, config=self._config, table=self._table)
        except RejectedSpecError as error:
            return {}, asked_replicas, Problem(error.reason, str(error))
        return wants, asked_replicas, None

    async def _carry_out(self, planned: Plan, owner: Owner) -> _Carried:
        """Apply and delete all that can be: one object that the API server will not have keeps no other one back."""
        carried = _Carried()
        unfrozen: set[str] = set()
        for apply in planned.apply:
            ref = Ref.of(apply.manifest)
            if ref.kind == "Deployment" and ref.name in unfrozen:
                continue  # its pods would run from a template that no later pass could find again
            try:
                await self._apply(apply, owner, carried)
            except ClusterError as error:
                carried.note(ref, error)
                if ref.kind == "ControllerRevision":
                    unfrozen.add(ref.name)
                if not error.status:
                    return carried  # no answer at all: each further request would only wait as long again
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
        return carried

    async def _apply(self, apply: Apply, owner: Owner, carried: _Carried) -> None:
        ref = Ref.of(apply.manifest)
        there = self._store.child(ref, owner.namespace) or await self._refresh(ref, owner)
        if there is not None and controller_uid(there) != owner.uid:
            message = f"{ref.kind} {ref.name} {_whose(there)}; it is left alone"
            carried.conflict = Problem(Reason.NAME_CONFLICT, message)
            return
        if there is not None and not needs_apply(apply.manifest, there):
            return
        try:
            written = await self._cluster.apply(apply.manifest, resource_version=apply.resource_version)
        except ConflictError:
            await self._refresh(ref, owner)
            raise
        carried.wrote = True
        self._store.observe(written)

    async def _refresh(self, ref: Ref, owner: Owner) -> Manifest | None:
        """Read an object live, past the store: before it is made, and after it turned out to be another.

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


def _whose(there: Manifest) -> str:
    owners = there["metadata"].get("ownerReferences") or []
    controller = next((owner for owner in owners if owner.get("controller")), None)
    if controller is None:
        return "exists and nothing controls it"
    if controller["kind"] == names.KIND:
        return f"still belongs to an earlier LLMDeployment {controller['name']} that is being deleted"
    return f"belongs to {controller['kind']} {controller['name']}"
