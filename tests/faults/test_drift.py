"""Somebody changes, deletes, relabels or has made before what the operator owns, kind by kind."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tandem_operator import names
from tandem_operator.cluster import CHILD_KINDS
from tests.faults.api import ApiError, Manifest
from tests.faults.case import Case, path_of
from tests.faults.oracles import reference_of, summary_of

pytestmark = pytest.mark.timeout(600)
DRAWN_FIELDS = 3
JSON_PATCH = "application/json-patch+json"


def _uids(case: Case, kind: str) -> dict[str, str]:
    found = case.api.items(kind, case.namespace, names.MANAGED_SELECTOR)
    return {child["metadata"]["name"]: child["metadata"]["uid"] for child in found}


def _first_of(case: Case, kind: str) -> str:
    """The name of a child of this kind; skips what the deployment has no child for."""
    names_of_kind = sorted(_uids(case, kind))
    if not names_of_kind:
        pytest.skip(f"the deployment of the cases has no {kind}")
    return names_of_kind[0]


@pytest.mark.covers("D1")
@pytest.mark.parametrize("is_up", [True, False], ids=["operator-up", "operator-down"])
def test_children_of_each_kind_that_are_deleted_come_back_once(served: Case, *, is_up: bool) -> None:
    for kind in sorted({child["kind"] for child in served.children()}):
        before, summary = _uids(served, kind), served.summary()
        if not is_up:
            served.operator.end(signal.SIGKILL)
        for name in before:
            served.api.delete(kind, served.namespace, name)
        if not is_up:
            served.restart()

        def is_back() -> bool:
            now = _uids(served, kind)  # noqa: B023 -- waited for within the iteration
            return now.keys() == before.keys() and not set(now.values()) & set(before.values())  # noqa: B023

        served.wait(is_back, f"{kind} {', '.join(before)} made again")
        served.settle()
        made = served.summary().made - summary.made
        assert sum(made.values()) == len(before), kind
        assert set(made.values()) <= {1, len(before)}, kind


def _owned(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    """Places of the leaves that our field manager owns, as JSON pointers' parts.

    Of a ControllerRevision only what it is found by: it is frozen, and an operator of another version must not write
    it anew as it would make it today.
    """
    if manifest["kind"] == "ControllerRevision":
        labels = (names.LABEL_DEPLOYMENT, names.LABEL_ROLE, names.LABEL_REVISION, names.LABEL_MANAGED_BY)
        yield from (("metadata", "labels", label) for label in labels)
        return
    entry = next(e for e in manifest["metadata"]["managedFields"] if e["manager"] == names.FIELD_MANAGER)
    yield from _leaves(entry["fieldsV1"], manifest, ())


def _leaves(fields: dict[str, Any], value: Any, at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    inner = {key: below for key, below in fields.items() if key != "."}
    if not inner:
        yield at
        return
    for key, below in inner.items():
        kind, _, rest = key.partition(":")
        if kind == "f" and isinstance(value, dict) and rest in value:
            yield from _leaves(below, value[rest], (*at, rest))
        elif kind == "k" and isinstance(value, list):
            wanted: dict[str, Any] = json.loads(rest)
            for number, item in enumerate(value):
                if wanted.items() <= item.items():  # by its key it is found: with another one it is another element
                    others = {field: part for field, part in below.items() if field.removeprefix("f:") not in wanted}
                    yield from _leaves(others, item, (*at, str(number)))


def _at(manifest: Any, place: tuple[str, ...]) -> Any:
    """The value at a place; None where there is none: the API server leaves out what is false or empty."""
    for part in place:
        if isinstance(manifest, list):
            manifest = manifest[int(part)] if int(part) < len(manifest) else None
        else:
            manifest = (manifest or {}).get(part)
    return manifest


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value[:-1]}0" if value and not value.endswith("0") else f"{value}1"
    return None


def _mutate_and_wait(case: Case, kind: str, name: str, *, draw: random.Random | None) -> tuple[int, int]:
    """Change one field of ours after the other; how many were changed back, and how many the API server kept."""
    restored = kept = 0
    places = sorted(_owned(case.api.get(kind, case.namespace, name)))
    if draw is not None:
        places = draw.sample(places, min(DRAWN_FIELDS, len(places)))
    for place in places:
        there = case.api.get(kind, case.namespace, name)
        value = _at(there, place)
        other = _other(value)
        if other is None:
            continue
        pointer = "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
        patch = [{"op": "replace", "path": pointer, "value": other}]
        try:
            path = path_of(kind, case.namespace, name)
            changed = case.api.request("PATCH", path, patch, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status not in {400, 422}:
                raise
            kept += 1
            continue
        if _at(changed, place) == value:
            kept += 1  # the API server's own choice, such as a port of a name
            continue

        def is_restored() -> bool:
            return bool(_at(case.api.find(kind, case.namespace, name), place) == value)  # noqa: B023

        case.wait(is_restored, f"{kind} {name} {pointer}: {other!r} made {value!r} again")
        restored += 1
    return restored, kept


@pytest.mark.covers("D2")
@pytest.mark.parametrize("kind", CHILD_KINDS)
def test_every_field_of_ours_is_restored(served: Case, pytestconfig: pytest.Config, *, kind: str) -> None:
    reference = reference_of([(served.snapshot(), summary_of([]))])
    draw = None if pytestconfig.getoption("--campaign") else random.Random(pytestconfig.getoption("--fault-seed"))
    name = _first_of(served, kind)
    restored, kept = _mutate_and_wait(served, kind, name, draw=draw)
    assert restored + kept > 0
    assert restored
    served.settle()
    told = [line for line in reference.differences(served.snapshot()) if "/spec/" in line]
    assert told == []


@pytest.mark.covers("D2")
def test_fields_that_are_not_ours_are_left_alone(served: Case) -> None:
    patch = {"metadata": {"labels": {"team.example/cost": "chat"}, "annotations": {"team.example/owner": "chat"}}}
    before = len(served.proxy.record)
    for child in served.children():
        served.api.merge(child["kind"], served.namespace, child["metadata"]["name"], patch)
    served.wait_resyncs(3)
    served.settle()
    for child in served.children():
        assert child["metadata"]["labels"]["team.example/cost"] == "chat"
        assert child["metadata"]["annotations"]["team.example/owner"] == "chat"
    written = [e.request for e in served.proxy.record[before:] if e.request.is_write]
    # An annotation makes a new generation of a Deployment, which is not observed for a moment: that may be said.
    assert {request.resource for request in written} <= {names.PLURAL, "events"}


@pytest.mark.covers("D3")
@pytest.mark.parametrize("kind", CHILD_KINDS)
def test_a_child_without_its_owner_is_not_taken_for_ours_and_named(served: Case, kind: str) -> None:
    name = _first_of(served, kind)
    path = path_of(kind, served.namespace, name)
    patch = [{"op": "remove", "path": "/metadata/ownerReferences"}]
    served.api.request("PATCH", path, patch, content_type=JSON_PATCH)
    stalled = served.wait_for("Stalled", reason="NameConflict")
    assert f"{kind} {name}" in stalled["message"]
    served.api.delete(kind, served.namespace, name)
    served.settle()


@pytest.mark.covers("D4")
@pytest.mark.parametrize("kind", CHILD_KINDS)
def test_an_object_of_somebody_else_with_our_child_s_name_is_named_and_not_touched(case: Case, kind: str) -> None:
    case.start()
    case.apply()
    case.settle()
    foreign = case.api.get(kind, case.namespace, _first_of(case, kind))
    case.delete()
    case.wait(lambda: not case.children() and not case.pods(), "the first deployment gone")
    for key in ("ownerReferences", "managedFields", "uid", "resourceVersion", "creationTimestamp", "labels"):
        foreign["metadata"].pop(key, None)
    foreign.pop("status", None)
    if kind == "Service":
        foreign["spec"] = {"ports": foreign["spec"]["ports"], "selector": {"app": "somebody-else"}}
    before = case.api.create(case.namespace, foreign)["metadata"]
    case.apply()
    stalled = case.wait_for("Stalled", reason="NameConflict")
    assert f"{kind} {before['name']}" in stalled["message"]
    case.wait_resyncs(2)
    there = case.api.get(kind, case.namespace, before["name"])["metadata"]
    assert (there["uid"], there.get("labels")) == (before["uid"], None)
    assert not [f for f in there["managedFields"] if f["manager"] == names.FIELD_MANAGER]
    case.api.delete(kind, case.namespace, before["name"])
    case.settle()
