"""Starts the cluster's programs, inside the node's namespaces or beside it, and records each one before the next is
started.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.layout import Layout
from deploy.local.processes import Process, read_processes, start, write_processes


@dataclass(frozen=True)
class Launcher:
    """`prefix` enters the node's namespaces; empty without a real node. `folders` come first in PATH."""

    layout: Layout
    prefix: Sequence[str] = ()
    folders: Sequence[str] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's environment gets in, so that each start is the same."""
        return environment_of(self.layout, self.folders)

    def start(self, name: str, argv: Sequence[str]) -> Process:
        """Start one program, output in its log. Raises ClusterError when it ends at once."""
        process = start(name, argv, log=self.layout.log_of(name), environment=self.environment, prefix=self.prefix)
        self.remember(process)
        return process

    def remember(self, process: Process) -> None:
        """Add `process` to the record."""
        known = [p for p in read_processes(self.layout.processes) if p.name != process.name]
        write_processes(self.layout.processes, [*known, process])


def environment_of(layout: Layout, folders: Sequence[str] = ()) -> dict[str, str]:
    """The environment of every program of the cluster."""
    path = ":".join([*folders, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    return {"PATH": path, "HOME": str(layout.configuration), "LANG": "C.UTF-8", **_COLLECTING}


_COLLECTING = {"GOGC": "400", "GOMEMLIMIT": "2GiB"}
"""Go's garbage collector runs less often: it takes a seventh of the API server's time otherwise, memory is at hand."""
