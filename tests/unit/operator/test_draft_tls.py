"""`speculation.tls`: what the pods of a pair mount, which keys the operator keeps for them, what a user is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.draft_access import DraftIdentity
from tandem_contracts.launch import LaunchOptions, Role
from tandem_operator import names
from tandem_operator.api.deployment import InvalidSpecError, Owner
from tandem_operator.facts import Facts, IssuerKeys, Manifest, ProtectionFacts, Ref
from tandem_operator.inputs import is_same_request, requested_of
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.observation import Observation
from tandem_operator.plan import Plan, checks_tokens, plan
from tandem_operator.protection_plan import ANYBODY, Served, plan_protection
from tandem_operator.rollout import Want
from tandem_operator.status import status_of
from tests.builders import (
    CLOCK,
    NAME,
    NAMESPACE,
    UID,
    make_deployment,
    make_inputs,
    make_pair_facts,
    make_revision,
    make_spec,
)
from tests.pod_security import violations_beyond_restricted, violations_of_restricted
from tests.unit.operator.golden import golden_difference

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
SECRET = {"secretName": "drafts-tls"}
ISSUER = {"certManager": {"issuerRef": {"name": "drafts-ca", "kind": "ClusterIssuer"}}}
SOURCES = {"secret": SECRET, "issuer": ISSUER}
KEYS = IssuerKeys("https://issuer", '{"keys": [1]}')
MAP = Ref("ConfigMap", "pair-draft")


def secured(tls: Manifest, method: str = "Remote") -> Manifest:
    return make_spec(speculation={"method": method, "maxDepth": 4, "tls": tls})


def pod_of(role: Role, tls: Manifest = SECRET) -> Manifest:
    found: Manifest = pod_template_of(OWNER, make_inputs(secured(tls), role))["spec"]
    return found


def options_of(role: Role) -> LaunchOptions:
    return LaunchOptions.parse(pod_of(role)["containers"][0]["args"])


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [{}, {**SECRET, **ISSUER}], ids=["none", "both"])
def test_exactly_one_source_of_certificates_is_required(tls: Manifest) -> None:
    with pytest.raises(
        InvalidSpecError, match=r"spec\.speculation\.tls: exactly one source is required: certManager or"
    ):
        make_deployment(secured(tls))


@pytest.mark.parametrize("kind", ["", "Cluster Issuer", "../Issuer", "Issuer\n", "1ssuer"])
def test_what_becomes_an_attribute_of_a_volume_is_a_kind_and_nothing_else(kind: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"spec.speculation.tls.certManager.issuerRef.kind"):
        make_deployment(secured({"certManager": {"issuerRef": {"name": "a", "kind": kind}}}))


# -- pods --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_both_roles_mount_what_they_need_as_reviewed(source: str) -> None:
    shown = [
        {
            "role": role.value,
            "args": [arg for arg in pod["containers"][0]["args"] if "identity" in arg],
            "ports": pod["containers"][0]["ports"],
            "readinessProbe": pod["containers"][0]["readinessProbe"],
            "volumes": [each for each in pod["volumes"] if each["name"].startswith("draft-")],
            "volumeMounts": [
                each for each in pod["containers"][0]["volumeMounts"] if each["name"].startswith("draft-")
            ],
        }
        for role, pod in ((role, pod_of(role, SOURCES[source])) for role in Role)
    ]
    difference = golden_difference(f"draft-tls-{source}", shown)
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


def test_verifiers_start_without_the_secret_and_drafts_do_not() -> None:
    optional = {
        role: volume["secret"].get("optional", False)
        for role in Role
        for volume in pod_of(role)["volumes"]
        if "secret" in volume
    }
    assert optional == {Role.VERIFIER: True, Role.DRAFT: False}


def test_a_private_key_reaches_draft_pods_alone() -> None:
    assert "tls.key" in str(pod_of(Role.DRAFT)["volumes"])
    assert "tls.key" not in str(pod_of(Role.VERIFIER)["volumes"])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("role", Role)
def test_the_pods_are_restricted_and_more(role: Role, source: str) -> None:
    pod = pod_of(role, SOURCES[source])
    assert violations_of_restricted(pod) == violations_beyond_restricted(pod) == []


def test_the_token_that_is_shown_is_the_one_that_is_expected() -> None:
    (volume,) = [each for each in pod_of(Role.VERIFIER)["volumes"] if "projected" in each]
    (source,) = volume["projected"]["sources"]
    identity = DraftIdentity.parse(options_of(Role.DRAFT).draft_identity)
    assert source["serviceAccountToken"]["audience"] == identity.audience
    account = pod_of(Role.VERIFIER)["serviceAccountName"]
    assert identity.subject == f"system:serviceaccount:{NAMESPACE}:{account}"
    assert options_of(Role.VERIFIER).draft_identity == str(identity)


# -- revisions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_certificates_make_other_pods_and_other_certificates_other_ones_again(role: Role) -> None:
    revisions = {make_inputs(spec, role).revision for spec in (make_spec(), secured(SECRET), secured(ISSUER))}
    assert len(revisions) == 3


def test_certificates_that_no_draft_pod_uses_change_no_verifier() -> None:
    plain = make_spec(speculation={"method": "NGram", "maxDepth": 4})
    assert make_inputs(secured(SECRET, "NGram")).revision == make_inputs(plain).revision


def test_a_revision_of_an_operator_that_knew_no_certificates_stays() -> None:
    before = requested_of(make_deployment(), Role.VERIFIER)
    assert "draftTls" not in before
    assert is_same_request(before, requested_of(make_deployment(make_spec()), Role.VERIFIER))
    assert not is_same_request(before, requested_of(make_deployment(secured(SECRET)), Role.VERIFIER))
    assert "draft_tls" not in make_inputs().as_data()


# -- keys --------------------------------------------------------------------------------------------------------------


def wants(spec: Manifest) -> dict[Role, Want]:
    return {role: Want(make_revision(spec, role), 1) for role in Role}


def planned(facts: Facts, spec: Manifest) -> Plan:
    return plan(OWNER, facts, wants(spec), clock=CLOCK)


def keys_of(made: Plan) -> list[Manifest]:
    return [apply.manifest for apply in made.apply if apply.manifest["kind"] == "ConfigMap"]


def test_the_published_keys_are_there_before_the_draft_pods() -> None:
    made = planned(Facts(issuer_keys=KEYS), secured(SECRET))
    (config_map,) = keys_of(made)
    assert config_map["data"] == {"issuer": "https://issuer", "jwks.json": '{"keys": [1]}'}
    (mounted,) = [volume["configMap"] for volume in pod_of(Role.DRAFT)["volumes"] if "configMap" in volume]
    assert (config_map["metadata"]["name"], MAP.name) == (mounted["name"], mounted["name"])
    assert mounted["optional"] is True
    kinds = [apply.manifest["kind"] for apply in made.apply]
    assert kinds.index("ConfigMap") < kinds.index("Deployment")


def test_without_certificates_there_are_no_keys() -> None:
    assert keys_of(planned(Facts(issuer_keys=KEYS), make_spec())) == []


def test_keys_are_needed_as_long_as_a_pod_checks_tokens() -> None:
    old = make_pair_facts(*(make_revision(secured(SECRET), role) for role in Role))
    assert checks_tokens(Facts(), wants(secured(SECRET)))
    assert checks_tokens(old, wants(make_spec())), "the old pods are there yet"
    assert checks_tokens(old, {}), "the spec is refused"
    assert not checks_tokens(replace(old, workloads=()), wants(make_spec())), "a revision of the history has no pods"


@pytest.mark.parametrize(
    ("needs", "keys", "applied", "deleted"),
    [
        (True, KEYS, True, False),
        (True, IssuerKeys(problem="503"), False, False),
        (False, IssuerKeys(), False, True),
    ],
    ids=["known", "unknown", "not needed"],
)
def test_keys_that_were_read_once_stay_until_others_are_read_or_nobody_needs_any(
    needs: bool, keys: IssuerKeys, applied: bool, deleted: bool
) -> None:
    facts = Facts(protections=(ProtectionFacts(MAP, "uid", Role.DRAFT),), issuer_keys=keys)
    protection = plan_protection(OWNER, facts, {Role.DRAFT: Served(1, "d1", checks_tokens=needs)}, terms=ANYBODY)
    assert (MAP in map(Ref.of, protection.apply)) is applied
    assert (MAP in [found.ref for found in protection.delete]) is deleted
    if deleted:
        assert protection.details == ("ConfigMap pair-draft is deleted: nothing of that name is wanted",)


# -- what a user is told -----------------------------------------------------------------------------------------------


def told(spec: Manifest, *, keys: IssuerKeys = KEYS, **parts: Any) -> tuple[str, str, str] | None:
    facts = replace(make_pair_facts(*(make_revision(spec, role) for role in Role)), issuer_keys=keys, **parts)
    observation = Observation(name=NAME, generation=1, facts=facts, plan=planned(facts, spec))
    status = status_of(observation, previous={}, now=CLOCK.now)
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True", "how drafts are asked is no reason not to serve"
    found = [c for c in status["conditions"] if c["type"] == "DraftTransportSecure"]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


THERE = (ProtectionFacts(MAP, "uid", Role.DRAFT),)


def test_plaintext_is_told() -> None:
    found = told(make_spec())
    assert found is not None
    assert found[:2] == ("False", "DraftTransportPlaintext")
    assert "a NetworkPolicy alone says who may ask" in found[2]


def test_tls_with_keys_is_told() -> None:
    found = told(secured(SECRET), protections=THERE)
    assert found is not None
    assert found[:2] == ("True", "DraftTransportTLS")
    stale = told(secured(SECRET), protections=THERE, keys=replace(KEYS, problem="403: forbidden"))
    assert stale is not None
    assert stale[0] == "True"
    assert stale[2].endswith("its keys could not be read anew: 403: forbidden")


def test_keys_that_are_missing_are_told_with_why() -> None:
    assert told(secured(SECRET), keys=IssuerKeys(problem="403: forbidden")) == (
        "False",
        "DraftKeysUnavailable",
        "draft pods answer nobody until the API server's keys can be read: 403: forbidden",
    )


def test_where_no_draft_pods_are_there_is_nothing_to_tell() -> None:
    spec = make_spec(draft=None, speculation={"method": "NGram"})
    verifier = make_revision(spec)
    facts = make_pair_facts(verifier, make_revision(role=Role.DRAFT))
    facts = replace(facts, workloads=facts.workloads[:1], services=facts.services[:1], revisions=(verifier,))
    made = plan(OWNER, facts, {Role.VERIFIER: Want(verifier, 1)}, clock=CLOCK)
    status = status_of(Observation(NAME, 1, facts, made), previous={}, now=CLOCK.now)
    assert names.ConditionType.DRAFT_TRANSPORT_SECURE not in {c["type"] for c in status["conditions"]}
