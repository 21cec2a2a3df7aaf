"""When what stands around a role's pods is there: before the first of them, until after the last, never in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.access import Peer
from tandem_operator.api.deployment import LLMDeployment, Owner
from tandem_operator.facts import Facts, ProtectionFacts, Ref
from tandem_operator.facts_parsing import facts_of
from tandem_operator.objects.protection import Watchers
from tandem_operator.protection_plan import ANYBODY, Protection, Served, Terms, plan_protection, terms_of
from tests.builders import NAME, NAMESPACE, UID, make_body, make_child, make_config, make_pod, make_spec, make_workload
from tests.unit.operator.rollouts import NGRAM, PAIR, started

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
ACCOUNT, POLICY, BUDGET = "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"
PAIR_OF_TWO = {Role.VERIFIER: Served(2, "v1"), Role.DRAFT: Served(2, "d1")}


def refs(protection: Protection) -> list[tuple[str, str]]:
    return [(m["kind"], m["metadata"]["labels"][names.LABEL_ROLE]) for m in protection.apply]


def deleted(protection: Protection) -> list[tuple[str, str]]:
    return [(found.ref.kind, found.role.value) for found in protection.delete]


def seen(*roles: Role) -> Facts:
    """Everything that protects these roles, as seen."""
    return Facts(
        protections=tuple(
            ProtectionFacts(Ref(kind, names.protection_name(NAME, role)), f"uid-{kind}-{role}", role)
            for role in roles
            for kind in (POLICY, BUDGET, ACCOUNT)
        )
    )


def test_both_roles_get_one_of_each() -> None:
    protection = plan_protection(OWNER, Facts(), PAIR_OF_TWO, terms=ANYBODY)
    assert refs(protection) == [(kind, role) for role in Role for kind in (ACCOUNT, POLICY, BUDGET)]
    assert (protection.delete, protection.details) == ((), ())


@pytest.mark.parametrize("replicas", [0, 1])
def test_there_is_no_budget_that_would_protect_nothing(replicas: int) -> None:
    served = {Role.VERIFIER: Served(replicas, "v1")}
    protection = plan_protection(OWNER, seen(Role.VERIFIER), served, terms=ANYBODY)
    assert refs(protection) == [(ACCOUNT, "verifier"), (POLICY, "verifier")]
    assert deleted(protection) == [(BUDGET, "verifier")]
    assert protection.details == (f"{BUDGET} {NAME}-verifier is deleted: one pod has no other to wait for",)


def test_the_protection_of_a_role_stays_until_its_last_pod_is_gone() -> None:
    served = {Role.VERIFIER: Served(2, "v1")}
    both = seen(Role.VERIFIER, Role.DRAFT)
    for left in (
        replace(both, workloads=(make_workload(Role.DRAFT, "d1"),)),
        replace(both, pods=(make_pod(Role.DRAFT, "d1", is_going=True),)),
    ):
        assert plan_protection(OWNER, left, served, terms=ANYBODY).delete == ()
    gone = replace(both, workloads=(make_workload(Role.VERIFIER, "v1"),), pods=(make_pod(Role.VERIFIER, "v1"),))
    protection = plan_protection(OWNER, gone, served, terms=ANYBODY)
    assert deleted(protection) == [(POLICY, "draft"), (BUDGET, "draft"), (ACCOUNT, "draft")]
    assert {found.uid for found in protection.delete} == {f"uid-{k}-draft" for k in (ACCOUNT, POLICY, BUDGET)}
    assert all("the last pod of its role is gone" in detail for detail in protection.details)


def test_one_of_another_name_that_is_labelled_like_ours_goes() -> None:
    stray = ProtectionFacts(Ref(BUDGET, "stray"), "uid-stray", Role.VERIFIER)
    facts = replace(seen(Role.VERIFIER), protections=(*seen(Role.VERIFIER).protections, stray))
    protection = plan_protection(OWNER, facts, PAIR_OF_TWO, terms=ANYBODY)
    assert protection.delete == (stray,)
    assert protection.details == (f"{BUDGET} stray is deleted: nothing of that name is wanted",)


def test_a_spec_that_cannot_be_read_changes_nothing_about_who_may_ask_and_repairs_the_rest() -> None:
    unknown = terms_of(None, make_config())
    protection = plan_protection(OWNER, seen(*Role), PAIR_OF_TWO, terms=unknown)
    assert (POLICY, "verifier") not in refs(protection)
    assert len(refs(protection)) == 5
    assert protection.delete == ()


def test_spec_and_configuration_reach_the_objects() -> None:
    config = make_config(prometheusNamespaces=["monitoring"], enginePullSecrets=["pull"])
    spec = make_spec(access={"allowedFrom": [{"podLabels": {"app": "web"}}]})
    terms = terms_of(LLMDeployment.parse(make_body(spec)).spec, config)
    peer = Peer(pod_labels={"app": "web"})
    assert terms == Terms(allowed_from=(peer,), watchers=Watchers(("monitoring",)), pull_secrets=("pull",))
    by_kind = {m["kind"]: m for m in plan_protection(OWNER, Facts(), PAIR_OF_TWO, terms=terms).apply}
    assert by_kind[ACCOUNT]["imagePullSecrets"] == [{"name": "pull"}]
    assert "monitoring" in str(by_kind[POLICY]["spec"]["ingress"])
    verifiers = plan_protection(OWNER, Facts(), {Role.VERIFIER: Served(1, "v1")}, terms=terms).apply[1]
    assert {"podSelector": {"matchLabels": {"app": "web"}}} in verifiers["spec"]["ingress"][0]["from"]


def test_facts_know_them_by_their_role_and_only_those_that_are_ours() -> None:
    owner = [{"uid": UID, "controller": True}]
    ours, foreign, unlabelled = (make_child(BUDGET, name) for name in ("ours", "foreign", "unlabelled"))
    ours["metadata"]["ownerReferences"] = unlabelled["metadata"]["ownerReferences"] = owner
    ours["metadata"]["labels"][names.LABEL_ROLE] = "draft"
    facts = facts_of([unlabelled, foreign, ours], owner_uid=UID)
    assert facts.protections == (ProtectionFacts(Ref(BUDGET, "ours"), "uid-of-ours", Role.DRAFT),)


# -- in a whole plan ---------------------------------------------------------------------------------------------------


def test_what_protects_a_pod_is_applied_before_the_first_object_that_makes_one() -> None:
    kinds = [apply.manifest["kind"] for apply in started().plan().apply]
    last = max(at for at, kind in enumerate(kinds) if kind in {ACCOUNT, POLICY, BUDGET})
    assert last < min(kinds.index("Deployment"), kinds.index("Service"))


def test_switching_the_drafts_off_takes_their_protection_away_after_their_pods() -> None:
    operator = started(PAIR)
    operator.change_spec(NGRAM)
    written = operator.converge()
    drafts = [step for step in written if step.startswith("deleted") and "-draft" in step]
    kinds = [step.split()[1] for step in drafts]
    assert {ACCOUNT, POLICY} <= set(kinds)
    assert kinds.index("Deployment") < min(kinds.index(ACCOUNT), kinds.index(POLICY))
    assert operator.run() == []
