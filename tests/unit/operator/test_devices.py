"""Claimed classes: a ResourceClaimTemplate, frozen with its revision, there before its pods and gone after them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import Owner
from tandem_operator.cli.plan import plan_of
from tandem_operator.cluster import KINDS, WATCHED, RefusedError, watched_of
from tandem_operator.drift import needs_apply
from tandem_operator.facts import ClaimFacts, Facts, Manifest, Ref, RevisionFacts, WorkloadFacts
from tandem_operator.facts_parsing import facts_of
from tandem_operator.objects.devices import claim_template_of
from tandem_operator.objects.revision import revision_object_of
from tandem_operator.plan import plan
from tandem_operator.reconcile import Reconciler
from tandem_operator.rollout import Want
from tandem_operator.store import Store
from tests.builders import (
    CLOCK,
    KEY,
    NAME,
    NAMESPACE,
    UID,
    make_body,
    make_config,
    make_revision,
    make_role,
    make_service,
    make_spec,
    make_workload,
)
from tests.unit.operator.fake_api_server import Answer, connect, serve
from tests.unit.operator.golden import golden_difference
from tests.unit.operator.virtual_time import run

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
CLAIMED = {name: {"allocation": "ResourceClaim"} for name in ("nvidia-h100-80gb", "nvidia-l40s-48gb")}


def on(*classes: str, count: int = 1) -> Manifest:
    return make_spec(verifier=make_role(classes=classes, count=count), draft=None, speculation={"method": "Off"})


def planned(spec: Manifest, **accelerators: Any) -> list[Manifest]:
    config = make_config(accelerators={**CLAIMED, **accelerators})
    return [apply.manifest for apply in plan_of(make_body(spec), config).apply]


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def test_a_claim_and_what_a_pod_says_of_it_are_as_reviewed() -> None:
    manifests = planned(on("nvidia-h100-80gb", "nvidia-l40s-48gb", count=2))
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    shown = {
        "template": of_kind(manifests, "ResourceClaimTemplate")["spec"],
        "container": pod["containers"][0]["resources"]["claims"],
        "affinity": pod["affinity"],
    }
    difference = golden_difference("claim", [shown])
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


def test_a_claim_asks_for_exactly_so_many_devices_of_the_class_that_the_selectors_describe() -> None:
    template = of_kind(planned(on("nvidia-h100-80gb", count=2)), "ResourceClaimTemplate")
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "gpu.nvidia.com"
    assert (request["exactly"]["allocationMode"], request["exactly"]["count"]) == ("ExactCount", 2)
    expression = "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA H100 80GB HBM3'"
    assert request["exactly"]["selectors"] == [{"cel": {"expression": expression}}]


def test_selectors_may_ask_for_capacity_and_be_left_out() -> None:
    enough = "device.capacity['npu.example.com'].memory.compareTo(quantity('40Gi')) >= 0"
    npu = {"resource": "example.com/npu", "allocation": "ResourceClaim", "deviceClass": "npu", "quantity": "2"}
    image = {"engineImage": "cpu"}
    asked = of_kind(
        planned(on("npu", count=3), npu={**npu, **image, "deviceSelectors": [enough]}), "ResourceClaimTemplate"
    )
    (request,) = asked["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["selectors"] == [{"cel": {"expression": enough}}]
    assert request["exactly"]["count"] == 6
    bare = of_kind(planned(on("npu"), npu={**npu, **image}), "ResourceClaimTemplate")
    assert "selectors" not in bare["spec"]["spec"]["devices"]["requests"][0]["exactly"]


def test_of_several_classes_the_claim_takes_the_first_that_is_available() -> None:
    template = of_kind(planned(on("nvidia-l40s-48gb", "nvidia-h100-80gb")), "ResourceClaimTemplate")
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert [each["name"] for each in request["firstAvailable"]] == ["nvidia-l40s-48gb", "nvidia-h100-80gb"]
    assert len({each["selectors"][0]["cel"]["expression"] for each in request["firstAvailable"]}) == 2


def test_a_pod_names_the_claim_of_its_own_revision_and_asks_for_no_extended_resource() -> None:
    manifests = planned(on("nvidia-h100-80gb", count=2))
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    name = of_kind(manifests, "ResourceClaimTemplate")["metadata"]["name"]
    assert pod["resourceClaims"] == [{"name": "accelerator", "resourceClaimTemplateName": name}]
    assert name == of_kind(manifests, "Deployment")["metadata"]["name"]
    (container,) = pod["containers"]
    assert container["resources"]["claims"] == [{"name": "accelerator"}]
    assert "nvidia.com/gpu" not in {**container["resources"]["requests"], **container["resources"]["limits"]}
    assert container["resources"]["requests"]["memory"] == "32Gi"


def test_a_claim_is_there_before_its_pods_and_after_the_revision_that_freezes_it() -> None:
    kinds = [manifest["kind"] for manifest in planned(on("nvidia-h100-80gb"))]
    assert kinds.index("ControllerRevision") < kinds.index("ResourceClaimTemplate") < kinds.index("Deployment")


def test_a_class_that_is_not_claimed_has_nothing_of_it() -> None:
    manifests = planned(on("nvidia-h200-141gb"))
    assert "ResourceClaimTemplate" not in {manifest["kind"] for manifest in manifests}
    assert "resourceClaims" not in of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    assert "claim" not in of_kind(manifests, "ControllerRevision")["data"]


def test_a_claim_is_frozen_and_comes_back_as_it_was() -> None:
    frozen = make_revision(on("nvidia-h100-80gb"), accelerators=CLAIMED)
    stored = revision_object_of(OWNER, frozen)
    (thawed,) = facts_of([{**stored, "metadata": {**stored["metadata"], "uid": "u"}}], owner_uid=UID).revisions
    assert thawed.claim == frozen.claim != {}
    assert claim_template_of(OWNER, thawed) == claim_template_of(OWNER, frozen)


def test_what_the_api_server_adds_to_a_claim_is_no_drift() -> None:
    wanted = claim_template_of(OWNER, make_revision(on("nvidia-h100-80gb"), accelerators=CLAIMED))
    there = {**wanted, "metadata": {**wanted["metadata"], "uid": "u", "resourceVersion": "5"}}
    assert not needs_apply(wanted, there)


def test_a_claim_template_is_seen_and_goes_with_its_revision() -> None:
    old = make_revision(on("nvidia-h100-80gb"), accelerators=CLAIMED)
    other = make_revision(on("nvidia-l40s-48gb"), accelerators=CLAIMED)
    seen = claim_template_of(OWNER, replace(old, revision="0ld0ld00"))
    seen["metadata"]["uid"] = "uid-of-it"
    facts = facts_of([seen], owner_uid=UID)
    (claim,) = facts.claims
    assert (claim.role, claim.revision, claim.uid) == (Role.VERIFIER, "0ld0ld00", "uid-of-it")
    assert other.claim != old.claim
    assert facts_of([seen], owner_uid="somebody else's").claims == ()


def test_claims_are_watched_only_where_a_class_uses_them() -> None:
    assert watched_of(table_of(make_config())) == WATCHED
    assert names.CLAIM_TEMPLATE_KIND not in WATCHED
    watched = watched_of(table_of(make_config(accelerators=CLAIMED)))
    assert watched.keys() - WATCHED.keys() == {names.CLAIM_TEMPLATE_KIND}
    assert (
        KINDS[names.CLAIM_TEMPLATE_KIND].path("chat")
        == "/apis/resource.k8s.io/v1/namespaces/chat/resourceclaimtemplates"
    )


def test_a_template_stays_as_long_as_its_revision_is_in_use_and_then_goes() -> None:
    old = make_revision(on("nvidia-h100-80gb"), accelerators=CLAIMED)
    new = make_revision(on("nvidia-l40s-48gb"), number=2, accelerators=CLAIMED)

    def facts(*workloads: WorkloadFacts) -> Facts:
        name = names.role_child_name(NAME, Role.VERIFIER, revision=old.revision)
        claim = ClaimFacts(Ref("ResourceClaimTemplate", name), "uid-of-it", Role.VERIFIER, old.revision)
        service = make_service(Role.VERIFIER, new.revision)
        return Facts(revisions=(old, new), workloads=workloads, services=(service,), claims=(claim,))

    def deleted(seen: Facts, target: RevisionFacts) -> list[str]:
        found = plan(OWNER, seen, {Role.VERIFIER: Want(target, 1)}, clock=CLOCK).delete
        return [deletion.uid for deletion in found if deletion.ref.kind == "ResourceClaimTemplate"]

    assert deleted(facts(make_workload(Role.VERIFIER, new.revision)), new) == ["uid-of-it"]
    serving = replace(
        facts(make_workload(Role.VERIFIER, old.revision)), services=(make_service(Role.VERIFIER, old.revision),)
    )
    assert deleted(serving, old) == []
    assert deleted(serving, new) == []


@pytest.mark.parametrize("status", [403, 404])
def test_an_api_server_without_claims_stops_only_those_who_need_them(status: int) -> None:
    config = make_config(accelerators=CLAIMED)
    kinds = set(watched_of(table_of(config)))

    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            reconciler = Reconciler(cluster, Store(), config=config)
            server.put(KINDS[names.KIND].path(NAMESPACE, NAME), make_body(on("nvidia-h200-141gb")))
            for read in (reconciler.fill, reconciler.resync):
                seen = len(server.requests)
                server.answer_next("GET", Answer(status, '{"message": "no"}'), about="/resourceclaimtemplates")
                assert KEY in await read(NAMESPACE)
                assert {r.path for r in server.requests[seen:]} >= {KINDS[kind].path(NAMESPACE) for kind in kinds}
            await reconciler.run(KEY)
            assert any("/deployments/" in path for path in server.objects)

    run(main())


def test_a_kind_that_every_deployment_needs_is_not_done_without() -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            reconciler = Reconciler(cluster, Store(), config=make_config(accelerators=CLAIMED))
            server.answer_next("GET", Answer(403, '{"message": "no"}'), about="/deployments")
            with pytest.raises(RefusedError):
                await reconciler.fill(NAMESPACE)

    run(main())
