"""Which of the troubles of a revision's pods is told: one line for one condition. Pure.

The worst one, with the name of a pod that has it and how many others do. Order and choice depend on nothing that
moves by itself, so that the line stays as it is while nothing changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tandem_contracts.launch import Role
from tandem_operator.facts import Facts, PodFacts
from tandem_operator.names import Reason


@dataclass(frozen=True)
class Trouble:
    """What keeps a revision from being Ready, if anything is known."""

    reason: Reason
    message: str = ""
    """Empty: nothing is known but that not all pods are Ready."""


def trouble_of_revision(facts: Facts, role: Role, revision: str) -> Trouble:
    """The cause to tell: what its Deployment may not create, else what its pods suffer from."""
    workload = facts.workload(role, revision)
    if workload and workload.cannot_create:
        return Trouble(Reason.FAILED_CREATE, workload.cannot_create)
    pods = [pod for pod in facts.pods_of(role, revision) if pod.trouble and not pod.is_ready]
    present = [pod for pod in pods if not pod.is_over and not pod.is_going]
    told = _worst(present or pods)
    if told:
        is_unschedulable = any(pod.unschedulable for pod in present if pod.ref.name in told)
        return Trouble(Reason.UNSCHEDULABLE if is_unschedulable else Reason.PODS_FAILING, told)
    return Trouble(Reason.PODS_NOT_READY, workload.message if workload else "")


_ORDER = (
    # What a person must mend comes before what the cluster mends, and that before what is over already.
    lambda pod: pod.is_over,
    lambda pod: pod.trouble.startswith("NodeLost"),
    lambda pod: bool(pod.unschedulable),
)


def _worst(pods: list[PodFacts]) -> str:
    if not pods:
        return ""
    shared = Counter(pod.trouble for pod in pods)
    worst = min(
        pods, key=lambda pod: (*(is_less(pod) for is_less in _ORDER), -shared[pod.trouble], pod.trouble, pod.ref)
    )
    others = shared[worst.trouble] - 1
    also = f" (and {others} other{'s' if others > 1 else ''} like it)" if others else ""
    return f"pod {worst.ref.name}{also}: {worst.trouble}"
