"""Single plans: what is applied under which precondition, what is deleted, and what is waited for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Facts, Ref
from tandem_operator.names import ConditionType, Reason
from tandem_operator.plan import Apply, Deletion, Plan, RolePlan, plan
from tandem_operator.rollout import Want
from tests.builders import (
    CLOCK,
    NAME,
    NAMESPACE,
    UID,
    make_pair_facts,
    make_pod,
    make_revision,
    make_role,
    make_service,
    make_spec,
    make_workload,
)

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
VERIFIER, DRAFT = make_revision(), make_revision(role=Role.DRAFT)
NEW_VERIFIER = make_revision(make_spec(verifier=make_role("new")), number=2)
NEW_DRAFT = make_revision(make_spec(draft=make_role("new")), Role.DRAFT, number=2)
CONVERGED = {Role.VERIFIER: Want(VERIFIER, 1), Role.DRAFT: Want(DRAFT, 1)}


def applied(planned: Plan, kind: str, name: str) -> Apply:
    (found,) = [apply for apply in planned.apply if Ref.of(apply.manifest) == Ref(kind, name)]
    return found


def refs(planned: Plan) -> list[Ref]:
    return [Ref.of(apply.manifest) for apply in planned.apply]


def with_workload(facts: Facts, *workloads: object) -> Facts:
    return replace(facts, workloads=(*facts.workloads, *workloads))


def test_a_converged_plan_holds_every_object_and_nothing_else() -> None:
    planned = plan(OWNER, make_pair_facts(VERIFIER, DRAFT), CONVERGED, clock=CLOCK)
    kinds = ["Deployment", "NetworkPolicy", "Service", "ServiceAccount"]
    assert sorted(ref.kind for ref in refs(planned)) == sorted(kinds * 2)
    assert planned.delete == planned.waits == planned.details == ()
    assert planned.roles == {
        Role.VERIFIER: RolePlan(VERIFIER.revision, VERIFIER.revision, 1, (VERIFIER.revision,)),
        Role.DRAFT: RolePlan(DRAFT.revision, DRAFT.revision, 1, (DRAFT.revision,)),
    }


def test_nothing_wanted_of_nothing_is_an_empty_plan() -> None:
    assert plan(OWNER, Facts(), {}, clock=CLOCK) == Plan()


def test_moving_the_service_is_bound_to_the_service_that_was_seen() -> None:
    facts = with_workload(make_pair_facts(VERIFIER, DRAFT), make_workload(Role.VERIFIER, NEW_VERIFIER.revision))
    facts = replace(facts, revisions=(*facts.revisions, NEW_VERIFIER))
    planned = plan(OWNER, facts, {**CONVERGED, Role.VERIFIER: Want(NEW_VERIFIER, 1)}, clock=CLOCK)
    service = applied(planned, "Service", NAME)
    assert service.manifest["spec"]["selector"][names.LABEL_REVISION] == NEW_VERIFIER.revision
    assert service.resource_version == "9"
    assert not [deletion for deletion in planned.delete if deletion.ref.kind == "Deployment"]
    assert any("the Service moves" in detail for detail in planned.details)


@pytest.mark.parametrize(("is_going", "selected"), [(False, NEW_VERIFIER.revision), (True, VERIFIER.revision)])
def test_a_service_without_a_ready_pod_moves_to_the_first_new_one_unless_that_is_being_deleted(
    is_going: bool, selected: str
) -> None:
    new = make_workload(Role.VERIFIER, NEW_VERIFIER.revision, wanted=2, ready=1, is_going=is_going)
    facts = with_workload(make_pair_facts(VERIFIER, DRAFT, verifier_ready=0), new)
    planned = plan(OWNER, facts, {**CONVERGED, Role.VERIFIER: Want(NEW_VERIFIER, 2)}, clock=CLOCK)
    service = applied(planned, "Service", NAME)
    assert service.manifest["spec"]["selector"][names.LABEL_REVISION] == selected


def test_moving_the_drafts_is_bound_to_the_service_that_was_seen() -> None:
    facts = with_workload(make_pair_facts(VERIFIER, DRAFT), make_workload(Role.DRAFT, NEW_DRAFT.revision))
    facts = replace(facts, revisions=(*facts.revisions, NEW_DRAFT))
    planned = plan(OWNER, facts, {**CONVERGED, Role.DRAFT: Want(NEW_DRAFT, 1)}, clock=CLOCK)
    service = applied(planned, "Service", names.draft_service_name(NAME, VERIFIER.revision))
    assert service.manifest["spec"]["selector"][names.LABEL_REVISION] == NEW_DRAFT.revision
    assert service.resource_version == "9"
    assert planned.delete == (), "the old drafts go only after the Service has really moved"


@pytest.mark.parametrize(
    ("ready", "wanted", "is_observed", "is_going"),
    [(0, 2, True, False), (1, 2, True, False), (2, 2, False, False), (1, 1, True, False), (2, 2, True, True)],
    ids=["none", "some", "old counters", "not scaled yet", "being deleted"],
)
def test_the_service_stays_while_the_new_pods_are_not_all_ready(
    ready: int, wanted: int, is_observed: bool, is_going: bool
) -> None:
    new = make_workload(
        Role.VERIFIER, NEW_VERIFIER.revision, ready=ready, wanted=wanted, is_observed=is_observed, is_going=is_going
    )
    facts = with_workload(make_pair_facts(VERIFIER, DRAFT), new)
    planned = plan(OWNER, facts, {**CONVERGED, Role.VERIFIER: Want(NEW_VERIFIER, 2)}, clock=CLOCK)
    service = applied(planned, "Service", NAME)
    assert service.manifest["spec"]["selector"][names.LABEL_REVISION] == VERIFIER.revision
    assert service.resource_version == ""
    (wait,) = planned.waits
    assert (wait.condition, wait.reason) == (ConditionType.VERIFIER_READY, Reason.ROLLING_OUT)
    assert f"{ready} of 2 pods are Ready" in wait.message
    assert planned.roles[Role.VERIFIER] == RolePlan(
        VERIFIER.revision, NEW_VERIFIER.revision, 2, counted=(VERIFIER.revision,)
    )


def test_a_deletion_names_the_very_object_that_was_seen() -> None:
    stray = make_workload(Role.VERIFIER, "deadbeef", ready=0)
    service = make_service(Role.DRAFT, DRAFT.revision, name=names.draft_service_name(NAME, "deadbeef"))
    facts = with_workload(make_pair_facts(VERIFIER, DRAFT), stray)
    facts = replace(facts, services=(*facts.services, service))
    planned = plan(OWNER, facts, CONVERGED, clock=CLOCK)
    assert set(planned.delete) == {
        Deletion(stray.ref, stray.uid, stray.resource_version),
        Deletion(service.ref, "", service.resource_version),
    }
    assert len(planned.details) == 2


def test_what_is_going_already_is_not_deleted_again() -> None:
    """Somebody's finalizer may hold it for hours; a deletion in each pass would be a write in each pass."""
    facts = with_workload(make_pair_facts(VERIFIER, DRAFT), make_workload(Role.VERIFIER, "deadbeef", is_going=True))
    assert plan(OWNER, facts, CONVERGED, clock=CLOCK).delete == ()


def test_a_pruned_revision_is_deleted_by_its_uid() -> None:
    old = tuple(
        replace(make_revision(make_spec(servedName=f"n{n}"), number=n), uid=f"uid-{n}") for n in range(100, 115)
    )
    facts = make_pair_facts(VERIFIER, DRAFT)
    planned = plan(OWNER, replace(facts, revisions=(*facts.revisions, *old)), CONVERGED, clock=CLOCK)
    assert [deletion.uid for deletion in planned.delete] == [f"uid-{n}" for n in range(104, 99, -1)]


def test_an_old_revision_on_its_way_out_is_not_scaled_up() -> None:
    facts = with_workload(
        make_pair_facts(VERIFIER, DRAFT), make_workload(Role.VERIFIER, NEW_VERIFIER.revision, ready=0)
    )
    planned = plan(OWNER, facts, {**CONVERGED, Role.VERIFIER: Want(NEW_VERIFIER, 8)}, clock=CLOCK)
    old = applied(planned, "Deployment", f"{NAME}-verifier-{VERIFIER.revision}")
    new = applied(planned, "Deployment", f"{NAME}-verifier-{NEW_VERIFIER.revision}")
    assert (old.manifest["spec"]["replicas"], new.manifest["spec"]["replicas"]) == (1, 8)


def test_without_a_want_for_drafts_those_of_a_remote_verifier_stay() -> None:
    planned = plan(OWNER, make_pair_facts(VERIFIER, DRAFT), {}, clock=CLOCK)
    assert planned.delete == ()
    assert len([ref for ref in refs(planned) if ref.kind in {"Deployment", "Service"}]) == 4


def test_every_verifier_revision_that_runs_has_drafts_to_ask() -> None:
    facts = with_workload(
        make_pair_facts(VERIFIER, DRAFT), make_workload(Role.VERIFIER, NEW_VERIFIER.revision, ready=0)
    )
    planned = plan(OWNER, facts, {**CONVERGED, Role.VERIFIER: Want(NEW_VERIFIER, 1)}, clock=CLOCK)
    for revision in (VERIFIER.revision, NEW_VERIFIER.revision):
        service = applied(planned, "Service", names.draft_service_name(NAME, revision))
        assert service.manifest["spec"]["selector"][names.LABEL_REVISION] == DRAFT.revision


def test_a_revision_is_frozen_before_its_deployment_is_made() -> None:
    planned = plan(OWNER, Facts(), CONVERGED, clock=CLOCK)
    for role, frozen in ((Role.VERIFIER, VERIFIER), (Role.DRAFT, DRAFT)):
        name = names.role_child_name(NAME, role, revision=frozen.revision)
        found = refs(planned)
        assert found.index(Ref("ControllerRevision", name)) < found.index(Ref("Deployment", name))


def test_a_new_verifier_asks_the_drafts_that_are_there_and_not_those_that_have_failed() -> None:
    failed = replace(NEW_DRAFT, failed="pod x: out of memory")
    facts = make_pair_facts(VERIFIER, DRAFT)
    facts = replace(facts, revisions=(*facts.revisions, failed))
    planned = plan(OWNER, facts, {Role.VERIFIER: Want(NEW_VERIFIER, 1), Role.DRAFT: Want(failed, 1)}, clock=CLOCK)
    service = applied(planned, "Service", names.draft_service_name(NAME, NEW_VERIFIER.revision))
    assert service.manifest["spec"]["selector"][names.LABEL_REVISION] == DRAFT.revision


@pytest.mark.parametrize("is_rolling", [False, True])
def test_a_budget_counts_the_pods_of_both_revisions_while_the_service_selects_both(*, is_rolling: bool) -> None:
    facts = with_workload(
        make_pair_facts(VERIFIER, DRAFT), make_workload(Role.VERIFIER, NEW_VERIFIER.revision, ready=0)
    )
    service = replace(facts.services[0], is_rolling=is_rolling)
    facts = replace(facts, services=(service, *facts.services[1:]))
    planned = plan(OWNER, facts, {**CONVERGED, Role.VERIFIER: Want(NEW_VERIFIER, 2)}, clock=CLOCK)
    counted = [
        applied(planned, kind, name).manifest["spec"]["selector"]
        for kind, name in (
            ("PodDisruptionBudget", names.protection_name(NAME, Role.VERIFIER)),
            ("Service", NAME),
        )
    ]
    assert counted == [{"matchLabels": counted[1]}, counted[1]]
    assert (names.LABEL_REVISION in counted[1]) is not is_rolling


@pytest.mark.parametrize("first", list(Role))
def test_the_next_pass_is_due_when_the_first_of_both_roles_has_waited_long_enough_for_room(first: Role) -> None:
    wants = {Role.VERIFIER: Want(NEW_VERIFIER, 1), Role.DRAFT: Want(NEW_DRAFT, 1)}
    since = {role: CLOCK.now - timedelta(seconds=90 if role is first else 30) for role in Role}
    waiting = tuple(
        make_pod(role, want.target.revision, is_ready=False, unschedulable="no gpu", unschedulable_since=since[role])
        for role, want in wants.items()
    )
    facts = replace(make_pair_facts(VERIFIER, DRAFT), pods=waiting)
    assert plan(OWNER, facts, wants, clock=CLOCK).due_seconds == 30
