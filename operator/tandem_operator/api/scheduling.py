"""`scheduling`: the little that a user may say about where pods go. No PodSpec is embedded.

Taints of nodes with a duty of their own (control plane) or in trouble (not ready, cordoned) are not for a user to
tolerate; the taints of accelerators are tolerated by the accelerator's class.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from tandem_operator.api.fields import ApiModel, DnsSubdomain, LabelKey, LabelValue, Rule, Rules


class TolerationOperator(StrEnum):
    """How a toleration is compared with a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class TopologySpread(StrEnum):
    """Over what the pods of a role are spread."""

    ZONE = "Zone"
    NODE = "Node"


_RESERVED = "^((node-role|node|node[.]cloudprovider)[.]kubernetes[.]io/|(master|control-plane)$)"


class Toleration(ApiModel):
    """A taint that the pods tolerate."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.operator != 'Exists' || !has(self.value)",
            lambda toleration: toleration.operator is not TolerationOperator.EXISTS or toleration.value is None,
            "value must be left out when operator is Exists",
            path=".value",
        ),
    )

    key: Annotated[
        LabelKey,
        Rules(
            Rule(
                f"!self.matches('{_RESERVED}')",
                lambda key: re.match(_RESERVED, key) is None,
                "must not be a taint of the control plane or of a node in trouble",
            )
        ),
    ]
    """Key of the taint. There is no toleration of every taint."""
    operator: TolerationOperator = TolerationOperator.EXISTS
    """Exists: whatever the taint's value. Equal: only with `value`."""
    value: LabelValue | None = None
    """Value of the taint, with operator Equal."""
    effect: TaintEffect | None = None
    """Effect of the taint. Omitted: every effect."""


class Scheduling(ApiModel):
    """Where the pods of a role may go, beyond what their accelerator classes say."""

    tolerations: Annotated[
        tuple[Toleration, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Taints that the pods tolerate, beside those of their accelerator classes."""
    topology_spread: TopologySpread | None = None
    """Spread the pods over zones or over nodes, as far as there is room. Omitted: the scheduler's default."""
    priority_class_name: (
        Annotated[
            DnsSubdomain,
            Rules(
                Rule(
                    "!self.startsWith('system-')",
                    lambda name: not name.startswith("system-"),
                    "must not be a priority class of the system",
                )
            ),
        ]
        | None
    ) = None
    """PriorityClass of the pods."""
