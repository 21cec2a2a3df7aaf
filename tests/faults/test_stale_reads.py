"""Reads of an earlier time: what a list or a watch says may come from a cache that is behind."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tandem_operator import names
from tandem_operator.cluster import WATCHED
from tests.faults import actions
from tests.faults.api import kind_of
from tests.faults.case import Case
from tests.faults.requests import verbs

pytestmark = pytest.mark.timeout(400)

CHANGES: dict[str, dict[str, Any]] = {
    "a rollout": {"verifier": {"model": {"source": {"persistentVolumeClaim": {"path": "another-model"}}}}},
    "a scale-up": {"verifier": {"replicas": 4}},
}
STALE = {
    "everything": tuple(WATCHED),
    "the resource": (names.KIND,),
    "the children": tuple(kind for kind in WATCHED if kind != names.KIND),
}


def _verifiers(case: Case) -> set[str]:
    return {pod["metadata"]["name"] for pod in case.pods("tandem.dev/role=verifier")}


def _alone(case: Case) -> set[str]:
    """The verifier pods of a settled deployment, once the garbage collector has taken those of earlier revisions."""
    replicas = (case.resource() or {})["spec"]["verifier"]["replicas"]
    case.wait(lambda: len(_verifiers(case)) == replicas, f"{replicas} verifier pods; there are {_verifiers(case)}")
    return _verifiers(case)


@pytest.mark.covers("B10")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stale", STALE)
def test_an_operator_that_first_reads_an_earlier_state_takes_no_pod_away(
    served: Case, *, change: str, stale: str
) -> None:
    selectors = {kind: WATCHED[kind] for kind in STALE[stale]}
    before = {
        kind_of(kind).plural: served.api.listing(kind, served.namespace, selector)
        for kind, selector in selectors.items()
    }
    served.change(CHANGES[change])
    served.settle()
    kept = _alone(served)
    served.operator.end(signal.SIGKILL)
    is_old = lambda request: request.resource in before  # noqa: E731
    # What a list or a watch says may come from a cache that is behind; a get of one object never does.
    reads = served.proxy.add(verbs("list", where=is_old), actions.from_snapshot(before), times=None)
    silence = actions.edit_events(actions.silence_after())
    watches = served.proxy.add(verbs("watch", where=is_old), silence, times=None)
    served.restart()
    served.wait_resyncs(3)
    served.proxy.remove(reads, watches)
    served.proxy.cut()
    served.settle()
    assert kept == _alone(served)
    served.served(most_pods=6)
