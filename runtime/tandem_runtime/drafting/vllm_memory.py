"""How much memory a container may still take, as vLLM asks on CPUs; without the pages that the kernel gives back.

vLLM 0.32 takes all that a cgroup is charged with for used. The first engine on a node that has just loaded the image is
charged with reading it, and ended for want of memory that is there. As the kubelet does, file pages that are not in use
are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATISTICS = {
    Path("/sys/fs/cgroup/memory.stat"): "inactive_file",
    Path("/sys/fs/cgroup/memory/memory.stat"): "total_inactive_file",
}
"""Of cgroups v2 and v1."""


def count_without_idle_pages(resources: Any) -> None:
    """Correct vLLM's module `cpu_resource_utils`; once."""
    count: Callable[[], int | None] = resources.get_cgroup_memory_usage
    if count.__module__ != __name__:
        resources.get_cgroup_memory_usage = lambda: _used(count())


def _used(charged: int | None) -> int | None:
    return None if charged is None else max(0, charged - idle_page_bytes(_STATISTICS))


def idle_page_bytes(statistics: dict[Path, str]) -> int:
    """Bytes of files in memory that nobody has used lately; 0 where no cgroup tells."""
    for path, name in statistics.items():
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        values = [line.split() for line in lines]
        return next((int(value[1]) for value in values if value[0] == name), 0)
    return 0
