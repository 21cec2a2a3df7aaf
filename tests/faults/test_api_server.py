"""The API server, or the way to it, is broken: nothing is lost, nothing is done twice, and the workload stays."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from deploy.local.cluster import Cluster
from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cluster import CHILD_KINDS, WATCHED
from tests.faults import actions
from tests.faults.api import kind_of, role_of
from tests.faults.case import NAME, Case
from tests.faults.requests import ApiRequest, verbs, writes

pytestmark = pytest.mark.timeout(400)
SHORT_LEASE = {"leaseSeconds": 5, "requestTimeoutSeconds": 2}
LONG_OUTAGE_SECONDS = 300


def _supervised(case: Case, condition: Callable[[], bool], what: str, *, limit_seconds: float = 180) -> int:
    """Wait, starting an operator that has ended anew as a kubelet would; how often that was."""
    restarts = 0

    def holds() -> bool:
        nonlocal restarts
        if not case.operator.is_running():
            restarts += 1
            case.start()
        return condition()

    case.wait(holds, what, limit_seconds=limit_seconds)
    return restarts


def _replicas(case: Case) -> int:
    found = [d for d in case.api.items("Deployment", case.namespace) if role_of(d)[0] == "verifier"]
    return sum(deployment["spec"]["replicas"] for deployment in found)


@pytest.mark.covers("B1")
def test_an_outage_shorter_than_the_lease_ends_no_operator_and_touches_no_pod(served: Case) -> None:
    pods = {pod["metadata"]["uid"] for pod in served.pods()}
    served.proxy.down()
    served.change({"verifier": {"replicas": 3}})
    time.sleep(6)
    served.proxy.up()
    served.settle()
    assert served.operator.is_running()
    assert pods <= {pod["metadata"]["uid"] for pod in served.pods()}


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.covers("B1")
def test_after_a_long_outage_a_restarted_operator_takes_up_what_changed_without_a_flood_of_logs(case: Case) -> None:
    case.config.update(SHORT_LEASE)
    case.start()
    case.apply()
    case.settle()
    pods = {pod["metadata"]["uid"] for pod in case.pods()}
    case.proxy.down()
    case.change({"verifier": {"replicas": 3}})
    assert case.operator.wait(limit_seconds=30) == 1
    logged = case.start().says().count("\n")
    time.sleep(LONG_OUTAGE_SECONDS)
    assert case.operator.is_running()
    assert case.operator.says().count("\n") - logged <= LONG_OUTAGE_SECONDS + 20
    case.proxy.up()
    case.settle()
    assert pods <= {pod["metadata"]["uid"] for pod in case.pods()}


@pytest.mark.campaign
@pytest.mark.covers("B2")
def test_an_api_server_without_its_etcd_is_waited_for(served: Case, cluster: Cluster) -> None:
    etcd = cluster.processes()["etcd"]
    assert etcd is not None
    os.kill(etcd.pid, signal.SIGSTOP)
    try:
        time.sleep(90)
    finally:
        os.kill(etcd.pid, signal.SIGCONT)
    served.wait(lambda: cluster.kubectl.is_answering(), "the API server's answer")
    served.change({"verifier": {"replicas": 3}})
    _supervised(served, lambda: served.says("Ready"), "Ready again")
    served.settle()
    served.api.delete("Service", served.namespace, NAME)
    served.wait(lambda: served.api.find("Service", served.namespace, NAME) is not None, "a watcher that still hears")


@pytest.mark.covers("B3")
def test_an_api_server_that_asks_to_wait_is_given_the_time_that_it_asks_for(case: Case) -> None:
    case.start()
    case.wait_resyncs(1)
    rule = case.proxy.add(writes(), actions.answer(429, retry_after_seconds=3), times=None)
    case.apply()
    case.wait(lambda: rule.applied >= 12, "writes that were refused")
    at: dict[tuple[str, str, str], list[float]] = {}
    for exchange in case.proxy.record:
        if exchange.told == 429 and exchange.request.resource not in {"events", names.PLURAL}:
            request = exchange.request
            at.setdefault((request.resource, request.name, request.subresource), []).append(exchange.at)
    gaps = [later - earlier for times in at.values() for earlier, later in pairwise(times)]
    assert gaps
    assert min(gaps) >= 2.9
    case.proxy.clear()
    case.settle()
    assert set(case.summary().made.values()) == {1}


@pytest.mark.covers("B4")
@pytest.mark.parametrize("resource", ["deployments", names.PLURAL])
def test_conflicts_in_a_row_are_read_again_and_overcome(case: Case, resource: str) -> None:
    case.start()
    rule = case.proxy.add(writes(resource=resource), actions.answer(409), times=6)
    case.apply()
    case.wait(lambda: rule.applied == 6, "six conflicts")
    case.settle()
    assert set(case.summary().made.values()) == {1}


@pytest.mark.covers("B12")
def test_a_write_that_is_refused_for_what_it_says_is_told_and_tried_again(case: Case) -> None:
    case.start()
    refused = case.proxy.add(writes(resource="deployments"), actions.answer(422), times=None)
    case.apply()
    told = case.wait_for("Ready", "False", "APIRefused")
    assert "Deployment " in told["message"]
    assert refused.applied > 0
    case.proxy.clear()
    case.settle()
    assert set(case.summary().made.values()) == {1}


@pytest.mark.campaign
@pytest.mark.covers("B5")
def test_a_third_of_all_requests_fails_and_it_gets_there(case: Case) -> None:
    chance = random.Random(7)
    case.proxy.add(writes(where=lambda _: chance.random() < 0.3), actions.answer(500), times=None)
    case.proxy.add(verbs("list", "get", where=lambda _: chance.random() < 0.3), actions.answer(503), times=None)
    case.start()
    case.apply()
    case.settle()
    case.change({"speculation": {"maxDepth": 3}})
    case.settle()
    made = case.summary().made
    revision = names.role_child_name(NAME, Role.VERIFIER, revision="*")
    assert {what: count for what, count in made.items() if count != 1} == dict.fromkeys(
        [
            ("controllerrevisions", revision),
            ("deployments", revision),
            ("services", names.draft_service_name(NAME, "*")),
        ],
        2,
    )
    case.served(most_pods=4)


@pytest.mark.covers("B5")
def test_answers_that_are_late_change_nothing(case: Case) -> None:
    case.proxy.add(writes(), actions.delay(0.5), times=None)
    case.start()
    case.apply()
    case.settle()
    assert set(case.summary().made.values()) == {1}


@pytest.mark.covers("B6")
def test_a_child_that_is_deleted_unheard_before_a_watch_expires_comes_back(served: Case) -> None:
    """By the resync: the listing after the 410 does not say what is no more."""
    everything = actions.edit_events(actions.drop(lambda _: True))
    deaf = served.proxy.add(verbs("watch", resource="services"), everything, times=None)
    served.proxy.cut()
    served.wait(lambda: deaf.applied > 0, "a watch that hears nothing")
    uid = served.api.get("Service", served.namespace, NAME)["metadata"]["uid"]
    expired = served.proxy.add(verbs("watch", resource="services"), actions.edit_events(actions.error_after(410)))
    served.api.delete("Service", served.namespace, NAME)
    served.proxy.remove(deaf)
    served.proxy.cut()
    served.wait(lambda: expired.applied > 0, "the watch that expires")

    def is_back() -> bool:
        found = served.api.find("Service", served.namespace, NAME)
        return found is not None and found["metadata"]["uid"] != uid

    _supervised(served, is_back, "the Service made again")


@pytest.mark.covers("B6", "B7")
@pytest.mark.parametrize("code", [410, 500])
@pytest.mark.parametrize("kind", [names.KIND, "Deployment"])
def test_a_watch_that_ends_with_an_error_is_taken_up_again(case: Case, *, kind: str, code: int) -> None:
    _ready_by_events_alone(case)
    resource = kind_of(kind).plural
    failing = case.proxy.add(verbs("watch", resource=resource), actions.edit_events(actions.error_after(code)))
    case.proxy.cut()
    case.wait(lambda: failing.applied > 0, "the watch that fails")
    failed = len(case.proxy.record)
    restarts = _supervised(case, lambda: _is_watched_since(case, resource, failed), f"another watch on {resource}")
    assert restarts <= 1
    if kind == names.KIND:
        case.change({"verifier": {"replicas": 3}})
        case.wait(lambda: case.says("Ready") and _replicas(case) == 3, "three verifiers")
    else:
        (name,) = [d["metadata"]["name"] for d in case.api.items(kind, case.namespace) if role_of(d)[0] == "draft"]
        case.api.delete(kind, case.namespace, name)
        case.wait(lambda: case.api.find(kind, case.namespace, name) is not None, f"{kind} {name} made again")


def _ready_by_events_alone(case: Case) -> None:
    """An operator that repeats its listings too rarely to be of help, and a deployment with nothing more to be told:
    the answer to a write of its status has the newest spec too.
    """
    case.start(resyncSeconds=600)
    case.config["resyncSeconds"] = 600
    case.apply()
    _supervised(case, lambda: case.says("Ready") and case.says("ArtifactsReady"), "Ready and the models known")


def _is_watched_since(case: Case, resource: str, begin: int) -> bool:
    """Whether the operator that runs now has read everything, and watches a resource anew."""
    record = case.proxy.record[begin:]
    is_watched = any((e.request.verb, e.request.resource) == ("watch", resource) for e in record)
    return is_watched and case.has_read_everything()


@pytest.mark.covers("B8")
def test_what_silent_watches_do_not_tell_is_found_by_the_resync(served: Case) -> None:
    silent = served.proxy.add(verbs("watch"), actions.edit_events(actions.silence_after()), times=None)
    served.proxy.cut()
    served.wait(lambda: silent.applied >= len(WATCHED), "every watch silent")
    served.change({"verifier": {"replicas": 3}})
    served.api.delete("Service", served.namespace, NAME)
    served.wait(lambda: _replicas(served) == 3, "three verifiers")
    served.wait(lambda: served.api.find("Service", served.namespace, NAME) is not None, "the Service made again")
    served.settle()


EDITS = {
    "duplicated": actions.duplicate(),
    "reordered": actions.reorder(),
    "truncated": actions.truncate_after(1),
    "dropped by half": actions.drop(lambda event: int(event["object"]["metadata"].get("resourceVersion", 0)) % 2 == 0),
}


@pytest.mark.covers("B9")
@pytest.mark.parametrize("name", EDITS)
def test_events_that_come_damaged_lead_to_the_same_end(case: Case, name: str) -> None:
    """What is dropped is found by the resync; of everything else the events alone are enough."""
    times = 8 if name == "truncated" else None
    case.proxy.add(verbs("watch"), actions.edit_events(EDITS[name]), times=times)
    if name == "dropped by half":
        case.start()
        case.apply()
        _supervised(case, lambda: case.says("Ready"), "Ready")
    else:
        _ready_by_events_alone(case)
    case.change({"speculation": {"maxDepth": 3}})
    _supervised(case, lambda: case.says("Ready"), "Ready with the other depth")
    case.served(most_pods=4)


# -- rights ----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("B12")
def test_a_right_that_is_taken_away_is_named_and_its_return_noticed(served: Case) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{served.namespace}/roles/tandem-operator"
    whole = served.api.request("GET", path)
    rules = [rule for rule in whole["rules"] if "deployments" not in rule["resources"]]
    reading = {
        "apiGroups": ["apps"],
        "resources": ["deployments", "controllerrevisions"],
        "verbs": ["get", "list", "watch"],
    }
    patch = {"rules": [*rules, reading]}
    served.api.request("PATCH", path, patch, content_type="application/merge-patch+json")
    served.change({"verifier": {"replicas": 3}})
    refused = served.wait_for("Ready", "False", "APIRefused")
    assert "cannot patch resource" in refused["message"]
    served.api.request("PATCH", path, {"rules": whole["rules"]}, content_type="application/merge-patch+json")
    served.settle()
    assert served.operator.is_running()


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.covers("B12")
def test_an_operator_without_any_right_comes_back_with_its_rights(served: Case) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{served.namespace}/rolebindings"
    binding = served.api.request("GET", f"{path}/tandem-operator")
    served.api.request("DELETE", f"{path}/tandem-operator")
    served.change({"verifier": {"replicas": 3}})
    begun = time.monotonic()
    away = lambda: time.monotonic() > begun + 180  # noqa: E731
    assert _supervised(served, away, "three minutes without rights", limit_seconds=240) <= 12
    del binding["metadata"]["resourceVersion"], binding["metadata"]["uid"]
    served.api.request("POST", path, binding)
    _supervised(served, lambda: served.says("Ready") and _replicas(served) == 3, "three verifiers")
    served.settle()


@pytest.mark.covers("B11")
def test_a_token_that_is_refused_once_ends_nothing(served: Case) -> None:
    refused = [
        served.proxy.add(verbs("watch", resource="services"), actions.answer(401)),
        served.proxy.add(writes(resource="deployments"), actions.answer(401)),
        served.proxy.add(verbs("list"), actions.answer(401)),
    ]
    served.proxy.cut()
    served.wait(lambda: refused[0].applied == 1, "the watch refused")
    served.change({"verifier": {"replicas": 3}})
    _supervised(served, lambda: served.says("Ready") and _replicas(served) == 3, "three verifiers")
    served.settle()
    assert [rule.applied for rule in refused] == [1, 1, 1]


# -- replies that are lost -------------------------------------------------------------------------------------------


@pytest.mark.covers("B13")
def test_a_write_whose_reply_is_lost_is_not_done_twice(case: Case) -> None:
    lost: set[tuple[str, str, str]] = set()

    def is_first(request: ApiRequest) -> bool:
        what = request.resource, request.name, request.subresource
        is_new = what not in lost
        lost.add(what)
        return is_new and request.resource != "events"

    case.proxy.add(writes(where=is_first), actions.lose_reply(), times=None)
    case.start()
    case.apply()
    case.settle()
    assert len(lost) > len(CHILD_KINDS)
    assert set(case.summary().made.values()) == {1}
    case.served(most_pods=2)


@pytest.mark.covers("B13")
def test_a_write_that_nobody_answers_is_sent_again(case: Case) -> None:
    case.config.update(requestTimeoutSeconds=2)
    case.proxy.add(writes(resource="deployments"), actions.black_hole(), times=2)
    case.start()
    case.apply()
    case.settle()
    assert set(case.summary().made.values()) == {1}
