"""One line of the accelerator table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tandem_contracts.launch import Speculation
from tandem_contracts.recipe import AnyScheme
from tandem_operator.config import Allocation, Capacity

CPU = "cpu"
EVERY_METHOD = tuple(Speculation)
FIGURES = frozenset(
    {
        "vendor",
        "max_count",
        "memory_gib",
        "bandwidth_gb_per_second",
        "teraflops",
        "price_per_hour",
        "methods",
        "methods_note",
        "schemes",
        "scheme_notes",
    }
)
"""What is known of a class without ever reaching a pod: a new price is no new revision."""


@dataclass(frozen=True)
class AcceleratorClass:
    """One line of the table. Figures are of one `count`; 0 and the empty price mean not known."""

    name: str
    resource: str
    vendor: str = ""
    quantity: str = "1"
    max_count: int = 8
    """Most of them that one replica can use: those of one node, 1 where they cannot work together."""
    host_memory: str = "16Gi"
    memory_gib: float = 0.0
    """Memory of the accelerator itself, as its driver reports it. 0 also for `cpu`, whose memory is the host's."""
    bandwidth_gb_per_second: float = 0.0
    teraflops: float = 0.0
    """Dense bf16."""
    price_per_hour: str = ""
    """US dollars."""
    node_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tolerated_taints: tuple[str, ...] = ()
    capacity: Capacity = Capacity.ANY
    spot_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that tell spot nodes apart, from the configuration; each provider knows one of them."""
    allocation: Allocation = Allocation.DEVICE_PLUGIN
    device_class: str = ""
    """DeviceClass of the vendor's DRA driver."""
    device_selectors: tuple[str, ...] = ()
    """CEL expressions that a device must satisfy, all of them."""
    engine_image: str = "gpu"
    environment: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[Speculation, ...] = EVERY_METHOD
    methods_note: str = "the operator's accelerator table allows no other"
    """Why not every method, for the user who asked for another one."""
    schemes: tuple[AnyScheme, ...] = ()
    """For which quantized weights the engine has a kernel there, the preferred one first."""
    scheme_notes: Mapping[AnyScheme, str] = field(default_factory=dict)
    """Why not for the others."""

    @property
    def is_cpu(self) -> bool:
        return self.resource == CPU

    @property
    def is_claimed(self) -> bool:
        """Whether pods ask for it by a ResourceClaim."""
        return self.allocation is Allocation.RESOURCE_CLAIM

    @property
    def asked_as(self) -> str:
        """How a container asks for it. Classes of one role must have this in common."""
        return f"ResourceClaim for {self.resource}" if self.is_claimed else self.resource

    def as_data(self) -> dict[str, Any]:
        """What a pod template is rendered from, as plain values."""
        unused = set(FIGURES)
        if not self.is_claimed:
            unused |= {"device_class", "device_selectors"}
        if self.capacity is Capacity.ANY:
            unused.add("spot_labels")
        return {key: value for key, value in asdict(self).items() if key not in unused}
