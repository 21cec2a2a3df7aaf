"""Tells how much memory this container uses, by its cgroup: the figure that its limit and evictions are about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tandem_contracts import metrics

CGROUP = Path("/sys/fs/cgroup")
"""A container sees its own there."""
_VERSIONS = (
    ("memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Of cgroups, the second one first: what is used, and what of it are file pages that nobody uses."""


class MemoryCollector(Collector):
    """The working set, read whenever it is scraped."""

    def __init__(self, cgroup: Path = CGROUP) -> None:
        self._cgroup = cgroup

    def collect(self) -> Iterator[Metric]:
        """One gauge, or nothing where the kernel does not tell."""
        found = working_set_bytes(self._cgroup)
        if found is not None:
            yield GaugeMetricFamily(metrics.MEMORY_WORKING_SET, "Memory that is in use.", value=found)


def working_set_bytes(cgroup: Path) -> int | None:
    """What is used less inactive file pages, as the kubelet counts it; None where there is no such cgroup."""
    for used, statistics, inactive in _VERSIONS:
        try:
            lines = (cgroup / statistics).read_text(encoding="utf-8").splitlines()
            figures = dict(line.split(maxsplit=1) for line in lines)
            return max(0, int((cgroup / used).read_text(encoding="utf-8")) - int(figures[inactive]))
        except (OSError, ValueError, KeyError):
            continue
    return None
