"""A small API server and kubelet in memory, to play whole rollouts through the operator's pure code.

Knows resource versions, generations, preconditions, watch events that arrive late, and pods that become Ready one by
one. The operator's view of it is a real `Store`. What it does not know: defaults, admission, garbage collection.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import Owner
from tandem_operator.config import OperatorConfig
from tandem_operator.drift import needs_apply
from tandem_operator.facts import Facts, Manifest, Ref, controller_uid
from tandem_operator.facts_parsing import facts_of
from tandem_operator.names import Reason
from tandem_operator.observation import Observation
from tandem_operator.plan import Plan, plan
from tandem_operator.rollout import Clock, drained_pods_of
from tandem_operator.status import status_of
from tandem_operator.targets import Intent, Problem, intent_of
from tests.builders import KEY, NAME, NAMESPACE, UID, make_body, make_store

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROUNDS = 60


def _ready(manifest: Manifest) -> int:
    found: int = (manifest.get("status") or {}).get("readyReplicas", 0)
    return found


class StaleWriteError(Exception):
    """A precondition of a write did not hold."""


@dataclass
class Cluster:
    """Objects as the API server has them, and the pods that run."""

    objects: dict[Ref, Manifest] = field(default_factory=dict)
    events: list[tuple[str, Manifest]] = field(default_factory=list)
    version: int = 100
    now: datetime = NOW
    room: int | None = None
    """How many pods the nodes can take; None: any number."""
    failing: set[Ref] = field(default_factory=set)
    """Deployments whose pods never become Ready."""
    restarts: int = 0
    """Deployments whose pods had to be replaced because their template changed."""

    def apply(self, manifest: Manifest, resource_version: str) -> Manifest:
        ref = Ref.of(manifest)
        there = self.objects.get(ref)
        if resource_version and there is not None and there["metadata"]["resourceVersion"] != resource_version:
            raise StaleWriteError(f"apply {ref}: not at {resource_version}")
        metadata, more = dict(manifest["metadata"]), {}
        if there is None:
            self.version += 1
            metadata.update(uid=f"uid-{self.version}", generation=1)
        else:
            changed = manifest.get("spec") != there.get("spec")
            metadata.update(uid=there["metadata"]["uid"], generation=there["metadata"]["generation"] + changed)
            more = {"status": there["status"]} if "status" in there else {}
            if ref.kind == "Deployment" and there["spec"]["template"] != manifest["spec"]["template"]:
                self.restarts += 1
                more = {"status": {}}
        return self.write({**manifest, "metadata": metadata, **more})

    def write(self, manifest: Manifest) -> Manifest:
        """Store an object as a new version. Stored objects are shared and never changed, only replaced."""
        self.version += 1
        written = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        self.objects[Ref.of(written)] = written
        self.events.append(("MODIFIED", written))
        return written

    def delete(self, ref: Ref, *, uid: str = "", resource_version: str = "") -> None:
        there = self.objects.get(ref)
        if there is None:
            return
        metadata = there["metadata"]
        if (uid and metadata["uid"] != uid) or (resource_version and metadata["resourceVersion"] != resource_version):
            raise StaleWriteError(f"delete {ref}: not {uid} at {resource_version}")
        self.version += 1
        gone = self.objects.pop(ref)
        self.events.append(
            ("DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})
        )

    def kubelet(self, *, pods: int = 1000) -> None:
        """Controllers, scheduler and kubelets go on: up to `pods` more of each Deployment become Ready.

        With `room`, no more pods than that are placed; one that waits for room is there as a pod.
        """
        deployments = sorted(self.of_kind("Deployment"), key=lambda m: m["metadata"]["uid"])
        placed = {Ref.of(m): min(_ready(m), m["spec"]["replicas"]) for m in deployments}
        for manifest in deployments:
            ref, wanted = Ref.of(manifest), manifest["spec"]["replicas"]
            free = wanted if self.room is None else max(self.room - sum(placed.values()), 0)
            more = 0 if ref in self.failing else min(wanted - placed[ref], pods, free)
            placed[ref] += more
            status = {
                **manifest.get("status", {}),
                "observedGeneration": manifest["metadata"]["generation"],
                "replicas": wanted,
                "readyReplicas": placed[ref],
            }
            if status != manifest.get("status"):
                self.write({**manifest, "status": status})
            if self.room is not None:
                self._wait_for_room(manifest, is_waiting=placed[ref] < wanted and ref not in self.failing)

    def _wait_for_room(self, manifest: Manifest, *, is_waiting: bool) -> None:
        ref = Ref("Pod", f"{manifest['metadata']['name']}-waiting")
        if is_waiting and ref not in self.objects:
            self.write(self._pod(manifest, ref.name, reason="Unschedulable", message="0/3 nodes: Insufficient gpu"))
        elif not is_waiting and ref in self.objects:
            self.delete(ref)

    def _pod(self, manifest: Manifest, name: str, **condition: str) -> Manifest:
        self.version += 1
        metadata = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{self.version}",
            "labels": manifest["spec"]["template"]["metadata"]["labels"],
            "creationTimestamp": self.now.isoformat(),
        }
        scheduled = {
            "type": "PodScheduled",
            "status": "False" if condition else "True",
            "lastTransitionTime": self.now.isoformat(),
            **condition,
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"conditions": [scheduled]}}

    def fail(self, ref: Ref) -> None:
        """The pods of a Deployment are placed and never become Ready, and its deadline is over."""
        manifest = self.objects[ref]
        self.failing.add(ref)
        late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}
        self.write({**manifest, "status": {**manifest.get("status", {}), "readyReplicas": 0, "conditions": [late]}})
        self.write(self._pod(manifest, f"{ref.name}-failing"))

    def break_pods(self, ref: Ref) -> None:
        """All pods of a Deployment stop being Ready."""
        manifest = self.objects[ref]
        self.write({**manifest, "status": {**manifest.get("status", {}), "readyReplicas": 0}})

    def edit(self, ref: Ref, change: Any) -> None:
        """Somebody changes an object by hand."""
        manifest = copy.deepcopy(self.objects[ref])
        change(manifest)
        self.write(manifest)

    def of_kind(self, kind: str) -> list[Manifest]:
        return [manifest for ref, manifest in sorted(self.objects.items()) if ref.kind == kind]

    def ready_behind(self, service: str) -> int:
        """Ready pods that a Service selects."""
        found = self.objects.get(Ref("Service", service))
        if found is None:
            return 0
        selector = found["spec"]["selector"].items()
        return sum(
            min(_ready(deployment), deployment["spec"]["replicas"])
            for deployment in self.of_kind("Deployment")
            if selector <= deployment["spec"]["template"]["metadata"]["labels"].items()
        )

    def result(self) -> dict[Ref, Manifest]:
        """Deployments and Services without what only the server writes: what must not depend on the way there."""
        kept = {}
        for ref, manifest in self.objects.items():
            if ref.kind != "ControllerRevision":
                metadata = dict(manifest["metadata"])
                for server_side in ("uid", "generation", "resourceVersion"):
                    metadata.pop(server_side)
                kept[ref] = {**manifest, "metadata": metadata, "status": {}}
        return kept


class Operator:
    """Passes over one deployment as `reconcile` strings them together, in memory."""

    def __init__(self, cluster: Cluster, spec: Manifest, config: OperatorConfig | None = None) -> None:
        self.cluster, self.config = cluster, config or OperatorConfig()
        self.store = make_store()
        self.generation = 0
        self.status: Manifest = {}
        self.lowest_ready: int | None = None
        self.is_busy = False
        """Engines that drain still have requests."""
        self.change_spec(spec)
        self.delivered = 0

    def change_spec(self, spec: Manifest) -> None:
        self.generation += 1
        self.body = make_body(spec, generation=self.generation)

    def deliver(self, count: int | None = None) -> None:
        """Watch events arrive in order, the next `count` of them (None: all)."""
        last = len(self.cluster.events) if count is None else self.delivered + count
        for kind, manifest in self.cluster.events[self.delivered : last]:
            (self.store.forget if kind == "DELETED" else self.store.observe)(manifest)
        self.delivered = min(last, len(self.cluster.events))

    def facts(self) -> Facts:
        return facts_of(self.store.children(KEY), owner_uid=UID)

    def intent(self, facts: Facts) -> Intent:
        return intent_of(self.body, facts, config=self.config, table=table_of(self.config))

    def plan(self) -> Plan:
        facts = self.facts()
        intent = self.intent(facts)
        idle = frozenset() if self.is_busy else frozenset(drained_pods_of(facts))
        clock = Clock(self.cluster.now, intent.limits)
        asked = intent.asked_replicas
        return plan(
            OWNER,
            facts,
            intent.wants,
            clock=clock,
            asked_replicas=asked,
            idle=idle,
            terms=intent.terms,
            waits=intent.waits,
        )

    def steps(self) -> Iterator[str]:
        """One pass; yields after each write, so that it can be cut short there."""
        problem = self.intent(self.facts()).problem
        planned = self.plan()
        for apply in planned.apply:
            ref = Ref.of(apply.manifest)
            there = self.store.child(ref, NAMESPACE) or self._read(ref)
            if there is not None and controller_uid(there) != UID:
                problem = problem or Problem(Reason.NAME_CONFLICT, f"{ref.kind} {ref.name} is somebody else's")
                continue
            if there is not None and not needs_apply(apply.manifest, there):
                continue
            try:
                self.store.observe(self.cluster.apply(apply.manifest, apply.resource_version))
            except StaleWriteError:
                self._read(ref)
                return
            yield f"applied {ref.kind} {ref.name}"
        for deletion in planned.delete:
            try:
                self.cluster.delete(deletion.ref, uid=deletion.uid, resource_version=deletion.resource_version)
            except StaleWriteError:
                self._read(deletion.ref)
                return
            yield f"deleted {deletion.ref.kind} {deletion.ref.name}"
        self._say(planned, problem)

    def run(self, *, writes: int | None = None) -> list[str]:
        """One pass, cut short after `writes` writes (the process dies there); what it wrote."""
        done: list[str] = []
        before = self.cluster.ready_behind(NAME)
        for step in self.steps():
            done.append(step)
            after = self.cluster.ready_behind(NAME)
            if before > 0:
                self.lowest_ready = after if self.lowest_ready is None else min(self.lowest_ready, after)
            before = after
            if writes is not None and len(done) >= writes:
                break
        return done

    def converge(self) -> list[str]:
        """Events arrive, pods become Ready, passes run, until nothing is written any more; all that was written."""
        written: list[str] = []
        for _ in range(ROUNDS):
            self.cluster.kubelet()
            self.deliver()
            done = self.run()
            written += done
            if not done:
                self.deliver()
                return written
        raise AssertionError(f"not converged after {ROUNDS} rounds: {written[-10:]}")

    def condition(self, kind: names.ConditionType) -> tuple[str, str] | None:
        """Status and reason of a condition in the last status."""
        found = [c for c in self.status["conditions"] if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else None

    def _read(self, ref: Ref) -> Manifest | None:
        there = self.cluster.objects.get(ref)
        if there is not None:
            self.store.observe(there)
        return there

    def _say(self, planned: Plan, problem: Problem | None) -> None:
        observation = Observation(
            name=NAME, generation=self.generation, facts=self.facts(), plan=planned, problem=problem
        )
        self.status = status_of(observation, previous=self.status, now=NOW)
