"""Bad specs, lost and changed objects, and those of somebody else: what serves goes on serving."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.facts import Manifest, Ref
from tandem_operator.names import ConditionType
from tests.builders import NAME
from tests.unit.operator.rollouts import (
    INVALID,
    OTHER_VERIFIER,
    PAIR,
    UNKNOWN_CLASS,
    revision_of,
    serving,
    started,
    verifier_ref,
    workloads,
)
from tests.unit.operator.simulation import Cluster, Operator

# -- a bad spec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [INVALID, UNKNOWN_CLASS], ids=["invalid", "rejected"])
def test_a_bad_spec_never_stops_a_good_service(bad: Manifest) -> None:
    operator = started()
    before = operator.cluster.result()
    operator.change_spec(bad)
    assert operator.converge() == []
    assert operator.cluster.result() == before
    assert operator.condition(ConditionType.AVAILABLE) == ("True", "Serving")
    assert operator.condition(ConditionType.READY) is not None
    assert operator.condition(ConditionType.READY)[0] == "False"  # type: ignore[index]
    assert operator.condition(ConditionType.STALLED) is not None
    assert operator.condition(ConditionType.RECONCILING) is None


def test_a_spec_that_goes_bad_during_a_rollout_leaves_what_serves() -> None:
    operator = started()
    before = operator.cluster.result()
    operator.change_spec(OTHER_VERIFIER)
    operator.deliver()
    operator.run()
    operator.change_spec(INVALID)
    operator.converge()
    assert operator.cluster.result() == before
    assert operator.lowest_ready == 1


def test_a_bad_spec_from_the_start_makes_nothing() -> None:
    operator = Operator(Cluster(), INVALID)
    assert operator.run() == []
    assert operator.cluster.objects == {}
    assert operator.condition(ConditionType.STALLED) == ("True", "InvalidSpec")
    assert operator.condition(ConditionType.AVAILABLE) == ("False", "NoReadyVerifier")


def test_under_a_bad_spec_what_was_deleted_by_hand_comes_back() -> None:
    operator = started()
    before = operator.cluster.result()
    operator.change_spec(INVALID)
    for ref in (verifier_ref(serving(operator)), Ref("Service", NAME)):
        operator.cluster.delete(ref)
        operator.converge()
        assert operator.cluster.result().keys() == before.keys(), ref


def test_under_a_bad_spec_what_was_scaled_by_hand_is_left_alone() -> None:
    operator = started()
    revision = serving(operator)
    operator.change_spec(INVALID)
    operator.cluster.edit(verifier_ref(revision), lambda m: m["spec"].update(replicas=4))
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {revision: 4}


# -- objects that are lost, changed or somebody else's -----------------------------------------------------------------


def test_what_is_deleted_by_hand_comes_back() -> None:
    operator = started()
    before = operator.cluster.result()
    for ref in sorted(operator.cluster.objects):
        operator.cluster.delete(ref)
        operator.converge()
        assert operator.cluster.result() == before, ref


def _without_labels(manifest: Manifest) -> None:
    manifest["metadata"]["labels"] = {}


def _without_role(manifest: Manifest) -> None:
    del manifest["metadata"]["labels"][names.LABEL_ROLE]


def _of_another_deployment(manifest: Manifest) -> None:
    manifest["metadata"]["labels"][names.LABEL_DEPLOYMENT] = "other"


@pytest.mark.parametrize("change", [_without_labels, _without_role, _of_another_deployment])
def test_what_loses_our_labels_gets_them_back(change: Any) -> None:
    operator = started()
    before = operator.cluster.result()
    for ref in sorted(operator.cluster.objects):
        operator.cluster.edit(ref, change)
        operator.converge()
        assert operator.cluster.result() == before, ref
    assert operator.lowest_ready in {None, 1}
    assert operator.cluster.restarts == 0


def _lose_service(operator: Operator) -> None:
    operator.cluster.delete(Ref("Service", NAME))


def _unlabel_service(operator: Operator) -> None:
    operator.cluster.edit(Ref("Service", NAME), _without_role)


def _unselect(operator: Operator) -> None:
    operator.cluster.edit(Ref("Service", NAME), lambda m: m["spec"]["selector"].pop(names.LABEL_REVISION))


def _select_nothing(operator: Operator) -> None:
    operator.cluster.edit(Ref("Service", NAME), lambda m: m["spec"]["selector"].update({names.LABEL_REVISION: "zzz"}))


@pytest.mark.parametrize("accident", [_lose_service, _unlabel_service, _unselect, _select_nothing])
def test_an_accident_with_the_service_during_a_rollout_costs_no_ready_pod(accident: Any) -> None:
    operator = started()
    old = serving(operator)
    operator.change_spec(OTHER_VERIFIER)
    operator.deliver()
    operator.run()
    accident(operator)
    for _ in range(3):
        operator.deliver()
        operator.run()
        assert old in workloads(operator, Role.VERIFIER), "the only Ready pods are kept until the new ones are Ready"
    assert operator.cluster.ready_behind(NAME) == 1
    operator.converge()
    assert serving(operator) == revision_of(OTHER_VERIFIER)
    assert workloads(operator, Role.VERIFIER).keys() == {revision_of(OTHER_VERIFIER)}


def test_a_lost_revision_of_what_serves_does_not_stop_it_while_the_next_one_starts() -> None:
    operator = started()
    old = serving(operator)
    operator.cluster.delete(Ref("ControllerRevision", f"{NAME}-verifier-{old}"))
    operator.change_spec(OTHER_VERIFIER)
    operator.deliver()
    operator.run()
    assert operator.cluster.ready_behind(NAME) == 1
    assert operator.cluster.ready_behind(names.draft_service_name(NAME, old)) == 1, "it still asks its drafts"
    operator.converge()
    assert workloads(operator, Role.VERIFIER).keys() == {revision_of(OTHER_VERIFIER)}
    assert operator.lowest_ready == 1


@pytest.mark.parametrize("owners", [[], [{"uid": "x", "controller": True, "kind": "Other", "name": "o"}]])
@pytest.mark.parametrize("labelled", [True, False])
def test_an_object_of_somebody_else_is_left_alone_and_named(owners: list[Manifest], labelled: bool) -> None:
    revision = revision_of(PAIR)
    cluster = Cluster()
    foreign = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": f"{NAME}-verifier-{revision}",
            "namespace": "chat",
            "uid": "theirs",
            "generation": 1,
            "ownerReferences": owners,
            "labels": {names.LABEL_DEPLOYMENT: NAME} if labelled else {},
        },
        "spec": {"replicas": 7, "template": {"metadata": {"labels": {}}}},
    }
    cluster.write(foreign)
    operator = Operator(cluster, PAIR)
    operator.deliver()
    operator.run()
    operator.run()
    assert cluster.objects[verifier_ref(revision)]["spec"]["replicas"] == 7
    assert operator.condition(ConditionType.STALLED) == ("True", "NameConflict")
    assert operator.condition(ConditionType.READY) == ("False", "NameConflict")


def test_a_foreign_object_that_is_in_nobodys_way_is_never_deleted() -> None:
    operator = started()
    stray = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "stray",
            "namespace": "chat",
            "uid": "theirs",
            "generation": 1,
            "labels": {
                names.LABEL_DEPLOYMENT: NAME, names.LABEL_ROLE: "verifier", names.LABEL_REVISION: "deadbeef",
            },
        },
        "spec": {"replicas": 1, "template": {"metadata": {"labels": {}}}},
    }  # fmt: skip
    operator.cluster.write(stray)
    assert operator.converge() == []
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
