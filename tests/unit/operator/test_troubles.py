"""Which trouble of a revision's pods is told: the worst, of how many, and always the same line for the same pods."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import Role
from tandem_operator.facts import Facts, PodFacts
from tandem_operator.names import Reason
from tandem_operator.troubles import Trouble, trouble_of_revision
from tests.builders import make_pod, make_workload

REVISION = "7f3a90c1"
UNSCHEDULABLE = "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NO_MODEL = "ModelNotFound: model path /models/x does not exist (phase check)"


def pod(name: str, trouble: str = "", *, is_ready: bool = False, is_over: bool = False) -> PodFacts:
    unschedulable = trouble if trouble.startswith("Unschedulable") else ""
    return make_pod(
        Role.VERIFIER, REVISION, name=name, is_ready=is_ready, trouble=trouble, unschedulable=unschedulable,
        is_over=is_over,
    )  # fmt: skip


def told(*pods: PodFacts, message: str = "", cannot_create: str = "") -> Trouble:
    workload = make_workload(Role.VERIFIER, REVISION, wanted=3, ready=0, message=message, cannot_create=cannot_create)
    return trouble_of_revision(Facts(workloads=(workload,), pods=pods), Role.VERIFIER, REVISION)


def test_nothing_is_told_of_pods_that_are_on_their_way() -> None:
    assert told(pod("a"), pod("b")) == Trouble(Reason.PODS_NOT_READY)
    assert trouble_of_revision(Facts(), Role.VERIFIER, REVISION) == Trouble(Reason.PODS_NOT_READY)


def test_the_pod_is_named_and_those_like_it_are_counted() -> None:
    assert told(pod("a", NO_MODEL)).message == f"pod a: {NO_MODEL}"
    assert told(pod("b", NO_MODEL), pod("a", NO_MODEL)).message == f"pod a (and 1 other like it): {NO_MODEL}"
    three = told(pod("a", NO_MODEL), pod("b", NO_MODEL), pod("c", NO_MODEL), pod("d", "OOMKilled"))
    assert three == Trouble(Reason.PODS_FAILING, f"pod a (and 2 others like it): {NO_MODEL}")


def test_what_a_person_must_mend_comes_before_what_waits_for_room() -> None:
    assert told(pod("a", UNSCHEDULABLE), pod("b", UNSCHEDULABLE), pod("c", NO_MODEL)).message == f"pod c: {NO_MODEL}"
    assert told(pod("a", UNSCHEDULABLE), pod("b", "NodeLost: node n does not answer any more")) == Trouble(
        Reason.UNSCHEDULABLE, f"pod a: {UNSCHEDULABLE}"
    )


def test_what_is_over_is_told_only_when_nothing_else_is() -> None:
    evicted = pod("a", "Evicted: The node was low on resource: memory.", is_over=True)
    assert told(evicted, pod("b", NO_MODEL)).message == f"pod b: {NO_MODEL}"
    assert told(evicted, pod("b")).message == "pod a: Evicted: The node was low on resource: memory."


def test_a_ready_pod_has_no_trouble_that_matters() -> None:
    assert told(pod("a", "PreemptionByScheduler: making room", is_ready=True)) == Trouble(Reason.PODS_NOT_READY)


def test_pods_that_may_not_even_be_made_are_the_first_thing_to_tell() -> None:
    quota = 'pods "x-*" is forbidden: exceeded quota: gpus'
    assert told(pod("a", NO_MODEL), cannot_create=quota) == Trouble(Reason.FAILED_CREATE, quota)


def test_without_a_better_cause_the_controller_of_the_pods_is_quoted() -> None:
    assert told(pod("a"), message="has timed out progressing").message == "has timed out progressing"


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_pods_does_not_matter(shuffle: random.Random) -> None:
    pods = [pod("a", UNSCHEDULABLE), pod("b", NO_MODEL), pod("c", "OOMKilled"), pod("d", NO_MODEL), pod("e")]
    before = told(*pods)
    shuffle.shuffle(pods)
    assert told(*pods) == before
