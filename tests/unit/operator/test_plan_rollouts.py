"""Whole rollouts played through the plan: what is made, in which order, and that nothing that serves is taken away."""

from __future__ import annotations

import copy

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.facts import Manifest, Ref
from tandem_operator.names import ConditionType
from tandem_operator.plan import REVISION_HISTORY_LIMIT
from tests.builders import NAME, make_config, make_role, make_spec
from tests.unit.operator.rollouts import (
    NGRAM,
    OTHER_DRAFT,
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

# -- creation and scaling ----------------------------------------------------------------------------------------------


def test_a_new_deployment_gets_everything_in_its_first_pass() -> None:
    operator = Operator(Cluster(), PAIR)
    written = operator.run()
    assert [step.split()[1] for step in written] == [
        "ServiceAccount", "NetworkPolicy", "ServiceAccount", "NetworkPolicy",
        "ControllerRevision", "Deployment", "Service", "ControllerRevision", "Deployment", "Service",
    ]  # fmt: skip
    assert operator.condition(ConditionType.AVAILABLE) == ("False", "NoReadyVerifier")
    assert operator.condition(ConditionType.READY) == ("False", "PodsNotReady")
    assert operator.condition(ConditionType.RECONCILING) is not None


def test_a_pair_is_ready_when_its_pods_are_and_then_nothing_is_written_any_more() -> None:
    operator = started()
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
    assert operator.condition(ConditionType.AVAILABLE) == ("True", "Serving")
    assert operator.condition(ConditionType.RECONCILING) is None
    assert operator.run() == []
    assert not operator.plan().delete
    assert not operator.plan().waits
    assert not operator.plan().details


def test_a_restarted_operator_writes_nothing() -> None:
    operator = started()
    again = Operator(operator.cluster, PAIR)
    again.deliver()
    assert again.run() == []


def test_scaling_changes_one_field_of_one_object() -> None:
    operator = started(make_spec(verifier=make_role(replicas=2)))
    revision = serving(operator)
    operator.change_spec(make_spec(verifier=make_role(replicas=3)))
    assert operator.run() == [f"applied Deployment {NAME}-verifier-{revision}"]
    assert workloads(operator, Role.VERIFIER) == {revision: 3}
    assert operator.condition(ConditionType.READY) == ("False", "PodsNotReady")
    assert operator.condition(ConditionType.AVAILABLE) == ("True", "Serving")
    operator.converge()
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")


def test_scaling_to_zero_is_ready_and_not_available() -> None:
    operator = started(make_spec(verifier=make_role(replicas=2)))
    operator.change_spec(make_spec(verifier=make_role(replicas=0)))
    operator.converge()
    assert operator.condition(ConditionType.AVAILABLE) == ("False", "ScaledToZero")
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")
    assert operator.condition(ConditionType.VERIFIER_READY) == ("True", "ScaledToZero")


# -- rollouts ----------------------------------------------------------------------------------------------------------


def test_a_new_verifier_takes_over_only_when_all_of_its_pods_are_ready() -> None:
    old_spec = make_spec(verifier=make_role("a", replicas=3))
    new_spec = make_spec(verifier=make_role("b", replicas=3))
    operator = started(old_spec)
    old, new = revision_of(old_spec), revision_of(new_spec)
    operator.change_spec(new_spec)
    for ready in range(3):
        operator.deliver()
        operator.run()
        assert serving(operator) == old, f"{ready} new pods are Ready"
        assert workloads(operator, Role.VERIFIER) == {old: 3, new: 3}
        assert operator.condition(ConditionType.VERIFIER_READY) == ("False", "RollingOut")
        assert operator.condition(ConditionType.AVAILABLE) == ("True", "Serving")
        operator.cluster.kubelet(pods=1)
    operator.deliver()
    assert f"applied Service {NAME}" in operator.run()
    assert serving(operator) == new
    assert workloads(operator, Role.VERIFIER).keys() == {old, new}, "the old pods go only after the Service has moved"
    operator.converge()
    assert workloads(operator, Role.VERIFIER) == {new: 3}
    assert operator.lowest_ready is not None
    assert operator.lowest_ready >= 3
    assert operator.condition(ConditionType.READY) == ("True", "RolledOut")


def test_no_rollout_ever_restarts_a_pod_in_place() -> None:
    operator = started()
    for spec in (OTHER_VERIFIER, OTHER_DRAFT, NGRAM, PAIR):
        operator.change_spec(spec)
        operator.converge()
    assert operator.cluster.restarts == 0


def test_the_drafts_of_the_old_verifier_stay_at_its_service_until_it_is_gone() -> None:
    operator = started()
    old, new = revision_of(PAIR), revision_of(OTHER_VERIFIER)
    old_service, new_service = (names.draft_service_name(NAME, revision) for revision in (old, new))
    operator.change_spec(OTHER_VERIFIER)
    operator.run()
    assert operator.cluster.ready_behind(old_service) == operator.cluster.ready_behind(new_service) == 1
    operator.converge()
    assert Ref("Service", old_service) not in operator.cluster.objects
    assert operator.cluster.ready_behind(new_service) == 1


def test_a_change_of_the_draft_alone_leaves_the_verifier_alone() -> None:
    operator = started()
    revision = serving(operator)
    service = names.draft_service_name(NAME, revision)
    before = serving(operator, service)
    operator.change_spec(OTHER_DRAFT)
    operator.deliver()
    operator.run()
    assert serving(operator, service) == before
    assert len(workloads(operator, Role.DRAFT)) == 2
    assert operator.condition(ConditionType.DRAFT_READY) == ("False", "RollingOut")
    written = operator.converge()
    assert not [step for step in written if "verifier" in step or step.endswith(f" {NAME}")]
    assert workloads(operator, Role.VERIFIER) == {revision: 1}
    assert serving(operator, service) != before
    assert len(workloads(operator, Role.DRAFT)) == 1


def test_at_no_step_of_a_draft_rollout_are_there_no_ready_drafts() -> None:
    operator = started()
    service = names.draft_service_name(NAME, serving(operator))
    operator.change_spec(OTHER_DRAFT)
    for _ in range(6):
        for _step in operator.steps():
            assert operator.cluster.ready_behind(service) >= 1
        operator.cluster.kubelet()
        operator.deliver()
    assert operator.run() == []


def test_changing_both_roles_at_once_ends_with_one_revision_of_each() -> None:
    operator = started()
    operator.change_spec(make_spec(verifier=make_role("b"), draft=make_role("c")))
    operator.converge()
    assert len(workloads(operator, Role.VERIFIER)) == len(workloads(operator, Role.DRAFT)) == 1
    assert len(operator.cluster.of_kind("Service")) == 2
    assert operator.lowest_ready == 1


def test_the_method_goes_from_remote_to_ngram_and_back() -> None:
    operator = started()
    first = operator.cluster.result()
    operator.change_spec(NGRAM)
    operator.deliver()
    operator.run()
    assert len(workloads(operator, Role.DRAFT)) == 1, "the serving verifier still asks its drafts"
    operator.converge()
    assert workloads(operator, Role.DRAFT) == {}
    assert [service["metadata"]["name"] for service in operator.cluster.of_kind("Service")] == [NAME]
    assert operator.condition(ConditionType.DRAFT_READY) == ("True", "NotUsed")
    operator.change_spec(PAIR)
    operator.converge()
    assert operator.cluster.result() == first
    assert operator.lowest_ready == 1


def test_a_spec_that_goes_back_in_the_middle_of_a_rollout_drops_the_new_revision() -> None:
    operator = started()
    before = operator.cluster.result()
    operator.change_spec(OTHER_VERIFIER)
    operator.deliver()
    operator.run()
    operator.change_spec(PAIR)
    operator.converge()
    assert operator.cluster.result() == before
    assert operator.lowest_ready == 1


def test_a_third_revision_in_the_middle_of_a_rollout_drops_the_second() -> None:
    operator = started()
    third = make_spec(verifier=make_role("third"))
    operator.change_spec(OTHER_VERIFIER)
    operator.deliver()
    operator.run()
    operator.change_spec(third)
    operator.deliver()
    operator.run()
    assert workloads(operator, Role.VERIFIER).keys() == {revision_of(PAIR), revision_of(third)}
    operator.converge()
    assert workloads(operator, Role.VERIFIER).keys() == {revision_of(third)}


def test_an_operator_with_other_defaults_restarts_nothing() -> None:
    operator = started()
    before = operator.cluster.result()
    newer = Operator(operator.cluster, PAIR, make_config(engineImages={"cpu": "newer:2"}))
    newer.deliver()
    assert newer.run() == []
    assert newer.cluster.result() == before


@pytest.mark.parametrize(
    "spec",
    [PAIR, make_spec(verifier=make_role(image=make_config().engine_images["cpu"])), UNKNOWN_CLASS],
    ids=["the same words", "other words", "refused"],
)
def test_pods_run_from_the_template_as_it_was_frozen_and_not_as_it_would_be_rendered_today(spec: Manifest) -> None:
    operator = Operator(Cluster(), PAIR, make_config(engineImageAllowList=[".*"]))
    operator.converge()
    ref = verifier_ref(revision_of(PAIR))
    today = operator.cluster.objects[ref]["spec"]["template"]
    older = copy.deepcopy(today)
    older["spec"]["terminationGracePeriodSeconds"] = 7
    operator.cluster.edit(Ref("ControllerRevision", ref.name), lambda kept: kept["data"].update(template=older))
    operator.cluster.delete(ref)
    operator.change_spec(spec)
    operator.converge()
    assert operator.cluster.objects[ref]["spec"]["template"] == older != today


def test_a_rollout_leaves_a_serving_revision_that_has_no_ready_pod_as_soon_as_one_new_pod_is_ready() -> None:
    operator = started(make_spec(verifier=make_role("a", replicas=2)))
    operator.cluster.break_pods(verifier_ref(serving(operator)))
    fixed = make_spec(verifier=make_role("b", replicas=2))
    operator.change_spec(fixed)
    operator.deliver()
    operator.run()
    broken = serving(operator)
    new = revision_of(fixed)
    operator.cluster.edit(verifier_ref(new), lambda m: m.update(status={"readyReplicas": 1, "observedGeneration": 1}))
    operator.deliver()
    operator.run()
    assert serving(operator) == new != broken


# -- history -----------------------------------------------------------------------------------------------------------


def test_the_history_of_revisions_is_pruned_from_its_old_end_and_never_what_is_in_use() -> None:
    operator = started()
    first = serving(operator)
    for number in range(REVISION_HISTORY_LIMIT + 5):
        operator.change_spec(make_spec(verifier=make_role(f"m{number}")))
        operator.converge()
    kept = [revision["revision"] for revision in operator.cluster.of_kind("ControllerRevision")]
    verifiers = [
        revision
        for revision in operator.cluster.of_kind("ControllerRevision")
        if revision["metadata"]["labels"][names.LABEL_ROLE] == "verifier"
    ]
    assert len(verifiers) == REVISION_HISTORY_LIMIT + 1
    newest = REVISION_HISTORY_LIMIT + 6
    assert sorted(r["revision"] for r in verifiers) == list(range(newest - REVISION_HISTORY_LIMIT, newest + 1))
    assert first not in {r["metadata"]["labels"][names.LABEL_REVISION] for r in verifiers}
    assert 1 in kept, "the draft's only revision is in use"


def test_a_revision_that_serves_survives_any_number_of_newer_ones_that_never_got_ready() -> None:
    operator = started()
    first = serving(operator)
    for number in range(REVISION_HISTORY_LIMIT + 5):
        operator.change_spec(make_spec(verifier=make_role(f"m{number}")))
        operator.deliver()
        operator.run()
    assert serving(operator) == first
    assert Ref("ControllerRevision", f"{NAME}-verifier-{first}") in operator.cluster.objects
    assert operator.lowest_ready == 1
