"""Rollouts where room is short, pods fail, requests are still answered, and the user changes their mind on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.facts import Manifest, PodFacts, Ref
from tandem_operator.names import ConditionType
from tandem_operator.role_inputs import differing
from tandem_operator.rollout import Clock, verifier_step
from tests.builders import NAME, make_config, make_pod, make_role, make_spec
from tests.unit.operator.rollouts import revision_of, serving, started, verifier_ref, workloads
from tests.unit.operator.simulation import Cluster, Operator


def spec(path: str, *, replicas: int = 3, **rollout: Any) -> Manifest:
    limits = {"surgeWait": "1m", "drainTimeout": "5m", **rollout}
    return make_spec(
        verifier=make_role(path, replicas=replicas), draft=None, speculation={"method": "Off"}, rollout=limits
    )


def full(replicas: int = 3, **rollout: Any) -> Operator:
    """A deployment that serves and leaves no room for another pod."""
    operator = started(spec("a", replicas=replicas, **rollout))
    operator.cluster.room = replicas
    return operator


def passes(operator: Operator, count: int = 1, *, seconds: float = 0.0) -> list[str]:
    """`count` passes with the kubelets going on before each."""
    written: list[str] = []
    for _ in range(count):
        operator.cluster.now += timedelta(seconds=seconds)
        operator.cluster.kubelet()
        operator.deliver()
        written += operator.run()
    return written


def is_rolling(operator: Operator) -> bool:
    return names.LABEL_REVISION not in operator.cluster.objects[Ref("Service", NAME)]["spec"]["selector"]


A, B, C = (revision_of(spec(path)) for path in "abc")


# -- no room -----------------------------------------------------------------------------------------------------------


def test_without_room_a_rollout_waits_and_then_goes_on_one_for_one_and_never_lacks_more_than_one() -> None:
    operator = full()
    operator.change_spec(spec("b"))
    passes(operator, 4, seconds=10)
    assert workloads(operator, Role.VERIFIER) == {A: 3, B: 3}
    assert not is_rolling(operator)
    assert operator.plan().due_seconds > 0
    passes(operator, 2, seconds=60)
    assert is_rolling(operator)
    assert operator.condition(ConditionType.AVAILABLE) == ("True", "Serving")
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 3}
    assert serving(operator) == B
    assert operator.lowest_ready == 2
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")


def test_one_replica_without_room_is_kept_and_told_and_goes_on_when_there_is_room() -> None:
    operator = full(1)
    operator.change_spec(spec("b", replicas=1))
    passes(operator, 6, seconds=60)
    assert operator.condition(ConditionType.VERIFIER_READY) == ("False", "NoRoomForSurge")
    message = next(c["message"] for c in operator.status["conditions"] if c["type"] == "VerifierReady")
    assert "0/3 nodes: Insufficient gpu" in message
    assert operator.condition(ConditionType.STALLED) is None
    assert (serving(operator), operator.lowest_ready) == (A, 1)
    operator.cluster.room = 2
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 1}
    assert operator.lowest_ready == 1


def test_blue_green_never_rolls_however_long_there_is_no_room() -> None:
    operator = full(strategy="BlueGreen")
    operator.change_spec(spec("b", strategy="BlueGreen"))
    passes(operator, 10, seconds=600)
    assert operator.condition(ConditionType.VERIFIER_READY) == ("False", "NoRoomForSurge")
    assert not is_rolling(operator)
    assert (serving(operator), operator.lowest_ready) == (A, 3)


def test_rolling_starts_at_once_and_needs_no_room() -> None:
    operator = full(strategy="Rolling")
    operator.change_spec(spec("b", strategy="Rolling"))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 3}
    assert operator.lowest_ready == 2


def test_a_rollout_of_broken_old_pods_takes_their_room_also_for_one_replica() -> None:
    operator = full(1)
    operator.cluster.fail(verifier_ref(A))
    operator.cluster.room = 0
    operator.change_spec(spec("b", replicas=1))
    passes(operator, 4, seconds=60)
    assert workloads(operator, Role.VERIFIER)[A] == 0
    operator.cluster.room = 1
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 1}


def test_recreate_ends_the_old_pods_before_a_new_one_is_made() -> None:
    operator = full(strategy="Recreate")
    operator.change_spec(spec("b", strategy="Recreate"))
    operator.run()
    assert workloads(operator, Role.VERIFIER) == {A: 0, B: 0}
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 3}
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")


def test_recreate_waits_for_old_pods_to_their_end_which_the_controller_does_not_count_any_more() -> None:
    operator = full(strategy="Recreate")
    operator.change_spec(spec("b", strategy="Recreate"))
    facts = operator.facts()
    meant, old = operator.intent(facts), facts.workload(Role.VERIFIER, A)
    assert old is not None
    scaled_down = replace(facts, workloads=(replace(old, wanted=0, replicas=0, ready=0),))

    def replicas_with(*pods: PodFacts) -> dict[str, int]:
        step = verifier_step(
            replace(scaled_down, pods=pods),
            facts.service(NAME),
            meant.wants[Role.VERIFIER],
            asked_replicas=None,
            idle=frozenset(),
            clock=Clock(operator.cluster.now, meant.limits),
        )
        assert step is not None
        return dict(step.replicas)

    leaving = make_pod(Role.VERIFIER, A, is_going=True)
    assert replicas_with(leaving) == {A: 0, B: 0}
    assert replicas_with(replace(leaving, is_over=True)) == {B: 3}
    assert replicas_with() == {B: 3}


def test_scaling_in_the_middle_of_a_rolling_rollout_is_followed() -> None:
    operator = full(strategy="Rolling")
    operator.change_spec(spec("b", strategy="Rolling"))
    passes(operator, 2)
    operator.cluster.room = 6
    operator.change_spec(spec("b", replicas=6, strategy="Rolling"))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 6}
    assert operator.lowest_ready == 2


@pytest.mark.parametrize(("path", "revision"), [("a", A), ("c", C)])
def test_another_spec_in_the_middle_of_a_rolling_rollout_wins(path: str, revision: str) -> None:
    operator = full(strategy="Rolling")
    operator.change_spec(spec("b", strategy="Rolling"))
    passes(operator, 3)
    assert is_rolling(operator)
    operator.change_spec(spec(path, strategy="Rolling"))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {revision: 3}
    assert (serving(operator), is_rolling(operator)) == (revision, False)
    assert operator.lowest_ready == 2


def test_a_bad_spec_in_the_middle_of_a_rolling_rollout_leaves_all_that_serves() -> None:
    operator = full(strategy="Rolling")
    operator.change_spec(spec("b", strategy="Rolling"))
    passes(operator, 3)
    before = workloads(operator, Role.VERIFIER)
    operator.change_spec(make_spec(verifier=make_role(replicas=-1)))
    passes(operator, 3)
    assert workloads(operator, Role.VERIFIER) == before
    assert is_rolling(operator)


# -- failures ----------------------------------------------------------------------------------------------------------


def _failed(operator: Operator, revision: str) -> None:
    passes(operator, 2)
    operator.cluster.fail(verifier_ref(revision))
    passes(operator, 3)


def test_a_revision_that_fails_goes_and_is_not_tried_again_until_the_spec_changes() -> None:
    operator = started(spec("a"))
    operator.cluster.room = 4
    operator.change_spec(spec("b"))
    _failed(operator, B)
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {A: 3}
    assert (serving(operator), operator.lowest_ready) == (A, 3)
    assert operator.condition(ConditionType.STALLED) == ("True", "RolloutFailed")
    assert operator.condition(ConditionType.AVAILABLE) == ("True", "Serving")
    assert operator.condition(ConditionType.RECONCILING) is None
    assert operator.status["verifier"]["targetRevision"] == B
    operator.change_spec(spec("a"))
    operator.converge()
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
    operator.cluster.failing.clear()
    operator.cluster.room = 6
    operator.change_spec(spec("b"))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 3}


def test_with_hold_a_failed_revision_stays_to_be_looked_at() -> None:
    operator = started(spec("a", onFailure="Hold"))
    operator.change_spec(spec("b", onFailure="Hold"))
    operator.deliver()
    operator.run()
    operator.cluster.fail(verifier_ref(B))
    passes(operator, 4)
    assert workloads(operator, Role.VERIFIER) == {A: 3, B: 3}
    assert (serving(operator), operator.lowest_ready) == (A, 3)
    assert operator.condition(ConditionType.STALLED) == ("True", "RolloutFailed")
    assert operator.run() == []


def test_a_rolling_rollout_that_fails_gives_the_old_revision_its_pods_back() -> None:
    operator = full(strategy="Rolling")
    operator.change_spec(spec("b", strategy="Rolling"))
    passes(operator, 1)
    assert workloads(operator, Role.VERIFIER) == {A: 2, B: 1}
    operator.cluster.fail(verifier_ref(B))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {A: 3}
    assert (serving(operator), is_rolling(operator)) == (A, False)
    assert operator.lowest_ready == 2
    assert operator.condition(ConditionType.STALLED) == ("True", "RolloutFailed")


def test_a_failed_revision_scales_what_serves() -> None:
    operator = started(spec("a"))
    operator.change_spec(spec("b"))
    operator.deliver()
    operator.run()
    operator.cluster.fail(verifier_ref(B))
    passes(operator, 3)
    operator.change_spec(spec("b", replicas=5))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {A: 5}


def test_pods_without_room_are_never_a_failure_of_the_revision() -> None:
    operator = full(1)
    operator.change_spec(spec("b", replicas=1))
    passes(operator, 3, seconds=60)
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    operator.cluster.edit(verifier_ref(B), lambda m: m["status"].update(conditions=[late]))
    passes(operator, 3, seconds=60)
    assert operator.condition(ConditionType.VERIFIER_READY) == ("False", "NoRoomForSurge")


# -- drain -------------------------------------------------------------------------------------------------------------


def test_old_pods_stay_until_their_requests_are_answered() -> None:
    operator = started(spec("a"))
    operator.is_busy = True
    operator.change_spec(spec("b"))
    passes(operator, 6, seconds=10)
    assert serving(operator) == B
    assert workloads(operator, Role.VERIFIER) == {A: 3, B: 3}
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
    assert 0 < operator.plan().due_seconds <= 2
    assert operator.run() == []
    operator.is_busy = False
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {B: 3}


def test_old_pods_go_at_the_end_of_the_drain_timeout_whatever_they_still_do() -> None:
    operator = started(spec("a"))
    operator.is_busy = True
    operator.change_spec(spec("b"))
    passes(operator, 3)
    passes(operator, 1, seconds=290)
    assert workloads(operator, Role.VERIFIER) == {A: 3, B: 3}
    passes(operator, 1, seconds=11)
    assert workloads(operator, Role.VERIFIER) == {B: 3}


def test_a_restarted_operator_goes_on_with_a_drain_where_the_last_one_was() -> None:
    operator = started(spec("a"))
    operator.is_busy = True
    operator.change_spec(spec("b"))
    passes(operator, 3)
    operator.cluster.now += timedelta(minutes=4)
    again = Operator(operator.cluster, spec("b"))
    again.is_busy = True
    again.deliver()
    assert again.run() == []
    passes(again, 1, seconds=61)
    assert workloads(again, Role.VERIFIER) == {B: 3}


def test_going_back_while_the_old_pods_drain_is_instant() -> None:
    operator = started(spec("a"))
    operator.is_busy = True
    operator.change_spec(spec("b"))
    passes(operator, 4)
    operator.change_spec(spec("a"))
    operator.deliver()
    operator.run()
    assert serving(operator) == A
    operator.is_busy = False
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {A: 3}
    annotations = operator.cluster.objects[verifier_ref(A)]["metadata"]["annotations"]
    assert names.ANNOTATION_DRAINING not in annotations


# -- drafts ------------------------------------------------------------------------------------------------------------


def test_drafts_without_room_make_room_for_the_new_ones_down_to_the_last() -> None:
    before = make_spec(draft=make_role("draft"), rollout={"surgeWait": "1m"})
    operator = started(before)
    operator.cluster.room = 2
    operator.change_spec({**before, "draft": make_role("other")})
    passes(operator, 8, seconds=30)
    operator.converge()
    assert len(workloads(operator, Role.DRAFT)) == 1
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
    assert operator.lowest_ready in {1, None}


# -- other defaults ----------------------------------------------------------------------------------------------------


def _refreshed(operator: Operator, when: str) -> None:
    operator.body["metadata"]["annotations"] = {names.ANNOTATION_REFRESH: when}


def _newer(operator: Operator, **settings: Any) -> Operator:
    newer = Operator(operator.cluster, spec("a"), make_config(**settings))
    newer.deliver()
    return newer


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"engineImages": {"cpu": "newer:2"}}, "image"),
        ({"traces": {"endpoint": "http://collector:4317"}}, "traces"),
        ({"scrapeAnnotations": True}, "scrape_annotations"),
        ({"engineImages": {"cpu": "newer:2"}, "scrapeAnnotations": True}, "image, scrape_annotations"),
    ],
)
def test_other_defaults_are_told_and_roll_out_only_by_a_refresh(settings: Manifest, told: str) -> None:
    newer = _newer(started(spec("a")), **settings)
    assert newer.run() == []
    assert newer.condition(ConditionType.READY) == ("True", "RolledOut")
    assert newer.condition(ConditionType.VERIFIER_READY) == ("True", "RevisionOutdated")
    message = next(c["message"] for c in newer.status["conditions"] if c["type"] == ConditionType.VERIFIER_READY)
    assert f", which differs in {told}: `tandem refresh " in message
    _refreshed(newer, "t1")
    newer.converge()
    assert workloads(newer, Role.VERIFIER).keys().isdisjoint({A})
    assert newer.condition(ConditionType.VERIFIER_READY) == ("True", "PodsReady")


def test_what_differs_is_named_by_its_path() -> None:
    before = {"a": {"b": 1, "c": [{"d": 1}, {"d": 2}]}, "gone": 1, "same": [1, 2], "longer": [1]}
    after = {"a": {"b": 2, "c": [{"d": 1}, {"d": 3}]}, "new": {"x": 1}, "same": [1, 2], "longer": [1, 2]}
    assert sorted(differing(before, after)) == ["a.b", "a.c[1].d", "gone", "longer", "new"]


def test_an_old_refresh_rolls_nothing_when_the_defaults_change_once_more() -> None:
    operator = started(spec("a"))
    _refreshed(operator, "t1")
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {A: 3}
    newer = _newer(operator, engineImages={"cpu": "newer:2"})
    _refreshed(newer, "t1")
    assert newer.run() == []
    assert newer.condition(ConditionType.VERIFIER_READY) == ("True", "RevisionOutdated")


def test_a_request_in_other_words_stays_the_same_when_the_defaults_change() -> None:
    image = make_config().engine_images["cpu"]
    allowed = make_config(engineImageAllowList=[".*"])
    written_out = spec("a")
    written_out["verifier"]["engine"] = {"image": image}
    operator = Operator(Cluster(), spec("a"), allowed)
    operator.converge()
    before = workloads(operator, Role.VERIFIER)
    operator.change_spec(written_out)
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == before
    newer = Operator(
        operator.cluster, written_out, make_config(engineImageAllowList=[".*"], engineImages={"cpu": "newer:2"})
    )
    newer.deliver()
    for wording in (written_out, spec("a")):
        newer.change_spec(wording)
        newer.converge()
        assert workloads(newer, Role.VERIFIER) == before
