"""What a user says about where pods go, added to what their accelerator classes say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tandem_operator import names
from tandem_operator.api.scheduling import TopologySpread
from tandem_operator.facts import Manifest
from tandem_operator.role_inputs import RoleInputs

TOPOLOGY_KEYS = {TopologySpread.ZONE: "topology.kubernetes.io/zone", TopologySpread.NODE: "kubernetes.io/hostname"}
_SELECTED_BY = (names.LABEL_DEPLOYMENT, names.LABEL_ROLE, names.LABEL_REVISION)


def with_scheduling(placement: Manifest, inputs: RoleInputs, labels: Mapping[str, str]) -> Manifest:
    """The fields of a pod spec; `placement` is what its classes say, `labels` are the pod's own.

    Spreading is a wish: a demand could keep the pods of a rollout from ever being scheduled.
    """
    scheduled: dict[str, Any] = dict(placement)
    if inputs.tolerations:
        given = placement.get("tolerations", [])
        scheduled["tolerations"] = [*given, *(dict(t) for t in inputs.tolerations if dict(t) not in given)]
    if inputs.topology_spread is not None:
        scheduled["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": TOPOLOGY_KEYS[inputs.topology_spread],
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {name: labels[name] for name in _SELECTED_BY}},
            }
        ]
    if inputs.priority_class_name:
        scheduled["priorityClassName"] = inputs.priority_class_name
    return scheduled
