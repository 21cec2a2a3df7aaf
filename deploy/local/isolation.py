"""The real node's own network, mounts and pids, and the one cable between it and the machine.

Everything that a Kubernetes node does to a machine (bridges, packet rules, mounts, containers) happens inside and
ends with the anchor. Outside there is one device with one route, the control groups, and at most three empty folders
to mount on.
"""

import json
import subprocess
import sys
from pathlib import Path

from deploy.local import anchor, cgroups
from deploy.local.addresses import Network
from deploy.local.errors import ClusterError
from deploy.local.layout import Layout
from deploy.local.processes import (
    Process,
    all_pids,
    arguments_of,
    kill,
    process_of,
    start,
    wait_until,
    write_whole,
)

ANCHOR_PROGRAM = Path(anchor.__file__)
MOUNT_POINTS = {
    "kubelet": Path("/var/lib/kubelet"),
    "cni": Path("/var/lib/cni"),
    "container-logs": Path("/var/log/containers"),
}


def start_anchor(layout: Layout, network: Network, *, environment: dict[str, str]) -> Process:
    """Make the namespaces and the cable; returns the anchor. Raises ClusterError when the machine does not allow it."""
    layout.node.mkdir(parents=True, exist_ok=True)
    (layout.node / "anchor.json").unlink(missing_ok=True)
    mounts = [(str(layout.node / name), str(target)) for name, target in MOUNT_POINTS.items()]
    (layout.node / "mounts.json").write_text(json.dumps(mounts))
    _make_mount_points(layout)
    cgroups.make(layout.cgroup)
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL"]
    log = layout.log_of("anchor")
    wrapper = start(
        "anchor",
        [*unshare, sys.executable, "-I", str(ANCHOR_PROGRAM), str(layout.node)],
        log=log,
        environment=environment,
    )
    ready = layout.node / "anchor.json"
    wait_until(ready.exists, "the node's namespaces", limit_seconds=20, log=log, processes=[wrapper])
    found = process_of("anchor", json.loads(ready.read_text()), log=log)
    if found is None:
        raise ClusterError(f"the anchor ended at once; log: {log}")
    _lay_cable(layout, network, anchor_pid=found.pid)
    return found


def entry(anchor_pid: int) -> list[str]:
    """The command prefix that runs a program inside."""
    return ["nsenter", f"--target={anchor_pid}", "--net", "--mount", "--pid", "--"]


def find_anchors(layout: Layout) -> list[Process]:
    """The anchors of this state folder that run now, by their command line: a lost record does not hide them."""
    return [
        process
        for pid in all_pids()
        if _node_of_anchor(pid) == layout.node
        and (process := process_of("anchor", pid, log=layout.log_of("anchor"))) is not None
    ]


def remove(layout: Layout) -> None:
    """End everything inside and remove what is outside. Good after a crash too, and when nothing is there."""
    kill(find_anchors(layout))
    wait_until(
        lambda: not _is_device(layout.device) or _is_deleted(layout.device),
        f"device {layout.device} to go",
        limit_seconds=20,
    )
    cgroups.remove(layout.cgroup)
    _remove_mount_points(layout)


def _lay_cable(layout: Layout, network: Network, *, anchor_pid: int) -> None:
    device = layout.device
    _ip("link", "add", device, "type", "veth", "peer", "name", "uplink", "netns", str(anchor_pid))
    _ip("address", "add", f"{network.host}/30", "dev", device)
    _ip("link", "set", device, "up")
    inside = ["nsenter", f"--target={anchor_pid}", "--net", "--"]
    _ip("address", "add", f"{network.node}/30", "dev", "uplink", prefix=inside)
    _ip("link", "set", "uplink", "up", prefix=inside)
    _ip("route", "add", network.whole, "via", network.node, "dev", device)


def _make_mount_points(layout: Layout) -> None:
    """Make the folders that the node mounts over; the record comes first, so that a crash in between leaves nothing
    unknown.
    """
    missing = [path for path in MOUNT_POINTS.values() if not path.exists()]
    _write_folders(layout.node / "made-folders.json", [*_made_mount_points(layout), *missing])
    for path in MOUNT_POINTS.values():
        path.mkdir(parents=True, exist_ok=True)


def _remove_mount_points(layout: Layout) -> None:
    """Remove the folders that we made, or leave that to another cluster that still mounts over them: a removal would
    take its mounts.
    """
    made = _made_mount_points(layout)
    others = [node for pid in all_pids() if (node := _node_of_anchor(pid)) is not None]
    for other in others[:1]:
        known = _read_folders(other / "made-folders.json")
        _write_folders(other / "made-folders.json", [*known, *made])
    for path in () if others else made:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    (layout.node / "made-folders.json").unlink(missing_ok=True)


def _node_of_anchor(pid: int) -> Path | None:
    """The node folder that process `pid` anchors, started from whichever checkout; None when it is no anchor."""
    argv = arguments_of(pid)
    is_anchor = len(argv) > 2 and Path(argv[-2]).parts[-3:] == ANCHOR_PROGRAM.parts[-3:]
    return Path(argv[-1]) if is_anchor else None


def _made_mount_points(layout: Layout) -> list[Path]:
    return _read_folders(layout.node / "made-folders.json")


def _read_folders(record: Path) -> list[Path]:
    try:
        return [Path(text) for text in json.loads(record.read_text())]
    except (FileNotFoundError, ValueError):
        return []


def _write_folders(record: Path, folders: list[Path]) -> None:
    write_whole(record, json.dumps(sorted({str(folder) for folder in folders})))


def _is_device(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _is_deleted(name: str) -> bool:
    done = subprocess.run(["ip", "link", "delete", name], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


def _ip(*arguments: str, prefix: list[str] | None = None) -> None:
    argv = [*(prefix or []), "ip", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
