"""Where everything of a local cluster lies: the state folder (goes with `down`) and the cache (stays).

Paths only, it touches no disk.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = Path(__file__).resolve().parent / "modules"
STAGES = Path(__file__).resolve().parent / "stages"


@dataclass(frozen=True)
class Layout:
    """The paths of one local cluster. Two clusters differ in `state` only."""

    state: Path
    cache: Path

    @property
    def identity(self) -> str:
        """Six hex digits of the state folder's path: names devices and cgroups, so that they are found even when the
        record is lost.
        """
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:6]

    @property
    def device(self) -> str:
        """The host's end of the cable to the node; at most 15 characters, as Linux wants."""
        return f"tandem-{self.identity}"

    @property
    def cgroup(self) -> str:
        """The control group below which the kubelet keeps every pod."""
        return f"tandem-{self.identity}"

    @property
    def lock(self) -> Path:
        """Beside the state folder, because `down` removes that."""
        return self.state.parent / f".{self.state.name}.lock"

    @property
    def record(self) -> Path:
        """Addresses, ports and the cluster's random id: written first, removed last."""
        return self.state / "cluster.json"

    @property
    def processes(self) -> Path:
        """The pids that were started, with their start times."""
        return self.state / "processes.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, context `tandem-local`."""
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.state / "pki"

    @property
    def configuration(self) -> Path:
        """What the programs read at start; written anew by each `up`."""
        return self.state / "configuration"

    @property
    def logs(self) -> Path:
        """One file for each program; `pods/` holds what containers write."""
        return self.state / "logs"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON event a line."""
        return self.state / "audit.log"

    @property
    def etcd(self) -> Path:
        """etcd's data."""
        return self.state / "etcd"

    @property
    def node(self) -> Path:
        """What the real node keeps: images, volumes, addresses."""
        return self.state / "node"

    @property
    def bin(self) -> Path:
        """Built programs, one folder for each content hash."""
        return self.cache / "bin"

    def log_of(self, name: str) -> Path:
        """The log of one program."""
        return self.logs / f"{name}.log"


def cache_of(environment: Mapping[str, str]) -> Path:
    """The cache: `$TANDEM_CACHE`, else `tandem` in the user's cache folder."""
    if chosen := environment.get("TANDEM_CACHE"):
        return Path(chosen).resolve()
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/")) / ".cache"
    return (Path(base) / "tandem").resolve()


def layout_of(environment: Mapping[str, str] = os.environ) -> Layout:
    """The layout that the environment asks for: `$TANDEM_STATE`, else `tandem/cluster` in the user's state folder."""
    if chosen := environment.get("TANDEM_STATE"):
        state = Path(chosen)
    else:
        base = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "/")) / ".local" / "state"
        state = Path(base) / "tandem" / "cluster"
    return Layout(state.resolve(), cache_of(environment))
