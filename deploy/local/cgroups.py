"""The control groups below which the kubelet keeps its pods: made before it starts, removed after everything in them
has ended.

Works with version 1 (one hierarchy for each controller), the hybrid of both, and version 2.
"""

import time
from pathlib import Path

from deploy.local.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")


def make(name: str) -> None:
    """Make group `name` in every hierarchy. Raises ClusterError where that is not allowed."""
    for hierarchy in hierarchies():
        group = hierarchy / name
        try:
            if (hierarchy / "cgroup.controllers").exists():
                _enable_controllers(hierarchy)
            group.mkdir(exist_ok=True)
            if (group / "cgroup.controllers").exists():
                _enable_controllers(group)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # Version 1: a new cpuset is empty, and a process cannot enter it.
                if (hierarchy / "tasks").exists() and (group / setting).exists():
                    (group / setting).write_text((hierarchy / setting).read_text())
        except OSError as error:
            raise ClusterError(f"control group {group} cannot be made: {error.strerror}") from error


def remove(name: str, *, limit_seconds: float = 20) -> None:
    """Remove group `name` and all below it.

    Raises ClusterError when processes stay in it for longer than `limit_seconds`.
    """
    deadline = time.monotonic() + limit_seconds
    for hierarchy in hierarchies():
        group = hierarchy / name
        while group.is_dir() and not _is_removed(group):
            if time.monotonic() > deadline:
                raise ClusterError(f"control group {group} still has processes after {limit_seconds:.0f} s")
            time.sleep(0.05)


def exists(name: str) -> bool:
    """Whether group `name` is in any hierarchy."""
    return any((hierarchy / name).is_dir() for hierarchy in hierarchies())


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The folder of each hierarchy."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(
        {
            entry.resolve()
            for entry in root.iterdir()
            if (entry / "tasks").exists() or (entry / "cgroup.controllers").exists()
        }
    )


def _is_removed(group: Path) -> bool:
    folders = sorted((p for p in group.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True)
    try:
        for folder in (*folders, group):
            folder.rmdir()
    except FileNotFoundError:
        return not group.exists()
    except OSError:
        return False
    return True


def _enable_controllers(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    enabled = (group / "cgroup.subtree_control").read_text().split()
    for controller in sorted(set(available) - set(enabled)):
        (group / "cgroup.subtree_control").write_text(f"+{controller}")
