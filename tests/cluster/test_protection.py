"""What stands around the pods, judged by the API server and by the pods that are there: budgets, policies, accounts."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from typing import Any

import pytest

from deploy.place import PlaceError
from tandem_contracts.ports import GRPC_PORT, HTTP_PORT, METRICS_PORT
from tests.cluster.world import World, sample
from tests.selectors import Endpoint, admits, lets_out, selects

VERIFIERS = "tandem.dev/role=verifier"
DRAFTS = "tandem.dev/role=draft"
PROTECTION = "serviceaccounts,networkpolicies,poddisruptionbudgets"
ROLE = "tandem.dev/role"
OURS = "app.kubernetes.io/managed-by=tandem-operator"
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget"


def start(world: World, **changes: Any) -> None:
    world.apply(sample("gpu-pair", **changes))
    world.wait_for("llama-70b", "Ready")


def budget_allows(world: World, count: int) -> None:
    """Wait until the disruption controller has counted that many pods that may go."""

    def is_counted() -> bool:
        found = world.get("poddisruptionbudget/llama-70b-verifier")
        status = found.get("status") or {}
        is_new = status.get("observedGeneration") == found["metadata"]["generation"]
        return bool(is_new and status["disruptionsAllowed"] == count)

    world.wait_until(is_counted, f"{count} disruptions allowed")


def evict(world: World, pod: str) -> None:
    """What a drain asks of the API server. Raises PlaceError with its answer when it refuses."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": world.namespace},
    }
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod}/eviction"
    world.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def no_more_pods(world: World) -> None:
    """Keep what goes from being replaced, until the quota is deleted."""
    hard = {"pods": "0"}
    world.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": hard}})
    world.wait_until(
        lambda: world.get("resourcequota/full").get("status", {}).get("hard") == hard, "the quota in force"
    )


def test_one_of_two_verifiers_may_be_evicted_and_the_other_one_only_when_there_are_two_again(tandem: World) -> None:
    start(tandem)
    budget_allows(tandem, 1)
    no_more_pods(tandem)
    first, second = tandem.names("pods", VERIFIERS)
    evict(tandem, first)
    with pytest.raises(PlaceError, match=REFUSED):
        evict(tandem, second)
    assert second in tandem.names("pods", VERIFIERS)
    tandem.run("delete", "resourcequota", "full")
    tandem.wait_for("llama-70b", "Ready")
    budget_allows(tandem, 1)
    evict(tandem, second)


def test_pods_that_serve_nobody_never_hold_up_a_drain(tandem: World) -> None:
    start(tandem)
    no_more_pods(tandem)
    pods = tandem.names("pods", VERIFIERS)
    for pod in pods:
        tandem.run("annotate", "pod", pod, "kwok.tandem.dev/ready=false")
    tandem.wait_for("llama-70b", "Available", status="False")
    budget_allows(tandem, 0)
    for pod in pods:
        evict(tandem, pod)


def test_a_revision_that_does_not_come_up_holds_up_no_drain_of_the_one_that_serves(tandem: World) -> None:
    start(tandem)
    serving = tandem.names("pods", VERIFIERS)
    # No node has this class, so the new pods stay unschedulable.
    verifier = sample("gpu-pair")["spec"]["verifier"]
    verifier["accelerator"] = {"classes": ["nvidia-h200-141gb"], "count": 2}
    tandem.patch("llm/llama-70b", {"spec": {"verifier": verifier, "rollout": {"strategy": "BlueGreen"}}})
    tandem.wait_until(lambda: len(tandem.names("pods", VERIFIERS)) == 4, "the pods of both revisions")
    budget_allows(tandem, 1)
    evict(tandem, serving[0])


def test_a_single_pod_has_no_budget_and_may_be_evicted(tandem: World) -> None:
    start(tandem)
    assert tandem.names("poddisruptionbudgets", OURS) == ["llama-70b-verifier"], "one draft pod has none"
    (draft,) = tandem.names("pods", DRAFTS)
    evict(tandem, draft)
    tandem.run("scale", "llm/llama-70b", "--replicas=1")
    tandem.wait_until(lambda: tandem.names("poddisruptionbudgets", OURS) == [], "no budget for one verifier")
    tandem.run("scale", "llm/llama-70b", "--replicas=3")
    tandem.wait_until(lambda: tandem.names("poddisruptionbudgets", OURS) != [], "a budget for three verifiers")


def test_policies_and_budgets_select_exactly_the_pods_of_their_role_and_deployment(tandem: World) -> None:
    second = sample("gpu-pair")
    second["metadata"]["name"] = "llama-8b"
    second["spec"]["verifier"].update(replicas=3)
    second["spec"]["verifier"]["accelerator"]["count"] = 1
    second["spec"]["draft"].update(replicas=2)
    start(tandem)
    tandem.apply(second)
    tandem.wait_for("llama-8b", "Ready")
    of_role: dict[str, set[str]] = defaultdict(set)
    pods = tandem.get("pods")["items"]
    for pod in pods:
        labels = pod["metadata"]["labels"]
        kind = f"{labels['tandem.dev/deployment']}-{labels['tandem.dev/role']}" if ROLE in labels else "inspect"
        of_role[kind].add(pod["metadata"]["name"])
    inspecting = of_role.pop("inspect", set())
    assert {name: len(found) for name, found in of_role.items()} == {
        "llama-70b-verifier": 2,
        "llama-70b-draft": 1,
        "llama-8b-verifier": 3,
        "llama-8b-draft": 2,
    }

    def selected(selector: Any) -> set[str]:
        return {pod["metadata"]["name"] for pod in pods if selects(selector, pod["metadata"]["labels"])}

    charts = tandem.get("networkpolicy/tandem-operator-artifacts")
    assert selected(charts["spec"]["podSelector"]) == inspecting
    policies = {p["metadata"]["name"]: p for p in tandem.get(f"networkpolicies -l {OURS}")["items"]}
    assert {name: selected(p["spec"]["podSelector"]) for name, p in policies.items()} == of_role
    budgets = {b["metadata"]["name"]: b for b in tandem.get(f"poddisruptionbudgets -l {OURS}")["items"]}
    assert {name: selected(b["spec"]["selector"]) for name, b in budgets.items()} == {
        name: found for name, found in of_role.items() if len(found) > 1
    }
    ends = {pod["metadata"]["name"]: Endpoint(tandem.namespace, pod["metadata"]["labels"]) for pod in pods}
    for deployment in ("llama-70b", "llama-8b"):
        verifiers, drafts = of_role[f"{deployment}-verifier"], of_role[f"{deployment}-draft"]
        may_ask = {name for name, pod in ends.items() if admits(policies[f"{deployment}-draft"], pod, port=GRPC_PORT)}
        reached = {
            name for name, pod in ends.items() if lets_out(policies[f"{deployment}-verifier"], pod, port=GRPC_PORT)
        }
        assert (may_ask, reached) == (verifiers, drafts)
        assert not any(admits(policies[f"{deployment}-draft"], pod, port=METRICS_PORT) for pod in ends.values())


def test_clients_that_are_named_reach_the_policy_without_a_restart(tandem: World) -> None:
    start(tandem)
    pods = tandem.names("pods")
    client = {"namespaceLabels": {"team": "chat"}, "podLabels": {"app": "web"}}
    tandem.patch("llm/llama-70b", {"spec": {"access": {"allowedFrom": [client]}}})

    def policy() -> Any:
        return tandem.get("networkpolicy/llama-70b-verifier")

    web = Endpoint("elsewhere", {"app": "web"}, {"team": "chat"})
    stranger = Endpoint("elsewhere", {"app": "web"}, {"team": "other"})
    assert admits(policy(), web, port=HTTP_PORT)
    tandem.wait_until(lambda: not admits(policy(), stranger, port=HTTP_PORT), "strangers shut out")
    assert admits(policy(), web, port=HTTP_PORT)
    tandem.patch("llm/llama-70b", {"spec": {"access": None}})
    tandem.wait_until(lambda: admits(policy(), stranger, port=HTTP_PORT), "everybody let in again")
    tandem.wait_for("llama-70b", "Ready")
    assert tandem.names("pods") == pods


def test_every_pod_runs_under_its_roles_account_and_has_no_token(tandem: World) -> None:
    start(tandem)
    for pod in tandem.get(f"pods -l {ROLE}")["items"]:
        labels, spec = pod["metadata"]["labels"], pod["spec"]
        assert spec["serviceAccountName"] == f"llama-70b-{labels['tandem.dev/role']}"
        assert [volume for volume in spec["volumes"] if "projected" in volume] == []
    bindings = json.loads(tandem.run("get", "rolebindings", "-o", "json"))["items"]
    subjects = {subject["name"] for binding in bindings for subject in binding.get("subjects", [])}
    assert not {"llama-70b-verifier", "llama-70b-draft"} & subjects


def _loosened(policy: Any) -> None:
    policy["spec"]["ingress"].append({})


def _tightened(policy: Any) -> None:
    policy["spec"]["ingress"][0]["from"] = [{"podSelector": {"matchLabels": {"app": "mine"}}}]


def _narrowed(policy: Any) -> None:
    expression = {"key": "app", "operator": "In", "values": ["mine"]}
    policy["spec"]["podSelector"]["matchExpressions"] = [expression]


def _automounted(account: Any) -> None:
    account["automountServiceAccountToken"] = True


def _hollowed(budget: Any) -> None:
    budget["spec"]["maxUnavailable"] = "100%"


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("networkpolicy", _loosened),
        ("networkpolicy", _tightened),
        ("networkpolicy", _narrowed),
        ("serviceaccount", _automounted),
        ("poddisruptionbudget", _hollowed),
    ],
)
def test_protection_that_somebody_weakens_is_restored_once(tandem: World, what: str, change: Any) -> None:
    start(tandem)
    name = f"{what}/llama-70b-verifier"
    before = tandem.get(name)
    changed = copy.deepcopy(before)
    change(changed)
    written = len(tandem.writes())
    tandem.run("replace", "-f", "-", stdin=json.dumps(changed))

    def is_restored() -> bool:
        there = tandem.get(name)
        kept = "automountServiceAccountToken" if what == "serviceaccount" else "spec"
        return bool(there[kept] == before[kept])

    tandem.wait_until(is_restored, f"{name} restored")
    tandem.wait_for("llama-70b", "Ready")
    writes = [w for w in tandem.writes()[written:] if w["objectRef"]["name"] == "llama-70b-verifier"]
    assert len(writes) == 1


def test_without_drafts_nothing_of_theirs_is_left_and_every_right_was_used(tandem: World) -> None:
    start(tandem)
    assert len(tandem.names(PROTECTION, f"{OURS},{DRAFTS}")) == 2
    for kind in PROTECTION.split(","):  # out of the watches' sight: only a get can tell whose it is
        name = tandem.names(kind, OURS)[0]
        tandem.run("label", f"{kind}/{name}", OURS.replace("tandem-operator", "someone"), "--overwrite")
        tandem.wait_until(lambda kind=kind, name=name: name in tandem.names(kind, OURS), f"the labels of {kind}/{name}")
    tandem.patch("llm/llama-70b", {"spec": {"speculation": {"method": "NGram"}}})
    tandem.wait_until(lambda: tandem.names(PROTECTION, f"{OURS},{DRAFTS}") == [], "the drafts' protection gone")
    tandem.run("scale", "llm/llama-70b", "--replicas=1")
    tandem.wait_until(lambda: tandem.names("poddisruptionbudgets", OURS) == [], "no budget for one verifier")
    tandem.wait_for("llama-70b", "Ready")
    used: dict[str, set[str]] = defaultdict(set)
    for event in tandem.audited():
        assert event["responseStatus"]["code"] != 403, event["requestURI"]
        if "objectRef" in event:
            used[event["objectRef"]["resource"]].add(event["verb"])
    for rule in tandem.get("role/tandem-operator")["rules"]:
        for resource in set(rule["resources"]) & set(PROTECTION.split(",")):
            # A watch is in the audit log when it ends; a server-side apply that creates is a patch there.
            assert set(rule["verbs"]) - used[resource] <= {"watch", "create"}, resource


def test_deleting_the_deployment_leaves_no_protection_behind(tandem: World) -> None:
    start(tandem)
    assert len(tandem.names(PROTECTION, OURS)) == 5
    tandem.run("delete", "llm/llama-70b", "--timeout=30s")
    tandem.wait_until(lambda: tandem.names(PROTECTION, OURS) == [], "no protection is left")
