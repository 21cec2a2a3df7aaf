"""What must hold after every fault, whatever it was: the same end state, the same writes, and service all the while.

Pure, over values that were read: snapshots of what is there, the audit log's writes, and the events of a watch. Kinds
come from the operator's own table, so that a new child is judged from the day it exists.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tandem_operator import names
from tests.faults.api import Manifest, is_ready, role_of

Path = tuple[str, ...]
Snapshot = dict[Path, Any]
"""Every leaf of every object, by object and place."""
VERIFIER = "verifier"
TIMES = frozenset({"creationTimestamp", "lastTransitionTime", "tandem.dev/draining-since"})
"""Never compared: to the second they may happen to be the same in all the runs from which the mask is learned."""


# -- end state -------------------------------------------------------------------------------------------------------


def snapshot_of(
    resource: Manifest | None,
    children: Iterable[Manifest],
    pods: Iterable[Manifest],
    *,
    namespace: str,
    shared: Iterable[Manifest] = (),
) -> Snapshot:
    """What there is of one deployment, in words that are the same in every namespace.

    Its uid becomes `<owner>`, so that children of an earlier one differ; a revision becomes its role and number; pods
    are counted, since their names are drawn. What other controllers write into children is left out. `shared` are the
    ModelArtifacts and their Jobs, whose uids become their names.
    """
    kept, common = list(children), list(shared)
    told: dict[str, Any] = {f"{child['kind']} {child['metadata']['name']}": _child(child) for child in kept}
    if resource is not None:
        status = {key: value for key, value in (resource.get("status") or {}).items() if key != "coldStart"}
        told[names.KIND] = {**_without(resource, "managedFields"), "status": status}  # coldStart is measured
    told.update({f"{one['kind']} {one['metadata']['name']}": _shared(one) for one in common})
    told["pods"] = Counter(" ".join((*role_of(pod), "Ready" if is_ready(pod) else "not Ready")) for pod in pods)
    text = json.dumps(told)
    for revision, word in _words(kept).items():
        text = text.replace(revision, word)
    text = text.replace(namespace, "<namespace>")
    if resource is not None:
        text = text.replace(resource["metadata"]["uid"], "<owner>")
    for one in common:
        text = text.replace(one["metadata"]["uid"], f"<{one['kind']} {one['metadata']['name']}>")
    flat: Snapshot = {}
    _flatten(json.loads(text), (), flat)
    return flat


def _words(children: Iterable[Manifest]) -> dict[str, str]:
    revisions = [child for child in children if child["kind"] == "ControllerRevision"]
    return {role_of(r)[1]: f"<{role_of(r)[0]} {r.get('revision')}>" for r in revisions if role_of(r)[1]}


def _child(manifest: Manifest) -> Manifest:
    kept = _without(manifest, "managedFields")
    status = kept.pop("status", None) or {}
    return {**kept, "replicas": status.get("replicas", 0), "ready": status.get("readyReplicas", 0)}


def _shared(manifest: Manifest) -> Manifest:
    """An artifact with what is known of the model, a Job with how it ended; since when nobody needs it is a time."""
    kept, status = _without(manifest, "managedFields"), manifest.get("status") or {}
    if manifest["kind"] == "Job":
        return {**kept, "status": {end: status.get(end, 0) for end in ("active", "succeeded", "failed")}}
    return {**kept, "status": {**status, "unusedSince": "unusedSince" in status}}


def _without(manifest: Manifest, key: str) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != key}
    return {**manifest, "metadata": metadata}


def _flatten(value: Any, at: Path, into: Snapshot) -> None:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key not in TIMES:
                _flatten(inner, (*at, key), into)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            key = (
                next((inner[k] for k in ("name", "type") if k in inner), number) if isinstance(inner, dict) else number
            )
            _flatten(inner, (*at, str(key)), into)
    else:
        into[at] = value


@dataclass(frozen=True)
class Reference:
    """What runs without faults end in, and what they write."""

    snapshot: Snapshot
    mask: frozenset[Path]
    """Places that differ between such runs: times, uids, addresses."""
    summaries: tuple[Summary, ...] = ()

    def differences(self, snapshot: Snapshot) -> list[str]:
        """Where a snapshot is another than the reference, a line each; empty when it is the same."""
        places = sorted((self.snapshot.keys() | snapshot.keys()) - self.mask)
        absent = object()
        return [
            f"{'/'.join(at)}: {_shown(snapshot.get(at, absent), absent)}, expected "
            f"{_shown(self.snapshot.get(at, absent), absent)}"
            for at in places
            if snapshot.get(at, absent) != self.snapshot.get(at, absent)
        ]


def reference_of(runs: Sequence[tuple[Snapshot, Summary]]) -> Reference:
    """Learn from runs without faults; what differs between them is masked."""
    first, absent = runs[0][0], object()
    places = {at for snapshot, _ in runs for at in snapshot}
    mask = {at for at in places if any(s.get(at, absent) != first.get(at, absent) for s, _ in runs)}
    return Reference(first, frozenset(mask), tuple(summary for _, summary in runs))


def _shown(value: Any, absent: object) -> str:
    return "nothing" if value is absent else repr(value)


# -- what was written ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Writes of the operator that the API server accepted, by resource and name without revisions."""

    made: Counter[tuple[str, str]]
    deleted: Counter[tuple[str, str]]
    changed: Counter[str]
    """Applies to children that were there, by resource."""
    said: int
    """Status writes and events."""
    refused: int


_REVISION = re.compile(r"[0-9a-f]{8}(?=-|$)")


def summary_of(events: Iterable[Manifest]) -> Summary:
    """Sum up audit events of the operator's writes."""
    made, deleted, changed = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    said = refused = 0
    for event in events:
        target, code = event["objectRef"], event["responseStatus"]["code"]
        what = target["resource"], _REVISION.sub("*", target.get("name", ""))
        if code >= 300:
            refused += code != 404 or event["verb"] != "delete"
        elif what[0] == "events" or target.get("subresource") == "status":
            said += 1
        elif event["verb"] == "delete":
            deleted[what] += 1
        elif code == 201:
            made[what] += 1
        else:
            changed[what[0]] += 1
    return Summary(made, deleted, changed, said, refused)


def unexpected_writes(summary: Summary, reference: Reference, *, interruptions: int = 1) -> list[str]:
    """How far a run wrote something else than the reference; each interruption may repeat one write.

    Everything is made and deleted exactly once. What is said follows the pods, whose order is not ours: it may be
    more, not without bound.
    """
    found = []
    for what, mine in (("made", summary.made), ("deleted", summary.deleted)):
        theirs = [getattr(known, what) for known in reference.summaries]
        if mine not in theirs:
            found.append(f"{what} {_listed(mine)}, expected {_listed(theirs[0])}")
    for resource in summary.changed:
        most = max(known.changed[resource] for known in reference.summaries) + interruptions
        if summary.changed[resource] > most:
            found.append(f"changed {resource} {summary.changed[resource]} times, expected at most {most}")
    most = 2 * max(known.said for known in reference.summaries) + 6 * interruptions
    if summary.said > most:
        found.append(f"{summary.said} status writes and events, expected at most {most}")
    return found


def _listed(counter: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{count} {'/'.join(what)}" for what, count in sorted(counter.items())) or "nothing"


# -- service all the while -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One event of the monitor's own watch."""

    version: int
    kind: str
    manifest: Manifest
    is_gone: bool


@dataclass
class _Scene:
    """Pods and the serving Service, as of one resourceVersion."""

    pods: dict[str, Manifest] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)

    def take_in(self, seen: Seen, service: str) -> bool:
        """Whether the event is about the scene."""
        metadata = seen.manifest["metadata"]
        name, labels = metadata["name"], metadata.get("labels") or {}
        if seen.kind == "Service":
            if name != service:
                return False
            self.selector = {} if seen.is_gone else (seen.manifest["spec"].get("selector") or {})
            return True
        if (labels.get(names.LABEL_DEPLOYMENT), labels.get(names.LABEL_ROLE)) != (service, VERIFIER):
            return False
        if seen.is_gone:
            self.pods.pop(name, None)
        else:
            self.pods[name] = seen.manifest
        return True

    def ready(self) -> list[Manifest]:
        return [pod for pod in self.pods.values() if is_ready(pod)]

    def serving(self) -> list[Manifest]:
        if not self.selector:
            return []
        return [pod for pod in self.ready() if self.selector.items() <= pod["metadata"]["labels"].items()]

    def staying(self) -> list[Manifest]:
        return [pod for pod in self.pods.values() if "deletionTimestamp" not in pod["metadata"]]


def violations(seen: Iterable[Seen], *, service: str, most_pods: int, keeps_serving: bool = True) -> list[str]:
    """Where service was broken, or more pods were there than a rollout may have.

    Events of different kinds are put in the order in which the API server stored them: resourceVersions are comparable.
    `keeps_serving` False: something else than the operator takes pods away, and only the Service's own moves count.
    """
    scene, has_served, found = _Scene(), False, []
    for event in sorted(seen, key=lambda event: event.version):
        if not scene.take_in(event, service):
            continue
        ready, serving = scene.ready(), scene.serving()
        has_served = has_served or bool(serving)
        is_move = event.kind == "Service" and not event.is_gone and bool(ready)
        if has_served and not serving and (keeps_serving or is_move):
            where = sorted({role_of(pod)[1] for pod in ready})
            what = f"while Ready ones of {', '.join(where)} are there" if where else "and there is none of another"
            found.append(f"at {event.version} the Service selects no Ready pod, {what}")
        if len(scene.staying()) > most_pods:
            found.append(f"at {event.version} there are {len(scene.staying())} verifier pods, at most {most_pods} may")
    return found


def fewest_serving(seen: Iterable[Seen], *, service: str, after: int) -> int:
    """The fewest Ready pods that the Service selected at any event, counted from the first one with `after` of them."""
    scene = _Scene()
    ordered = sorted(seen, key=lambda event: event.version)
    counts = [len(scene.serving()) for event in ordered if scene.take_in(event, service)]
    return min(counts[counts.index(after) :])
