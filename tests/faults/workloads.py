"""What a user does while faults strike: from what state, which change, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.faults.case import Case, deployment

OTHER_MODEL = {"model": {"source": {"persistentVolumeClaim": {"path": "another-model"}}}}


@dataclass(frozen=True)
class Workload:
    """One change and what it may cost."""

    prepare: Callable[[Case], None] | None
    """Brings about the state before; None: there is nothing."""
    act: Callable[[Case], None]
    is_done: Callable[[Case], bool]
    most_pods: int
    """Verifier pods that may be there at once."""
    keeps_serving: bool = True


def _is_ready(case: Case) -> bool:
    return case.says("Ready")


def _is_gone(case: Case) -> bool:
    return case.resource() is None and not case.children() and not case.pods()


def _are_orphans(case: Case) -> bool:
    return case.resource() is None and all("ownerReferences" not in child["metadata"] for child in case.children())


def _replaced(case: Case) -> None:
    case.delete()
    case.apply()


def _scale(replicas: int) -> Callable[[Case], None]:
    return lambda case: case.change({"verifier": {"replicas": replicas}})


def _applied(case: Case) -> None:
    case.apply()


WORKLOADS: Mapping[str, Workload] = {
    "create": Workload(None, _applied, _is_ready, most_pods=2),
    "scale-up": Workload(_applied, _scale(3), _is_ready, most_pods=3),
    "scale-down": Workload(_applied, _scale(1), _is_ready, most_pods=2),
    "model-change": Workload(_applied, lambda case: case.change({"verifier": OTHER_MODEL}), _is_ready, most_pods=4),
    "draft-change": Workload(_applied, lambda case: case.change({"draft": OTHER_MODEL}), _is_ready, most_pods=2),
    "no-drafts": Workload(
        _applied, lambda case: case.change({"speculation": {"method": "NGram"}}), _is_ready, most_pods=4
    ),
    "delete": Workload(_applied, lambda case: case.delete(), _is_gone, most_pods=2, keeps_serving=False),
    "delete-foreground": Workload(
        _applied,
        lambda case: case.delete(propagation="Foreground"),
        _is_gone,
        most_pods=2,
        keeps_serving=False,
    ),
    "delete-orphan": Workload(
        _applied, lambda case: case.delete(propagation="Orphan"), _are_orphans, most_pods=2, keeps_serving=True
    ),
    "delete-and-create": Workload(
        lambda case: case.apply(deployment()), _replaced, _is_ready, most_pods=4, keeps_serving=False
    ),
}
