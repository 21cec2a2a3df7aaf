"""The accelerator table: what one unit of each class is, where it lives, how it is asked for, what it costs. Pure.

A line is data: the administrator's configuration changes it key by key, or adds lines. Who reads which figure:
sizing (memory), the predicted speed (bandwidth, compute), placement (labels, taints, capacity), `tandem accelerators`
(all of it, the price too).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from tandem_operator.accelerator_class import CPU, EVERY_METHOD, AcceleratorClass
from tandem_operator.config import AcceleratorOverride, Capacity, InvalidConfigError, OperatorConfig
from tandem_operator.quantities import multiplied
from tandem_operator.shipped_accelerators import SHIPPED

__all__ = [
    "CPU",
    "EVERY_METHOD",
    "SHIPPED",
    "SPOT_SUFFIX",
    "AcceleratorClass",
    "table_of",
    "uses_claims",
]

SPOT_SUFFIX = "-spot"


def table_of(config: OperatorConfig) -> dict[str, AcceleratorClass]:
    """The shipped table with the administrator's overrides and additions, by class name.

    Each class with capacity OnDemand has a twin NAME-spot, made from the line as it is overridden; none where the
    configuration knows no label of spot nodes.
    Raises InvalidConfigError.
    """
    table = {accelerator.name: accelerator for accelerator in SHIPPED}
    twins = {name: line for name, line in config.accelerators.items() if name.removesuffix(SPOT_SUFFIX) != name}
    for name in config.accelerators.keys() - twins.keys():
        table[name] = _overridden(table.get(name), name, override=config.accelerators[name])
    for accelerator in list(table.values()) if config.spot_node_labels else ():
        if accelerator.capacity is Capacity.ON_DEMAND:
            twin = replace(accelerator, name=accelerator.name + SPOT_SUFFIX, capacity=Capacity.SPOT, price_per_hour="")
            table[twin.name] = twin
    for name, line in twins.items():
        table[name] = _overridden(table.get(name), name, override=line)
    marked = {name: replace(line, spot_labels=dict(config.spot_node_labels)) for name, line in table.items()}
    for accelerator in marked.values():
        _check(accelerator)
    return marked


def uses_claims(table: Mapping[str, AcceleratorClass]) -> bool:
    """Whether any class is asked for by a ResourceClaim: only then does the operator touch resource.k8s.io."""
    return any(accelerator.is_claimed for accelerator in table.values())


def _overridden(known: AcceleratorClass | None, name: str, *, override: AcceleratorOverride) -> AcceleratorClass:
    given = {key: value for key, value in override if value is not None}
    if known is None and "resource" not in given:
        raise InvalidConfigError(
            f"accelerators.{name}.resource (is omitted): required for a class that Tandem does not ship: cpu, or an "
            "extended resource such as example.com/npu"
        )
    kept = {} if known is None else {f.name: getattr(known, f.name) for f in fields(known)}
    return AcceleratorClass(**{**kept, **given, "name": name})


def _check(accelerator: AcceleratorClass) -> None:
    """Raise InvalidConfigError for keys that do not fit together."""
    path = f"accelerators.{accelerator.name}"
    for key, quantity in (("quantity", accelerator.quantity), ("hostMemory", accelerator.host_memory)):
        try:
            multiplied(quantity, 1)
        except ValueError as error:
            raise InvalidConfigError(f"{path}.{key}: {error}") from error
    if not accelerator.is_cpu and not accelerator.quantity.isdecimal():
        raise InvalidConfigError(
            f"{path}.quantity (is {accelerator.quantity}): must be a whole number, as everything but cpu is"
        )
    if accelerator.is_claimed and not accelerator.device_class:
        raise InvalidConfigError(
            f"{path}.deviceClass (is omitted): required with allocation ResourceClaim: the name of a DeviceClass"
        )
    if accelerator.is_claimed and accelerator.is_cpu:
        raise InvalidConfigError(f"{path}.allocation (is ResourceClaim): must be DevicePlugin for cpu")
    if accelerator.capacity is Capacity.SPOT and not accelerator.spot_labels:
        raise InvalidConfigError(
            f"{path}.capacity (is Spot): must be OnDemand or Any while spotNodeLabels names no label of spot nodes"
        )
