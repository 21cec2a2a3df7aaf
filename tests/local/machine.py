"""What a cluster could leave behind on a machine, as a value to compare. Tests only; it reads and changes nothing."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.anchor import KERNEL_SETTINGS
from deploy.local.layout import Layout
from deploy.local.processes import all_pids, arguments_of

FOLDERS = (
    "/etc/cni/net.d",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/flannel",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/run/kubernetes",
)
MOUNTED_OVER = ("/proc", "/run", "/sys", "/var/lib/", "/var/log/")


@dataclass(frozen=True)
class Machine:
    """Everything outside the state and cache folders that a Kubernetes node usually touches."""

    devices: frozenset[str]
    routes: frozenset[str]
    packet_rules: str
    old_packet_rules: str
    mounts: frozenset[str]
    folders: frozenset[str]
    control_groups: frozenset[str]
    settings: tuple[str, ...]
    programs: frozenset[str]


def read_machine(layout: Layout) -> Machine:
    """The machine now.

    Of the mounts and programs only those count that could be the cluster's of `layout`; others may come and go.
    """
    places = (*MOUNTED_OVER, f"{layout.state}/")
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return Machine(
        devices=frozenset(entry.name for entry in Path("/sys/class/net").iterdir()),
        routes=frozenset(_output("ip", "route", "show", "table", "all").splitlines()),
        packet_rules=_output("nft", "list", "ruleset"),
        old_packet_rules=_output("iptables-save"),
        mounts=frozenset(mount for mount in mounts if mount.startswith(places)),
        folders=frozenset(folder for folder in FOLDERS if Path(folder).exists()),
        control_groups=frozenset(
            str(path) for pattern in ("tandem-*", "*/tandem-*") for path in Path("/sys/fs/cgroup").glob(pattern)
        ),
        settings=tuple((Path("/proc/sys") / name).read_text() for name in (*KERNEL_SETTINGS, "net/ipv4/ip_forward")),
        programs=frozenset(line for pid in all_pids() if f"{layout.state}" in (line := " ".join(arguments_of(pid)))),
    )


def _output(*argv: str) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    # Counters and the time of the dump differ from one call to the next.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("#"))
