"""What an engine's container may take of its node: memory, disk, shared memory. Pure.

Every amount has an end, so that an engine that leaks is ended itself, with a cause that names it, and not its
neighbours by a node that runs short.
"""

from __future__ import annotations

from tandem_operator.facts import Manifest
from tandem_operator.objects.devices import CLAIM
from tandem_operator.quantities import multiplied
from tandem_operator.role_inputs import RoleInputs

MEMORY_LIMIT_FACTOR = 2
"""Limit of memory over its request. The class's figure is what an engine keeps; while it loads it takes more."""
SCRATCH_LIMIT = "8Gi"
"""Of /tmp: compiled graphs and kernels (torch, Triton, FlashInfer) of a few GiB at most, sockets, counters."""
DISK_REQUEST = "1Gi"
DISK_LIMIT = "9Gi"
"""The scratch and the log, which the kubelet rotates. Nothing else is writable."""
SHARED_MEMORY_OF_A_RANK = "1Gi"
"""vLLM's queues take 160 MiB for all ranks and 240 MiB for each; NCCL without peer access some 100 MiB a rank."""


def resources_of(inputs: RoleInputs) -> Manifest:
    """Requests and limits of the engine's container."""
    accelerator = inputs.accelerator
    device = {} if accelerator.is_claimed else {accelerator.resource: multiplied(accelerator.quantity, inputs.count)}
    memory = multiplied(accelerator.host_memory, inputs.count)
    limit = multiplied(accelerator.host_memory, MEMORY_LIMIT_FACTOR * inputs.count)
    # An extended resource needs request = limit. No CPU limit: a throttled engine misses its deadlines.
    limited = {} if accelerator.is_cpu else device
    return {
        "requests": {**device, "memory": memory, "ephemeral-storage": DISK_REQUEST},
        "limits": {**limited, "memory": limit, "ephemeral-storage": DISK_LIMIT},
        **({"claims": [{"name": CLAIM}]} if accelerator.is_claimed else {}),
    }


def scratch_volumes(inputs: RoleInputs) -> list[Manifest]:
    """What is writable: `tmp`, and `shm` for the ranks to exchange data (one rank more for who feeds them)."""
    shared = multiplied(SHARED_MEMORY_OF_A_RANK, 1 + inputs.tensor_parallel)
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
    ]
