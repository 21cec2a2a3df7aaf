"""Carries out a plan: applies and deletes, and keeps what was refused and who is in the way. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_operator.api.deployment import Owner
from tandem_operator.cluster import (
    Cluster,
    ClusterError,
    ConflictError,
    NotFoundError,
    RefusedError,
)
from tandem_operator.drift import needs_apply
from tandem_operator.facts import Manifest, Ref, controller_uid
from tandem_operator.names import Reason
from tandem_operator.objects.ownership import Conflict, conflict_of
from tandem_operator.plan import Apply, Plan
from tandem_operator.pod_marks import PodMarks
from tandem_operator.store import Store
from tandem_operator.targets import Problem


@dataclass
class Carried:
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


class Carrier:
    """Of the deployments' plans."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster, self._store = cluster, store
        self._marks = PodMarks(cluster, store)

    async def carry_out(self, planned: Plan, owner: Owner, carried: Carried) -> None:
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

    async def guard(self, policy: Manifest, carried: Carried) -> None:
        """Apply what guards a whole namespace, and is no deployment's own; what keeps it from being there is noted."""
        ref = Ref.of(policy)
        there = self._store.child(ref, policy["metadata"]["namespace"])
        if there is not None and not needs_apply(policy, there):
            return
        try:
            self._store.observe(await self._cluster.apply(policy))
        except ClusterError as error:
            carried.note(ref, error)

    async def _try(self, apply: Apply, owner: Owner, carried: Carried) -> None:
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

    async def _apply(self, apply: Apply, owner: Owner, carried: Carried) -> Conflict | None:
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

    async def _make(self, manifest: Manifest, owner: Owner, carried: Carried) -> Manifest | None:
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

    def _wrote(self, manifest: Manifest, carried: Carried) -> None:
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


def _has_labels_of(manifest: Manifest, there: Manifest) -> bool:
    """Whether a watch by labels tells of what is there, as it does of the manifest."""
    return bool(manifest["metadata"]["labels"].items() <= (there["metadata"].get("labels") or {}).items())
