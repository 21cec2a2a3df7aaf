"""A stand-in for the ReplicaSet controller: which of its pods it deletes, in the order that Kubernetes documents.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-down-a-replicaset
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tandem_operator.facts import PodFacts, Ref


def deleted(pods: Iterable[PodFacts], costs: Mapping[Ref, int], *, fewer: int) -> list[PodFacts]:
    """The pods that go, the first one first: not Ready before Ready, then by cost, then the newest."""
    active = [pod for pod in pods if not pod.is_going and not pod.is_over]
    return sorted(active, key=lambda pod: (pod.is_ready, costs[pod.ref], -pod.created.timestamp(), pod.ref))[:fewer]
