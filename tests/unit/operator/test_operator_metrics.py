"""What the operator counts of itself: requests by kind and verb, failed passes by cause, waiting, renewals."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from tandem_operator.cluster import Cause, ClusterError
from tandem_operator.facts import Ref
from tandem_operator.lease import Lease, Terms
from tandem_operator.queue import Queue
from tandem_operator.reconcile import Outcome
from tandem_operator.store import Key
from tests.builders import KEY, NAMESPACE, make_child
from tests.unit.operator.fake_api_server import HANG, Answer, connect, serve
from tests.unit.operator.virtual_time import run


def counter(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"tandem_operator_{name}", labels) or 0.0


def test_requests_are_counted_by_kind_verb_and_status() -> None:
    requests = {
        ("Deployment", "apply", "200"): 2.0,
        ("Deployment", "get", "200"): 1.0,
        ("Deployment", "get", "404"): 1.0,
        ("Deployment", "list", "200"): 1.0,
        ("Deployment", "list", "none"): 1.0,
        ("Deployment", "delete", "200"): 1.0,
    }

    def counted() -> dict[tuple[str, str, str], float]:
        return {at: counter("api_requests_total", kind=at[0], verb=at[1], status=at[2]) for at in requests}

    async def main() -> None:
        async with serve() as server, connect(server, timeout_seconds=1.0) as cluster:
            before = counted()
            child = make_child("Deployment", "x")
            del child["metadata"]["resourceVersion"]
            for _ in range(2):
                await cluster.apply(child)
            await cluster.get(Ref("Deployment", "x"), NAMESPACE)
            with pytest.raises(ClusterError):
                await cluster.get(Ref("Deployment", "y"), NAMESPACE)
            await cluster.list_objects("Deployment", NAMESPACE)
            server.answer_next("GET", Answer(HANG))
            with pytest.raises(ClusterError):
                await cluster.list_objects("Deployment", NAMESPACE)
            await cluster.delete(Ref("Deployment", "x"), NAMESPACE)
            assert {at: value - before[at] for at, value in counted().items()} == requests

    run(main())


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (0, "unanswered"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "conflict"),
        (410, "refused"),
        (422, "refused"),
        (429, "throttled"),
        (500, "unavailable"),
        (503, "unavailable"),
    ],
)
def test_every_error_of_the_api_server_has_a_cause(status: int, cause: str) -> None:
    assert ClusterError(status, "x").cause == cause


def test_each_cause_of_failed_passes_and_each_outcome_is_there_from_the_start() -> None:
    told = {(sample.name, *sample.labels.values()) for family in REGISTRY.collect() for sample in family.samples}
    causes = {("tandem_operator_pass_errors_total", cause) for cause in (*Cause, "defect")}
    assert causes | {("tandem_operator_passes_total", outcome) for outcome in ("done", "error")} <= told


def test_passes_are_counted_by_outcome_and_failed_ones_by_cause_and_waiting_is_measured() -> None:
    async def process(key: Key) -> Outcome:
        if key.name == "refused":
            raise ClusterError(403, "no")
        if key.name == "broken":
            raise KeyError("x")
        return Outcome()

    async def main() -> None:
        before = {cause: counter("pass_errors_total", cause=cause) for cause in ("forbidden", "defect")}
        passes = {outcome: counter("passes_total", outcome=outcome) for outcome in ("done", "error")}
        waited = counter("queue_wait_seconds_count")
        queue = Queue(process)
        for name in ("refused", "broken", KEY.name):
            queue.add(Key(NAMESPACE, name))
        working = asyncio.create_task(queue.run())
        await asyncio.sleep(0.1)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert {cause: counter("pass_errors_total", cause=cause) - before[cause] for cause in before} == {
            "forbidden": 1.0,
            "defect": 1.0,
        }
        assert {outcome: counter("passes_total", outcome=outcome) - passes[outcome] for outcome in passes} == {
            "done": 1.0,
            "error": 2.0,
        }
        assert counter("queue_wait_seconds_count") == waited + 3

    run(main())


def test_renewals_of_the_lease_are_counted() -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            lease = Lease(cluster, NAMESPACE, identity="me", terms=Terms(15))
            await lease.acquire()
            renewed, failed = (counter("lease_renewals_total", outcome=word) for word in ("renewed", "failed"))
            keeping = asyncio.create_task(lease.keep())
            await asyncio.sleep(5)
            server.answer_next("GET", Answer(500, "{}"))
            await asyncio.sleep(2)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            assert counter("lease_renewals_total", outcome="renewed") - renewed == 2
            assert counter("lease_renewals_total", outcome="failed") - failed == 1

    run(main())
