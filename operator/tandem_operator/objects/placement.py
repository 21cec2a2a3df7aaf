"""Where the pods of a revision may run: one node affinity over its accelerator classes, and the taints they tolerate.

Pure. Knows labels and taints only; how a container asks for the accelerator itself is `devices`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.config import Capacity
from tandem_operator.facts import Manifest


def placement_of(accelerators: Sequence[AcceleratorClass]) -> Manifest:
    """`affinity` and `tolerations` of a pod that may run on any of these classes, the earlier the better.

    Keys that would be empty are left out.
    """
    placement: dict[str, Any] = {}
    if affinity := _node_affinity(accelerators):
        placement["affinity"] = {"nodeAffinity": affinity}
    if tolerations := _tolerations(accelerators):
        placement["tolerations"] = tolerations
    return placement


def _node_affinity(accelerators: Sequence[AcceleratorClass]) -> Manifest:
    """Required: a node of any class. Preferred: the classes by weight, as far apart as weights can be, since other
    plugins of the scheduler add scores of their own; the last class needs none.
    """
    affinity: Manifest = {}
    allowed = [_alternatives(accelerator, with_labels=not accelerator.is_claimed) for accelerator in accelerators]
    if all(allowed):  # a class without a term may be on any node
        terms = [term for alternatives in allowed for term in alternatives]
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": _distinct(terms)}
    last = len(accelerators) - 1
    preferred = [
        {"weight": 100 * (last - rank) // last, "preference": term}
        for rank, accelerator in enumerate(accelerators[:last])
        for term in _alternatives(accelerator, with_labels=True)
    ]
    if preferred:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return affinity


def _alternatives(accelerator: AcceleratorClass, *, with_labels: bool) -> list[Manifest]:
    """Terms of which a node of this class satisfies exactly one; none if any node may be of it.

    A device that is claimed is found by its driver, so its node need not be labelled: there labels are only preferred.
    """
    labels = [_in(key, values) for key, values in sorted(accelerator.node_labels.items())] if with_labels else []
    spot = sorted(accelerator.spot_labels.items())
    match accelerator.capacity:
        case Capacity.SPOT:
            # Nodes may have two of these labels: without NotIn such a node would get the weight twice.
            found = [
                [*labels, _in(key, (value,)), *(_not_in(other, but) for other, but in spot[:rank])]
                for rank, (key, value) in enumerate(spot)
            ]
        case Capacity.ON_DEMAND:
            found = [[*labels, *(_not_in(key, value) for key, value in spot)]]
        case Capacity.ANY:
            found = [labels]
    return [{"matchExpressions": expressions} for expressions in found if expressions]


def _tolerations(accelerators: Sequence[AcceleratorClass]) -> list[Manifest]:
    taints = {taint for accelerator in accelerators for taint in accelerator.tolerated_taints}
    spot = {mark for a in accelerators if a.capacity is Capacity.SPOT for mark in a.spot_labels.items()}
    return [
        *({"key": taint, "operator": "Exists", "effect": "NoSchedule"} for taint in sorted(taints)),
        *({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} for key, value in sorted(spot)),
    ]


def _in(key: str, values: Sequence[str]) -> Manifest:
    return {"key": key, "operator": "In", "values": list(values)}


def _not_in(key: str, value: str) -> Manifest:
    """Holds for a node without the label, too."""
    return {"key": key, "operator": "NotIn", "values": [value]}


def _distinct(terms: Sequence[Manifest]) -> list[Manifest]:
    return [term for rank, term in enumerate(terms) if term not in terms[:rank]]
