"""Two operators, a user, another controller: all of them at the same objects at the same time."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tandem_operator import names
from tests.faults import actions
from tests.faults.api import role_of
from tests.faults.case import NAME, Case, deployment
from tests.faults.requests import ApiRequest, writes

pytestmark = pytest.mark.timeout(400)
SHORT_LEASE = {"leaseSeconds": 5, "requestTimeoutSeconds": 2}


def _verifiers(case: Case) -> list[dict[str, Any]]:
    return [d for d in case.api.items("Deployment", case.namespace) if role_of(d)[0] == "verifier"]


def _replicas(case: Case) -> int:
    return sum(verifier["spec"]["replicas"] for verifier in _verifiers(case))


@pytest.mark.covers("C1")
def test_of_two_operators_one_works(case: Case, pytestconfig: pytest.Config) -> None:
    first, second = case.start(), case.start()
    for number in range(19 if pytestconfig.getoption("--campaign") else 3):
        made = deployment(speculation={"method": "NGram"})
        made["metadata"]["name"] = f"model-{number}"
        made["spec"]["verifier"]["replicas"] = 1
        case.apply(made)
    case.apply()
    case.settle()
    assert set(case.summary().made.values()) == {1}
    case.change({"speculation": {"maxDepth": 3}})
    case.settle()
    case.served(most_pods=4)
    assert sum("this operator leads" in operator.says() for operator in (first, second)) == 1


@pytest.mark.covers("C2")
def test_a_write_of_a_suspended_leader_that_arrives_late_does_not_last(case: Case) -> None:
    case.config.update(SHORT_LEASE)
    first = case.start()
    case.apply()
    case.settle()
    case.proxy.add(writes(resource="deployments"), actions.before(lambda: first.send(signal.SIGSTOP)))
    case.change({"verifier": {"replicas": 3}})
    case.wait(lambda: any(e.told == 502 for e in case.proxy.record), "the write that was on its way")
    second = case.start()
    case.wait(lambda: "this operator leads" in second.says(), "the second operator leads")
    case.change({"verifier": {"replicas": 1}})
    case.settle()
    first.send(signal.SIGCONT)
    assert first.wait(limit_seconds=30) == 1
    case.settle()
    assert _replicas(case) == 1


@pytest.mark.covers("C3")
@pytest.mark.parametrize("patch", [None, {"spec": {"holderIdentity": "somebody-else"}}], ids=["deleted", "taken"])
def test_a_lease_that_somebody_tampers_with_is_won_again(case: Case, patch: dict[str, Any] | None) -> None:
    case.config.update(SHORT_LEASE)
    case.start()
    case.apply()
    case.settle()
    if patch is None:
        case.api.delete("Lease", case.namespace, names.LEASE)
    else:
        case.api.merge("Lease", case.namespace, names.LEASE, patch)
        assert case.operator.wait(limit_seconds=30) == 1
        case.start()
    case.change({"verifier": {"replicas": 3}})
    case.settle()


@pytest.mark.covers("C4")
def test_a_spec_that_changes_before_each_write_ends_at_the_last_one_and_is_never_claimed_early(case: Case) -> None:
    depths = [1, 2, 3, 4]
    asked: dict[int, int] = {}
    claimed: list[tuple[int, int]] = []

    def edit() -> None:
        depth = depths.pop()
        written = case.api.merge(names.KIND, case.namespace, NAME, {"spec": {"speculation": {"maxDepth": depth}}})
        asked[written["metadata"]["generation"]] = depth

    def look(request: ApiRequest) -> bool:
        """What serves at the moment in which a status says that its generation does."""
        conditions = request.body["status"]["conditions"]
        generation = request.body["status"]["observedGeneration"]
        is_claim = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if is_claim and generation in asked:
            claimed.append((asked[generation], _serving_depth(case)))
        return False

    case.proxy.add(writes(resource=names.PLURAL, subresource="status", where=look), actions.reset(), times=None)
    case.proxy.add(writes(resource="controllerrevisions"), actions.meanwhile(edit), first=2, times=4)
    case.start()
    case.apply()
    case.wait(lambda: not depths, "four edits")
    case.settle()
    assert claimed
    assert [depth for depth, _ in claimed] == [serving for _, serving in claimed]
    assert claimed[-1][0] == 1


def _serving_depth(case: Case) -> int:
    """The depth with which the revision that the Service selects was made."""
    selector = case.api.get("Service", case.namespace, NAME)["spec"]["selector"]
    name = f"{NAME}-verifier-{selector[names.LABEL_REVISION]}"
    depth: int = case.api.get("ControllerRevision", case.namespace, name)["data"]["resolved"]["max_depth"]
    return depth


@pytest.mark.covers("C5")
def test_a_scaler_of_the_user_s_is_followed_with_one_write_for_each_change_and_never_overruled(served: Case) -> None:
    for replicas in (3, 1, 4):
        before = len(served.proxy.record)
        scale = {"spec": {"replicas": replicas}}
        served.api.merge(names.KIND, served.namespace, NAME, scale, subresource="scale")
        served.settle()
        asked = [e.request for e in served.proxy.record[before:] if e.request.is_write]
        assert [r.body["spec"]["replicas"] for r in asked if r.resource == "deployments"] == [replicas]
        assert not [r for r in asked if r.resource == names.PLURAL and r.subresource != "status"]
        resource = served.resource()
        assert resource is not None
        assert resource["spec"]["verifier"]["replicas"] == replicas


@pytest.mark.campaign
@pytest.mark.covers("C6")
def test_a_deployment_that_is_deleted_before_any_of_its_writes_leaves_nothing(case: Case) -> None:
    case.start()
    number, is_reached = 0, True
    while is_reached:
        number += 1
        rule = case.proxy.add(writes(), actions.meanwhile(case.delete), first=number)
        case.apply()
        case.wait(lambda: bool(rule.applied) or case.says("Ready"), f"write no. {number}")  # noqa: B023
        is_reached = bool(rule.applied)
        case.proxy.clear()
        case.delete()
        case.wait(lambda: not case.children() and not case.pods(), f"nothing left after write no. {number}")
    assert number > 5
    case.settle(lambda: not case.children())


@pytest.mark.covers("C6")
def test_a_deployment_that_is_deleted_while_its_pods_are_made_leaves_nothing(case: Case) -> None:
    case.start()
    case.proxy.add(writes(resource="deployments"), actions.meanwhile(case.delete))
    case.apply()
    case.settle(lambda: case.resource() is None and not case.children() and not case.pods())


@pytest.mark.covers("C7")
def test_a_deployment_that_is_made_again_at_once_gets_children_of_its_own(served: Case) -> None:
    for _ in range(3):
        served.delete()
        served.apply()
    served.settle()
    resource = served.resource()
    assert resource is not None
    owners = {child["metadata"]["ownerReferences"][0]["uid"] for child in served.children()}
    assert owners == {resource["metadata"]["uid"]}
