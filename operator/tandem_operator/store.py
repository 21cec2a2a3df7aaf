"""What was last seen of each object, from watch events and from the replies to our own requests.

The newer resourceVersion wins, whichever way it came: a late watch event never hides our own write, and an old one
never brings a deleted object back. Holds objects as JSON, without what nobody reads: a sixth of the memory that they
take as dicts, and whoever reads one has it alone. Interprets nothing but identity and ownership.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tandem_operator import names
from tandem_operator.facts import Manifest, Ref
from tandem_operator.kept import kept_of

RESOURCES = frozenset({names.KIND, names.ARTIFACT_KIND})
"""Kinds of ours that have passes."""
At = tuple[str, Ref]
"""Where an object is: its namespace, and which one there."""


@dataclass(frozen=True, order=True)
class Key:
    """A resource that has passes: a deployment, or a model artifact."""

    namespace: str
    name: str
    kind: str = names.KIND


@dataclass(frozen=True, slots=True)
class _Held:
    """An object, and what it is found by."""

    text: bytes
    version: int
    key: Key | None
    artifacts: tuple[Key, ...]

    @classmethod
    def of(cls, manifest: Manifest, artifacts: Iterable[str]) -> _Held:
        text = json.dumps(kept_of(manifest), separators=(",", ":")).encode()
        namespace = manifest["metadata"]["namespace"]
        named = tuple(Key(namespace, name, names.ARTIFACT_KIND) for name in artifacts)
        return cls(text, version_of(manifest), key_of(manifest), named)

    def read(self) -> Manifest:
        manifest: Manifest = json.loads(self.text)
        return manifest


class Store:
    """Objects of all watched kinds, the resource that each child belongs to by its label, and which objects name which
    ModelArtifact.
    """

    def __init__(self, artifacts_in: Callable[[Manifest], Iterable[str]] = lambda _: ()) -> None:
        """`artifacts_in`: names of the artifacts that an object refers to."""
        self._artifacts_in = artifacts_in
        self._objects: dict[At, _Held] = {}
        self._tombstones: dict[At, int] = {}
        self._children: dict[Key, set[At]] = {}
        self._naming: dict[Key, set[At]] = {}
        self._listed: dict[tuple[str, str], int] = {}

    def observe(self, manifest: Manifest) -> bool:
        """Take in an object; False when something as new is known already."""
        at = _at(manifest)
        known = max(self._version(at), self._tombstones.get(at, -1))
        if version_of(manifest) <= known:
            return False
        self._tombstones.pop(at, None)
        self._unlink(at)
        held = self._objects[at] = _Held.of(manifest, self._artifacts_in(manifest))
        if held.key and manifest["kind"] not in RESOURCES:
            self._children.setdefault(held.key, set()).add(at)
        for artifact in held.artifacts:
            self._naming.setdefault(artifact, set()).add(at)
        return True

    def forget(self, manifest: Manifest) -> None:
        """Take in that an object is gone, as of its resourceVersion."""
        at, version = _at(manifest), version_of(manifest)
        if version < self._version(at):
            return  # it was made anew since
        self._unlink(at)
        self._objects.pop(at, None)
        self._tombstones[at] = max(version, self._tombstones.get(at, -1))

    def deployment(self, key: Key) -> Manifest | None:
        """The resource itself."""
        return self.child(Ref(key.kind, key.name), key.namespace)

    def child(self, ref: Ref, namespace: str) -> Manifest | None:
        held = self._objects.get((namespace, ref))
        return None if held is None else held.read()

    def children(self, key: Key) -> tuple[Manifest, ...]:
        """Objects that carry the deployment's label, whoever owns them, in a stable order."""
        return tuple(self._objects[at].read() for at in sorted(self._children.get(key, ())))

    def naming(self, artifact: Key) -> tuple[Manifest, ...]:
        """Objects that name the artifact: deployments, frozen revisions, and artifacts that are made from it."""
        return tuple(self._objects[at].read() for at in sorted(self._naming.get(artifact, ())))

    def artifacts(self, namespace: str = "") -> tuple[Manifest, ...]:
        """All artifacts of a namespace, or of every one, in a stable order. For any thread: metrics are read in one of
        their own.
        """
        return self._all(names.ARTIFACT_KIND, namespace)

    def deployments(self) -> tuple[Manifest, ...]:
        """The same of deployments, of every namespace."""
        return self._all(names.KIND, "")

    def _all(self, kind: str, namespace: str) -> tuple[Manifest, ...]:
        there = list(self._objects.items())  # at once: what comes in meanwhile would end an iteration
        found = {at: held for at, held in there if _is_of(at, kind, namespace)}
        return tuple(found[at].read() for at in sorted(found))

    def keys(self) -> tuple[Key, ...]:
        """All deployments and artifacts."""
        found = (Key(namespace, ref.name, ref.kind) for namespace, ref in self._objects if ref.kind in RESOURCES)
        return tuple(sorted(found))

    def sizes(self) -> Mapping[str, int]:
        """How many objects of each kind there are, for the metrics."""
        return Counter(ref.kind for _, ref in self._objects)

    def settle(self, kind: str, namespace: str, *, listed: Iterable[Manifest], version: int) -> tuple[At, ...]:
        """Take in a listing of one kind, made at resourceVersion `version`, of which only metadata is used. Without a
        namespace it is of every one.

        Objects that it lacks are dropped unless they are newer than it. Returns what has to be fetched: objects that
        the store does not have, or only an older version of.
        """
        seen = {_at(item): version_of(item) for item in listed}
        for at, known in list(self._objects.items()):
            if _is_of(at, kind, namespace) and at not in seen and known.version <= version:
                self._unlink(at)
                del self._objects[at]
        # Not those that only this listing has seen: a reply that was under way all the time may still come.
        before, self._listed[namespace, kind] = self._listed.get((namespace, kind), -1), version
        for at, gone in list(self._tombstones.items()):
            if _is_of(at, kind, namespace) and gone <= before:
                del self._tombstones[at]
        return tuple(sorted(at for at, newest in seen.items() if newest > self._version(at)))

    def _version(self, at: At) -> int:
        known = self._objects.get(at)
        return -1 if known is None else known.version

    def _unlink(self, at: At) -> None:
        known = self._objects.get(at)
        if known is None:
            return
        _discard(self._children, known.key, at)
        for artifact in known.artifacts:
            _discard(self._naming, artifact, at)


def _discard(index: dict[Key, set[At]], key: Key | None, at: At) -> None:
    if key in index:
        index[key].discard(at)
        if not index[key]:
            del index[key]


def version_of(manifest: Manifest) -> int:
    """The resourceVersion as a number; Kubernetes has made them comparable (KEP-5504)."""
    return int(manifest["metadata"].get("resourceVersion") or 0)


def key_of(manifest: Mapping[str, object]) -> Key | None:
    """The resource that an object is, or that its label names."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)  # noqa: S101 -- narrows the type of raw JSON
    if manifest["kind"] in RESOURCES:
        return Key(metadata["namespace"], metadata["name"], str(manifest["kind"]))
    labels = metadata.get("labels") or {}
    if labels.get(names.LABEL_DEPLOYMENT):
        return Key(metadata["namespace"], labels[names.LABEL_DEPLOYMENT])
    artifact = labels.get(names.LABEL_ARTIFACT)
    return Key(metadata["namespace"], artifact, names.ARTIFACT_KIND) if artifact else None


def _is_of(at: At, kind: str, namespace: str) -> bool:
    return at[1].kind == kind and namespace in ("", at[0])


def _at(manifest: Manifest) -> At:
    return manifest["metadata"]["namespace"], Ref.of(manifest)
