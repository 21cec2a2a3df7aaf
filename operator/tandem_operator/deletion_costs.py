"""Which pods go first where a Deployment is to have fewer: those with the least to do. Pure.

A ReplicaSet deletes pods that are not Ready first, then those with the lowest deletion cost (none: 0), then by where
and how long they run. As many pods as are to go, the least loaded ones, are marked below 0. All others stay at 0, those
whose load is not known too: unknown is not idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tandem_operator.facts import PodFacts, Ref
from tandem_operator.scaling.reading import Reading

Load = tuple[float, float]
"""How much a pod has to do, to be compared with others of its Deployment; the second counts where the first ties."""


@dataclass(frozen=True)
class DeletionCost:
    """What a pod is to be marked with."""

    ref: Ref
    uid: str
    cost: int
    """0: with nothing."""


def deletion_costs_of(pods: Iterable[PodFacts], loads: Mapping[str, Load], *, fewer: int) -> tuple[DeletionCost, ...]:
    """The marks to change before `fewer` of the pods of one Deployment go; what an earlier step left is taken away.

    `loads`: by the pods' names, those alone that are new enough to go by. Without any nothing is touched.
    """
    staying = [pod for pod in pods if not pod.is_going and not pod.is_over]
    known = [pod for pod in staying if pod.is_ready and pod.ref.name in loads]
    if not known:
        return ()
    first = sorted(known, key=lambda pod: (*loads[pod.ref.name], pod.ref))[:fewer]
    costs = {pod.ref: place - len(first) for place, pod in enumerate(first)}
    wanted = [DeletionCost(pod.ref, pod.uid, costs.get(pod.ref, 0)) for pod in staying]
    return tuple(each for pod, each in zip(staying, wanted, strict=True) if pod.deletion_cost != each.cost)


def load_of(reading: Reading) -> Load:
    """Of a verifier: requests in work, then what they hold."""
    return reading.running + reading.waiting, reading.kv_usage
