"""Which pods go first: those with the least to do, and never one of which nothing is known before one that is idle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import Role
from tandem_operator.deletion_costs import DeletionCost, Load, deletion_costs_of, load_of
from tandem_operator.facts import PodFacts
from tandem_operator.plan import Plan, plan
from tandem_operator.rollout import Want
from tandem_operator.scaling.reading import Reading
from tests.builders import CLOCK, make_pair_facts, make_pod, make_revision, make_workload
from tests.unit.operator.replica_set import deleted
from tests.unit.operator.simulation import OWNER

VERIFIER, DRAFT = make_revision(), make_revision(role=Role.DRAFT)
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def pod(name: str, *, age: int = 0, cost: int = 0, **parts: bool) -> PodFacts:
    created = BEGIN - timedelta(seconds=age)
    made = make_pod(Role.VERIFIER, VERIFIER.revision, name=name, created=created)
    return replace(made, deletion_cost=cost, **parts)  # type: ignore[arg-type]


def load(running: float, waiting: float = 0.0, kv: float = 0.0) -> Load:
    return load_of(Reading(0.0, running, waiting, kv_usage=kv))


def costs(*pods: PodFacts, fewer: int = 1, **loads: Load) -> dict[str, int]:
    return {each.ref.name: each.cost for each in deletion_costs_of(pods, loads, fewer=fewer)}


A, B, C = pod("a"), pod("b"), pod("c")


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (costs(A, B, C, a=load(3), b=load(1), c=load(2)), {"b": -1}),
        (costs(A, B, C, a=load(3), b=load(1), c=load(2), fewer=2), {"b": -2, "c": -1}),
        (costs(A, B, a=load(1, 9), b=load(4)), {"b": -1}),
        (costs(A, B, a=load(1, kv=0.5), b=load(1, kv=0.2)), {"b": -1}),
        (costs(A, B, a=load(1), b=load(1)), {"a": -1}),
        (costs(A, B, C, c=load(100)), {"c": -1}),
        (costs(A, B), {}),
        (costs(A, B, a=load(1), b=load(1), fewer=5), {"a": -2, "b": -1}),
        (costs(replace(A, is_ready=False), B, a=load(0), b=load(5)), {"b": -1}),
        (costs(replace(A, is_going=True), B, a=load(0), b=load(5)), {"b": -1}),
        (costs(replace(A, is_over=True, is_ready=False), B, a=load(0), b=load(5)), {"b": -1}),
        (costs(), {}),
    ],
    ids=[
        "the least loaded one",
        "two, in their order",
        "what waits counts too",
        "the same requests: by what they hold",
        "the same load: by name",
        "unknown is not idle",
        "nothing is known",
        "more than there are",
        "one that is not Ready goes by itself",
        "one that is going already",
        "one that has ended",
        "no pods",
    ],
)
def test_the_least_loaded_pods_are_marked(found: dict[str, int], wanted: dict[str, int]) -> None:
    assert found == wanted


def test_what_an_earlier_step_has_left_is_taken_away_and_what_holds_is_not_written_again() -> None:
    left, same = pod("a", cost=-1), pod("b", cost=-1)
    assert costs(left, same, C, a=load(9), b=load(1), c=load(5)) == {"a": 0}
    assert costs(same, C, b=load(1), c=load(5)) == {}
    foreign = pod("c", cost=100)
    assert costs(foreign, same, b=load(1), c=load(5)) == {"c": 0}, "somebody's mark would be in the way of ours"
    assert costs(foreign, left) == {}, "where nothing is known nothing is touched"


pods = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.3, 0.9]),
        st.booleans(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
)


@given(pods, st.integers(1, 8))
def test_the_pods_that_go_are_never_more_loaded_than_those_that_stay(
    drawn: list[tuple[int, int, float, bool, bool, int, int]], fewer: int
) -> None:
    there, loads = [], {}
    for number, (running, waiting, kv, is_ready, is_known, cost, age) in enumerate(drawn):
        there.append(pod(f"p{number}", age=age, cost=cost, is_ready=is_ready))
        if is_known:
            loads[f"p{number}"] = load(running, waiting, kv)
    changed = {each.ref: each.cost for each in deletion_costs_of(there, loads, fewer=fewer)}
    marked = {each.ref: changed.get(each.ref, each.deletion_cost) for each in there}
    gone = deleted(there, marked, fewer=fewer)
    known = [each for each in there if each.is_ready and each.ref.name in loads]

    def has(each: PodFacts) -> Load:
        return loads[each.ref.name]

    staying = [each for each in known if each not in gone]
    for one in gone:
        if one in known:
            assert all(has(one) <= has(other) for other in staying)
        elif one.is_ready:
            assert not staying, "one of which nothing is known goes only after all that are known"
    marked_pods = [replace(each, deletion_cost=marked[each.ref]) for each in there]
    assert deletion_costs_of(marked_pods, loads, fewer=fewer) == (), "what is marked is not marked again"


def planned(replicas: int, *, wanted: int = 3, loads: dict[str, Load] | None = None) -> Plan:
    facts = make_pair_facts(VERIFIER, DRAFT)
    workloads = (make_workload(Role.VERIFIER, VERIFIER.revision, wanted=wanted, ready=3), *facts.workloads[1:])
    facts = replace(facts, workloads=workloads, pods=(A, B, C))
    wants = {Role.VERIFIER: Want(VERIFIER, replicas), Role.DRAFT: Want(DRAFT, 1)}
    return plan(OWNER, facts, wants, clock=CLOCK, loads=loads or {})


LOADS = {"a": load(3), "b": load(1), "c": load(2)}


def test_pods_are_marked_where_their_deployment_is_to_have_fewer_and_only_there() -> None:
    assert planned(2, loads=LOADS).costs == (DeletionCost(B.ref, B.uid, -1),)
    assert planned(3, loads=LOADS).costs == ()
    assert planned(4, loads=LOADS).costs == ()
    assert planned(0, loads=LOADS).costs == (), "all go"
    assert planned(2).costs == ()
    scaled = next(a for a in planned(2, loads=LOADS).apply if a.manifest["kind"] == "Deployment")
    assert scaled.resource_version == "7", "fewer pods are wanted of the very Deployment that was seen"
