"""Pods that do not start, are taken away, find no room or are refused: the rest goes on, and the cause is told."""

from __future__ import annotations

import pytest

from tandem_operator import names
from tests.faults.api import Manifest, is_ready, role_of
from tests.faults.case import NAME, Case, deployment, path_of
from tests.faults.pods import READY, pods_that_become, release

pytestmark = pytest.mark.timeout(400)
VERIFIERS = "tandem.dev/role=verifier"
NO_SUCH_NODE = {"verifier": {"accelerator": {"classes": ["nvidia-h200-141gb"], "count": 1}}}
OTHER_MODEL = {"verifier": {"model": {"source": {"persistentVolumeClaim": {"path": "another-model"}}}}}


def _selected(case: Case) -> str:
    service = case.api.get("Service", case.namespace, NAME)
    selected: str = service["spec"]["selector"].get(names.LABEL_REVISION, "")
    return selected


@pytest.mark.covers("W1")
@pytest.mark.parametrize("ready", ["false", "never"])
def test_verifiers_serve_without_drafts_that_never_start(case: Case, ready: str) -> None:
    with pods_that_become(case, ready, role="draft"):
        case.start()
        case.apply()
        case.wait_for("Available")
        case.wait_for("VerifierReady")
        case.wait_for("DraftReady", "False")
        case.wait_for("Ready", "False")
        case.settle(lambda: case.says("Available"))
    release(case, role="draft")
    case.settle()


@pytest.mark.covers("W2")
def test_a_verifier_that_is_evicted_is_replaced_while_another_serves(served: Case) -> None:
    pods = {pod["metadata"]["name"] for pod in served.pods(VERIFIERS)}
    evicted = min(pods)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted}}
    path = path_of("Pod", served.namespace, evicted, subresource="eviction")
    served.api.request("POST", path, eviction)

    def is_replaced() -> bool:
        now = served.pods(VERIFIERS)
        return evicted not in {pod["metadata"]["name"] for pod in now} and sum(map(is_ready, now)) == 2

    served.wait(is_replaced, "another pod in place of the evicted one")
    served.settle()
    served.served(most_pods=2)


def _is_told(case: Case, words: str) -> bool:
    return words in case.condition("VerifierReady").get("message", "")


@pytest.mark.covers("W2")
def test_a_verifier_that_its_node_has_evicted_is_named_in_the_kubelets_words_until_another_is_ready(
    served: Case,
) -> None:
    evicted = min(pod["metadata"]["name"] for pod in served.pods(VERIFIERS))
    words = "The node was low on resource: memory."
    ended = {"phase": "Failed", "reason": "Evicted", "message": words, "conditions": [_not_ready("PodFailed")]}
    with pods_that_become(served, "false", role="verifier"):
        served.api.merge("Pod", served.namespace, evicted, {"status": ended}, subresource="status")
        served.wait(lambda: _is_told(served, f"pod {evicted}: Evicted: {words}"), f"the eviction of {evicted} told")
        served.wait(lambda: len(served.pods(VERIFIERS)) == 3, "another pod in place of the evicted one")
        assert served.says("VerifierReady", "False", "PodsFailing")
        assert served.says("Available")
    release(served, role="verifier")
    served.settle()
    assert not _is_told(served, evicted)
    served.served(most_pods=3)


def _not_ready(reason: str = "") -> Manifest:
    return {"type": "Ready", "status": "False", **({"reason": reason} if reason else {})}


@pytest.mark.covers("W2")
def test_verifiers_whose_node_drops_out_are_named_with_it_and_replaced_elsewhere(served: Case) -> None:
    before = served.pods(VERIFIERS)
    node = before[0]["spec"]["nodeName"]
    for pod in before:
        if pod["spec"]["nodeName"] == node:
            _take_for_lost(served, pod)
    served.wait(lambda: _is_told(served, f": NodeLost: node {node} does not answer any more"), f"{node} told")
    path = f"/api/v1/nodes/{node}"
    taints = served.api.request("GET", path)["spec"]["taints"]
    out = {"key": "node.kubernetes.io/out-of-service", "value": "test", "effect": "NoExecute"}
    merge = "application/merge-patch+json"
    served.api.request("PATCH", path, {"spec": {"taints": [*taints, out]}}, content_type=merge)
    try:
        served.wait(
            lambda: sum(is_ready(pod) and pod["spec"]["nodeName"] != node for pod in served.pods(VERIFIERS)) == 2,
            f"two verifiers on other nodes than {node}",
        )
        served.settle()
    finally:
        served.api.request("PATCH", path, {"spec": {"taints": taints}}, content_type=merge)
    served.served(most_pods=2, keeps_serving=False)


def _take_for_lost(case: Case, pod: Manifest) -> None:
    """What the node controller writes into the pods of a node whose kubelet is silent; kwok leaves them so."""
    where = case.namespace, pod["metadata"]["name"]
    case.api.merge("Pod", *where, {"metadata": {"annotations": {READY: "never"}}})
    others = [condition for condition in pod["status"]["conditions"] if condition["type"] != "Ready"]
    case.api.merge("Pod", *where, {"status": {"conditions": [*others, _not_ready()]}}, subresource="status")


@pytest.mark.covers("W3")
def test_pods_that_find_no_node_are_told_of_and_not_multiplied(case: Case) -> None:
    case.start()
    case.apply(deployment())
    case.change(NO_SUCH_NODE)
    case.wait(lambda: "nodes are available" in case.condition("Ready").get("message", ""), "the scheduler's own words")
    case.settle(lambda: case.says("Ready", "False", "Unschedulable"))
    assert len([pod for pod in case.pods(VERIFIERS) if not is_ready(pod)]) <= 2
    case.change({"verifier": deployment()["spec"]["verifier"]})
    case.settle()
    assert len(case.pods(VERIFIERS)) == 2


@pytest.mark.covers("W6")
def test_a_quota_that_refuses_pods_is_named_and_its_end_noticed(case: Case) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    case.api.create(case.namespace, quota)
    case.wait(
        lambda: "hard" in (case.api.get("ResourceQuota", case.namespace, "few").get("status") or {}),
        "the quota counted",
    )
    case.start()
    case.apply()
    case.wait(lambda: "exceeded quota" in case.condition("Ready").get("message", ""), "the quota in the condition")
    case.api.delete("ResourceQuota", case.namespace, "few")
    case.settle(limit_seconds=240)
    assert len(case.pods(VERIFIERS)) == 2


@pytest.mark.covers("W6")
def test_a_limit_range_that_refuses_pods_is_named(case: Case) -> None:
    limit = {"type": "Container", "max": {"memory": "1Mi"}}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": [limit]}}
    case.api.create(case.namespace, limits)
    case.start()
    case.apply()
    case.wait(lambda: "memory" in case.condition("Ready").get("message", ""), "the limit in the condition")
    case.api.delete("LimitRange", case.namespace, "small")
    case.settle(limit_seconds=240)


@pytest.mark.covers("W7")
@pytest.mark.parametrize("on_failure", ["Rollback", "Hold"])
def test_a_revision_that_never_becomes_ready_is_given_up_and_the_old_one_serves(served: Case, on_failure: str) -> None:
    old = _selected(served)
    served.change({"rollout": {"progressDeadline": "12s", "onFailure": on_failure}})
    served.settle()
    with pods_that_become(served, "false", role="verifier"):
        served.change(OTHER_MODEL)
        served.wait(lambda: served.says("Ready", "False"), "the rollout under way")
        served.wait(
            lambda: served.says("Stalled") or served.says("Ready", "False", "RolloutFailed"), "the failure told"
        )
        served.settle(lambda: served.says("Available"))
        assert _selected(served) == old
    revisions = {role_of(pod)[1] for pod in served.pods(VERIFIERS) if is_ready(pod)}
    assert revisions == {old}
    served.change({"verifier": deployment()["spec"]["verifier"]})
    served.settle()
    assert _selected(served) == old
    served.served(most_pods=4)
