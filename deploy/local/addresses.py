"""Chooses what must not collide with the rest of the machine: a private network and ports.

Reads the machine, changes nothing.
"""

import ipaddress
import json
import random
import socket
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.local.errors import ClusterError

# Below the range from which Linux takes ports for outgoing connections, and below NodePorts.
PORTS = range(16000, 29000)
PORT_NAMES = (
    "etcd",
    "etcd-peer",
    "apiserver",
    "controller-manager",
    "scheduler",
    "kubelet",
    "kubelet-health",
    "kube-proxy-health",
    "kube-proxy-metrics",
    "coredns-health",
    "kwok",
)
CANDIDATES = tuple(ipaddress.IPv4Network(f"10.{second}.0.0/16") for second in (*range(88, 128), *range(200, 250)))


@dataclass(frozen=True)
class Network:
    """The cluster's addresses, all inside one 10.x.0.0/16, so that the host needs one route."""

    second: int

    @property
    def whole(self) -> str:
        """All of it."""
        return f"10.{self.second}.0.0/16"

    @property
    def pods(self) -> str:
        """Pods of the real node."""
        return f"10.{self.second}.0.0/20"

    @property
    def fake_pods(self) -> str:
        """Pods of kwok nodes: nothing answers there."""
        return f"10.{self.second}.64.0/18"

    @property
    def services(self) -> str:
        """ClusterIPs."""
        return f"10.{self.second}.128.0/18"

    @property
    def first_service(self) -> str:
        """The Service `kubernetes`."""
        return f"10.{self.second}.128.1"

    @property
    def host(self) -> str:
        """The machine itself, as pods see it."""
        return f"10.{self.second}.255.1"

    @property
    def node(self) -> str:
        """The real node: API server, kubelet and DNS listen here."""
        return f"10.{self.second}.255.2"


def free_network() -> Network:
    """The first candidate that no route or address of this machine overlaps.

    Raises ClusterError when every candidate is taken.
    """
    return network_beside(used_networks())


def network_beside(used: Iterable[ipaddress.IPv4Network]) -> Network:
    """The first candidate that overlaps none of `used`. Raises ClusterError when there is none."""
    taken = [network for network in used if network.prefixlen > 0]
    for candidate in CANDIDATES:
        if not any(candidate.overlaps(network) for network in taken):
            return Network(candidate.network_address.packed[1])
    raise ClusterError(f"no free network between {CANDIDATES[0]} and {CANDIDATES[-1]}: see `ip route` and `ip address`")


def used_networks() -> list[ipaddress.IPv4Network]:
    """Every IPv4 network that this machine has a route or an address in."""
    routes = [r["dst"] for r in _ip("route", "show", "table", "all") if r.get("dst", "default") != "default"]
    addresses = [f"{a['local']}/{a['prefixlen']}" for d in _ip("address", "show") for a in d.get("addr_info", [])]
    return [ipaddress.IPv4Network(text, strict=False) for text in (*routes, *addresses)]


def free_ports(names: Sequence[str] = PORT_NAMES, *, preferred: Sequence[int] = ()) -> dict[str, int]:
    """One free TCP port of this machine for each name; `preferred` ones first, as long as they are free.

    Raises ClusterError when fewer are free than needed.
    """
    chosen: list[int] = []
    # Spread, so that two clusters that start at once rarely try the same ones.
    for port in (*preferred, *random.sample(PORTS, len(PORTS))):
        if len(chosen) == len(names):
            break
        if port not in chosen and is_free(port):
            chosen.append(port)
    if len(chosen) < len(names):
        raise ClusterError(
            f"only {len(chosen)} ports between {PORTS.start} and {PORTS.stop} are free, {len(names)} are needed"
        )
    return dict(zip(names, chosen, strict=True))


def is_free(port: int) -> bool:
    """Whether nothing listens on `port`, on any address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", port))  # noqa: S104
        except OSError:
            return False
    return True


def _ip(*arguments: str) -> list[dict[str, Any]]:
    command = ["ip", "-json", "-4", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        raise ClusterError("there is no `ip`: install the package iproute2, or run as root, which does") from None
    if done.returncode != 0:
        raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found
