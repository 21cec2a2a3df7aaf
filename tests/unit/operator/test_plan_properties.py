"""Any order of changes, delays and deaths ends where the last spec alone ends, and costs no Ready verifier."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_operator.facts import Manifest, Ref
from tandem_operator.facts_parsing import facts_of
from tandem_operator.names import ConditionType
from tandem_operator.plan import plan
from tests.builders import CLOCK, UID, make_role, make_spec
from tests.unit.operator.rollouts import (
    INVALID,
    UNKNOWN_CLASS,
    started,
)
from tests.unit.operator.simulation import OWNER, Cluster, Operator

# -- properties --------------------------------------------------------------------------------------------------------

role_paths = st.sampled_from(["a", "b", "c"])
valid_specs = st.builds(
    lambda verifier, draft, replicas, method: make_spec(
        verifier=make_role(verifier, replicas=replicas), draft=make_role(draft), speculation={"method": method}
    ),
    role_paths,
    role_paths,
    st.integers(1, 3),
    st.sampled_from(["Remote", "NGram", "Off"]),
)
specs = valid_specs | st.sampled_from([INVALID, UNKNOWN_CLASS])
harmless = (
    st.tuples(st.just("spec"), specs),
    st.tuples(st.just("kubelet"), st.integers(1, 2)),
    st.tuples(st.just("deliver"), st.integers(1, 6)),
    st.tuples(st.just("pass"), st.none()),
    st.tuples(st.just("die"), st.integers(1, 4)),
    st.tuples(st.just("restart"), st.none()),
)
happenings = st.lists(st.one_of(*harmless), max_size=25)
troubles = st.lists(
    st.one_of(
        *harmless,
        st.tuples(st.just("room"), st.none() | st.integers(1, 6)),
        st.tuples(st.just("failing"), st.integers(0, 3)),
        st.tuples(st.just("busy"), st.booleans()),
    ),
    max_size=25,
)
"""With nodes that are full, pods that never become Ready, and engines that still have requests."""


def play(operator: Operator, happened: list[tuple[str, Any]]) -> Operator:
    """Everything that happens, in its order. A restarted operator begins with a full store, as `fill` makes it."""
    for what, value in happened:
        if what == "spec":
            operator.change_spec(value)
        elif what == "kubelet":
            operator.cluster.kubelet(pods=value)
        elif what == "deliver":
            operator.deliver(value)
        elif what in {"pass", "die"}:
            operator.run(writes=value)
        elif what == "room":
            operator.cluster.room = value
        elif what == "failing":
            deployments = operator.cluster.of_kind("Deployment")
            for manifest in deployments[value : value + 1]:
                operator.cluster.fail(Ref.of(manifest))
            operator.deliver()  # nobody can help moving to pods that fail in the very moment
        elif what == "busy":
            operator.is_busy = value
        if what in {"die", "restart"}:
            again = Operator(operator.cluster, operator.body["spec"])
            again.generation, again.status = operator.generation, operator.status
            again.lowest_ready, again.is_busy = operator.lowest_ready, operator.is_busy
            again.deliver()
            operator = again
    return operator


@settings(max_examples=100)
@given(valid_specs, happenings, valid_specs)
def test_any_sequence_of_changes_delays_and_deaths_ends_where_the_last_spec_alone_ends(
    first: Manifest, happened: list[tuple[str, Any]], last: Manifest
) -> None:
    operator = play(Operator(Cluster(), first), happened)
    operator.change_spec(last)
    operator.converge()
    assert operator.cluster.result() == started(last).cluster.result()
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
    assert operator.run() == []


@settings(max_examples=200)
@given(valid_specs, troubles)
def test_nothing_that_the_operator_does_takes_the_last_ready_verifier_from_the_service(
    first: Manifest, happened: list[tuple[str, Any]]
) -> None:
    operator = play(started(first), happened)
    operator.converge()
    assert operator.lowest_ready is None or operator.lowest_ready >= 1
    assert operator.cluster.restarts == 0


@given(valid_specs, happenings, specs)
def test_planning_twice_gives_the_same_plan(first: Manifest, happened: list[tuple[str, Any]], last: Manifest) -> None:
    operator = play(Operator(Cluster(), first), happened)
    operator.change_spec(last)
    assert operator.plan() == operator.plan()


@given(valid_specs, happenings, st.randoms(use_true_random=False))
def test_facts_in_any_order_give_the_same_plan(
    first: Manifest, happened: list[tuple[str, Any]], shuffle: random.Random
) -> None:
    operator = play(Operator(Cluster(), first), happened)
    children = list(operator.cluster.objects.values())
    ordered = facts_of(children, owner_uid=UID)
    shuffle.shuffle(children)
    shuffled = facts_of(children, owner_uid=UID)
    first_plan = plan(OWNER, ordered, operator.intent(ordered).wants, clock=CLOCK)
    assert first_plan == plan(OWNER, shuffled, operator.intent(shuffled).wants, clock=CLOCK)


@given(valid_specs, happenings)
def test_status_is_the_same_when_a_pass_is_repeated(first: Manifest, happened: list[tuple[str, Any]]) -> None:
    operator = play(Operator(Cluster(), first), happened)
    operator.converge()
    before = operator.status
    operator.run()
    assert operator.status == before
