"""The accelerator table: what one unit of each class is, where it lives, and which image drives it. Pure.

Figures that only sizing and cost need (bandwidth, compute, price) come with the code that reads them.
Label names: NVIDIA GPU feature discovery, AMD node labeller, Intel device plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from tandem_contracts.launch import Speculation
from tandem_operator.config import AcceleratorOverride, OperatorConfig
from tandem_operator.quantities import multiplied

CPU = "cpu"
_EVERY_METHOD = tuple(Speculation)


@dataclass(frozen=True)
class AcceleratorClass:
    """One line of the table."""

    name: str
    resource: str
    quantity: str = "1"
    host_memory: str = "16Gi"
    node_labels: Mapping[str, str] = field(default_factory=dict)
    tolerated_taints: tuple[str, ...] = ()
    engine_image: str = "gpu"
    environment: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[Speculation, ...] = _EVERY_METHOD

    @property
    def is_cpu(self) -> bool:
        return self.resource == CPU


def _nvidia(name: str, product: str) -> AcceleratorClass:
    return AcceleratorClass(
        name=name,
        resource="nvidia.com/gpu",
        node_labels={"nvidia.com/gpu.product": product},
        tolerated_taints=("nvidia.com/gpu",),
    )


def _amd(name: str, product: str) -> AcceleratorClass:
    return AcceleratorClass(
        name=name,
        resource="amd.com/gpu",
        node_labels={"amd.com/gpu.product-name": product},
        tolerated_taints=("amd.com/gpu",),
        engine_image="rocm",
    )


SHIPPED: tuple[AcceleratorClass, ...] = (
    AcceleratorClass(
        name=CPU,
        resource=CPU,
        host_memory="4Gi",
        engine_image="cpu",
        environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
    ),
    _nvidia("nvidia-h200-141gb", "NVIDIA-H200"),
    _nvidia("nvidia-h100-80gb", "NVIDIA-H100-80GB-HBM3"),
    _nvidia("nvidia-a100-80gb", "NVIDIA-A100-SXM4-80GB"),
    _nvidia("nvidia-l40s-48gb", "NVIDIA-L40S"),
    _nvidia("nvidia-l4-24gb", "NVIDIA-L4"),
    _amd("amd-mi300x-192gb", "AMD_Instinct_MI300X_OAM"),
    AcceleratorClass(
        name="intel-gaudi3-128gb",
        resource="habana.ai/gaudi",
        tolerated_taints=("habana.ai/gaudi",),
        engine_image="gaudi",
        methods=(Speculation.NGRAM, Speculation.OFF),
    ),
)


class InvalidAcceleratorError(ValueError):
    """A class added by the administrator lacks what every class needs."""


def table_of(config: OperatorConfig) -> dict[str, AcceleratorClass]:
    """The shipped table with the administrator's overrides and additions, by class name.

    Raises InvalidAcceleratorError for a new class without a resource, and for a quantity that cannot be multiplied.
    """
    table = {accelerator.name: accelerator for accelerator in SHIPPED}
    for name, override in config.accelerators.items():
        table[name] = _overridden(table.get(name), name, override=override)
        for key, quantity in (("quantity", table[name].quantity), ("hostMemory", table[name].host_memory)):
            try:
                multiplied(quantity, 1)
            except ValueError as error:
                raise InvalidAcceleratorError(f"accelerators.{name}.{key}: {error}") from error
    return table


def _overridden(shipped: AcceleratorClass | None, name: str, *, override: AcceleratorOverride) -> AcceleratorClass:
    given = {key: value for key, value in override if value is not None}
    if shipped is None and "resource" not in given:
        raise InvalidAcceleratorError(f"accelerators.{name}.resource: required for a class that Tandem does not ship")
    known = {} if shipped is None else {f.name: getattr(shipped, f.name) for f in fields(shipped)}
    return AcceleratorClass(**{**known, **given, "name": name})
