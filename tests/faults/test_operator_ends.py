"""The operator itself ends, starts, or is away."""

from __future__ import annotations

import signal
import time

import pytest

from tandem_operator import names
from tests.faults import actions
from tests.faults.case import NAME, Case
from tests.faults.requests import writes

pytestmark = pytest.mark.timeout(300)


@pytest.mark.covers("A6")
def test_an_operator_that_is_stopped_in_a_pass_leaves_the_lease_free_and_no_half_status(case: Case) -> None:
    case.start()
    case.proxy.add(writes(resource="deployments"), actions.meanwhile(lambda: case.operator.send(signal.SIGTERM)))
    case.apply()
    case.wait(lambda: "deployments" in [e.request.resource for e in case.proxy.record if e.request.is_write], "a write")
    assert case.operator.wait(limit_seconds=10) == 0
    assert case.api.get("Lease", case.namespace, names.LEASE)["spec"]["holderIdentity"] == ""
    status = (case.resource() or {})["status"]
    assert status == {"observedGeneration": -1} or {"observedGeneration", "conditions"} <= status.keys(), status
    case.start()
    case.settle()


@pytest.mark.covers("A7")
def test_what_changed_while_the_operator_was_away_is_done_once_and_only_the_last_of_it(served: Case) -> None:
    served.operator.end(signal.SIGKILL)
    for replicas in (3, 4, 1):
        served.change({"verifier": {"replicas": replicas}})
    served.api.delete("Service", served.namespace, NAME)
    before = len(served.proxy.record)
    served.restart()
    served.settle()
    asked = [e.request for e in served.proxy.record[before:] if e.request.is_write and e.status < 300]
    scaled = [r.body["spec"]["replicas"] for r in asked if r.resource == "deployments" and "verifier" in r.name]
    assert scaled == [1]
    assert [r.name for r in asked if r.resource == "services"] == [NAME]


@pytest.mark.campaign
@pytest.mark.covers("A5")
def test_an_operator_that_is_killed_again_and_again_gets_there_in_the_end(case: Case) -> None:
    case.start()
    case.apply()
    for number in range(50):
        time.sleep(0.4 + 0.3 * (number % 4))  # the fault is the killing at any moment, not a wait for something
        case.restart()
    case.settle()
    summary = case.summary()
    assert set(summary.made.values()) == {1}
    assert not summary.deleted
    case.served(most_pods=2)
