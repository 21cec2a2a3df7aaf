"""The store: whichever way news comes, late or twice or never, the newest state is what is known."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator import names
from tandem_operator.facts import Manifest, Ref
from tandem_operator.store import Key, Store, key_of, version_of
from tests.builders import KEY, NAME, NAMESPACE, make_body, make_child

REF = Ref("Deployment", "x")


def child(version: int, **parts: Any) -> Manifest:
    return make_child("Deployment", "x", version=version, **parts)


def deployment(version: int, name: str = NAME) -> Manifest:
    return make_body(name=name, resourceVersion=str(version))


def test_what_is_observed_is_found_by_its_deployment_and_by_its_name() -> None:
    store = Store()
    store.observe(deployment(1))
    store.observe(child(2))
    assert store.keys() == (KEY,)
    assert store.deployment(KEY) == deployment(1)
    assert store.children(KEY) == (child(2),)
    assert store.child(REF, NAMESPACE) == child(2)


def test_what_was_never_seen_is_not_there() -> None:
    store = Store()
    assert store.deployment(KEY) is None
    assert store.child(REF, NAMESPACE) is None
    assert store.children(KEY) == store.keys() == ()


def test_the_newer_version_wins_and_the_same_one_is_no_news() -> None:
    store = Store()
    assert store.observe(child(5))
    assert not store.observe(child(5, note="late copy"))
    assert not store.observe(child(4))
    assert store.child(REF, NAMESPACE) == child(5)
    assert store.observe(child(6))


def test_versions_are_compared_as_numbers() -> None:
    store = Store()
    store.observe(child(9))
    assert store.observe(child(10))
    assert version_of({"metadata": {}}) == version_of({"metadata": {"resourceVersion": ""}}) == 0


def test_a_late_event_never_brings_a_deleted_object_back() -> None:
    store = Store()
    store.observe(child(5))
    store.forget(child(7))
    assert store.child(REF, NAMESPACE) is None
    assert not store.observe(child(6))
    assert not store.observe(child(7))
    assert store.children(KEY) == ()


def test_an_even_later_deletion_does_not_weaken_a_newer_one() -> None:
    store = Store()
    store.forget(child(10))
    store.forget(child(5))
    assert not store.observe(child(7))


def test_an_object_that_was_made_anew_is_known_again() -> None:
    store = Store()
    store.observe(child(5))
    store.forget(child(7))
    assert store.observe(child(8))
    assert store.child(REF, NAMESPACE) == child(8)


def test_a_late_deletion_does_not_hide_the_object_that_was_made_anew() -> None:
    store = Store()
    store.observe(child(8))
    store.forget(child(7))
    assert store.child(REF, NAMESPACE) == child(8)


def test_deleting_what_was_never_seen_is_remembered() -> None:
    store = Store()
    store.forget(child(7))
    assert not store.observe(child(6))


def test_a_child_follows_its_label() -> None:
    store = Store()
    store.observe(child(1))
    moved = child(2)
    moved["metadata"]["labels"][names.LABEL_DEPLOYMENT] = "other"
    store.observe(moved)
    assert store.children(KEY) == ()
    assert store.children(Key(NAMESPACE, "other")) == (moved,)
    bare = child(3)
    bare["metadata"]["labels"] = None
    store.observe(bare)
    assert store.children(Key(NAMESPACE, "other")) == ()
    assert store.child(REF, NAMESPACE) == bare


def test_a_deployment_is_no_child_of_itself() -> None:
    store = Store()
    body = deployment(1)
    body["metadata"]["labels"] = {names.LABEL_DEPLOYMENT: NAME}
    store.observe(body)
    assert store.children(KEY) == ()
    store.observe(child(2))
    store.observe(deployment(3))
    assert store.children(KEY) == (child(2),)


def test_namespaces_are_kept_apart() -> None:
    store = Store()
    other = copy.deepcopy(child(1))
    other["metadata"]["namespace"] = "elsewhere"
    store.observe(other)
    assert store.child(REF, NAMESPACE) is None
    assert store.children(KEY) == ()


def test_kinds_of_the_same_name_are_kept_apart() -> None:
    store = Store()
    store.observe(make_child("Service", "x", version=3))
    assert store.observe(child(2))
    assert [item["kind"] for item in store.children(KEY)] == ["Deployment", "Service"]


def test_settling_drops_ghosts_and_not_what_is_newer_than_the_listing() -> None:
    store = Store()
    store.observe(child(5))
    store.observe(make_child("Deployment", "newer", version=12))
    assert store.settle("Deployment", NAMESPACE, listed=[], version=10) == ()
    assert store.child(REF, NAMESPACE) is None
    assert store.child(Ref("Deployment", "newer"), NAMESPACE) is not None
    assert [item["metadata"]["name"] for item in store.children(KEY)] == ["newer"]


def test_settling_says_what_was_missed_and_leaves_what_is_known() -> None:
    store = Store()
    store.observe(child(5))
    listed = [child(5), make_child("Deployment", "missed", version=7), make_child("Deployment", "old", version=9)]
    store.observe(make_child("Deployment", "old", version=8))
    missed = store.settle("Deployment", NAMESPACE, listed=listed, version=10)
    assert missed == ((NAMESPACE, Ref("Deployment", "missed")), (NAMESPACE, Ref("Deployment", "old")))


def test_settling_touches_neither_other_kinds_nor_other_namespaces() -> None:
    store = Store()
    store.observe(make_child("Service", "s", version=1))
    elsewhere = child(1)
    elsewhere["metadata"]["namespace"] = "elsewhere"
    store.observe(elsewhere)
    store.settle("Deployment", NAMESPACE, listed=[], version=10)
    assert store.child(Ref("Service", "s"), NAMESPACE) is not None
    assert store.child(REF, "elsewhere") is not None


def test_a_listing_of_every_namespace_settles_each_and_says_where_something_was_missed() -> None:
    def elsewhere(name: str, version: int) -> Manifest:
        made = make_child("Deployment", name, version=version)
        return {**made, "metadata": {**made["metadata"], "namespace": "elsewhere"}}

    store = Store()
    for ghost in (child(1), elsewhere("ghost", 2)):
        store.observe(ghost)
    store.observe(make_child("Service", "s", version=3))
    store.forget(elsewhere("gone", 4))
    missed = store.settle("Deployment", "", listed=[elsewhere("x", 5), elsewhere("y", 6)], version=10)
    assert missed == (("elsewhere", REF), ("elsewhere", Ref("Deployment", "y")))
    assert store.child(REF, NAMESPACE) is store.child(Ref("Deployment", "ghost"), "elsewhere") is None
    assert store.child(Ref("Service", "s"), NAMESPACE) is not None
    store.settle("Deployment", "", listed=[], version=11)
    assert store.observe(elsewhere("gone", 3)), "an earlier listing had seen that deletion"


def test_settling_lets_go_of_the_memory_of_deletions_that_an_earlier_listing_had_seen_already() -> None:
    store = Store()
    store.forget(child(7))
    store.forget(make_child("Deployment", "later", version=12))
    store.settle("Deployment", NAMESPACE, listed=[], version=10)
    assert not store.observe(child(6)), "a reply that was under way all the time may still come"
    store.settle("Deployment", NAMESPACE, listed=[], version=13)
    assert not store.observe(make_child("Deployment", "later", version=11))
    assert store.observe(child(6)), "nobody asked for this longer ago than a resync"


def test_a_listing_lets_go_of_no_deletion_of_another_kind_or_namespace() -> None:
    store = Store()
    elsewhere = child(7)
    elsewhere["metadata"]["namespace"] = "elsewhere"
    service = make_child("Service", "x", version=7)
    for gone in (elsewhere, service):
        store.forget(gone)
    for version in (10, 11):
        store.settle("Deployment", NAMESPACE, listed=[], version=version)
    assert not store.observe(elsewhere), "no listing of its namespace has seen that it is gone"
    assert not store.observe(service), "nor one of its kind"


def test_the_key_of_an_object_is_the_deployment_that_it_is_or_names() -> None:
    assert key_of(deployment(1)) == KEY
    assert key_of(child(1)) == KEY
    assert key_of({"kind": "Service", "metadata": {"name": "s", "namespace": "n"}}) is None


histories = st.lists(st.sampled_from(["write", "delete"]), min_size=1, max_size=8)


def history_of(steps: list[str]) -> list[tuple[str, Manifest]]:
    """What happened to one object, in order: each step has a version of its own; deleting nothing is no step."""
    happened: list[tuple[str, Manifest]] = []
    for version, step in enumerate(steps, start=1):
        if step == "write" or (happened and happened[-1][0] == "write"):
            happened.append((step, child(version)))
    return happened


def take(store: Store, what: str, manifest: Manifest) -> None:
    (store.forget if what == "delete" else store.observe)(copy.deepcopy(manifest))


@given(histories, st.data())
def test_any_interleaving_of_watch_events_and_own_replies_ends_in_the_newest_state(
    steps: list[str], data: st.DataObject
) -> None:
    happened = history_of(steps)
    own_replies = [event for event in happened if event[0] == "write" and data.draw(st.booleans(), "is our own write")]
    shuffled = data.draw(st.permutations([*happened, *own_replies]), "order")
    store = Store()
    for what, manifest in shuffled:
        take(store, what, manifest)
    if not happened:
        assert store.child(REF, NAMESPACE) is None
        return
    last, manifest = happened[-1]
    assert store.child(REF, NAMESPACE) == (manifest if last == "write" else None)
    assert store.children(KEY) == ((manifest,) if last == "write" else ())


@given(histories, st.data())
def test_whatever_was_lost_a_listing_tells(steps: list[str], data: st.DataObject) -> None:
    happened = history_of(steps)
    heard = [event for event in happened if data.draw(st.booleans(), "was heard")]
    store = Store()
    for what, manifest in data.draw(st.permutations(heard), "order"):
        take(store, what, manifest)
    there = [happened[-1][1]] if happened and happened[-1][0] == "write" else []
    missed = store.settle("Deployment", NAMESPACE, listed=there, version=len(steps))
    for at in missed:
        assert at == (NAMESPACE, REF)
        store.observe(there[0])
    assert store.children(KEY) == tuple(there)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_children_come_in_a_stable_order(order: tuple[int, int]) -> None:
    store = Store()
    for number in order:
        store.observe(make_child("Deployment", f"d{number}", version=number))
    assert [item["metadata"]["name"] for item in store.children(KEY)] == ["d1", "d2"]
