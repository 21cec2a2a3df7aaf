"""Fake nodes with accelerators, kept alive by kwok: the real scheduler places pods there, `stages/` says what becomes
of them.

No real pod lands on them unless it tolerates their taint, and no GPU pod can land on the real node, which has no GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from deploy.local.binaries import Binaries
from deploy.local.errors import ClusterError
from deploy.local.kubectl import Kubectl
from deploy.local.launcher import Launcher
from deploy.local.layout import STAGES, Layout
from deploy.local.processes import Process, wait_until, write_whole
from deploy.local.record import Record

FAKE = "kwok.x-k8s.io/node"
ZONES = ("tandem-a", "tandem-b", "tandem-c")


@dataclass(frozen=True)
class NodeClass:
    """A kind of machine: its labels as GPU feature discovery writes them, what it offers, and the taint that keeps
    others off.
    """

    labels: Mapping[str, str]
    resources: Mapping[str, str]
    taint: Mapping[str, str] = field(
        default_factory=lambda: {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    )


def _nvidia(product: str, memory_mib: int, *, gpus: int, family: str, compute: str) -> NodeClass:
    major, minor = compute.split(".")
    labels = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(gpus),
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.family": family,
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
        "nvidia.com/mig.capable": "true" if family in {"hopper", "ampere"} and memory_mib > 40000 else "false",
    }
    return NodeClass(labels, {"cpu": "96", "memory": "1Ti", "nvidia.com/gpu": str(gpus)})


NODE_CLASSES: Mapping[str, NodeClass] = {
    "nvidia-h100-80gb": _nvidia("NVIDIA-H100-80GB-HBM3", 81559, gpus=8, family="hopper", compute="9.0"),
    "nvidia-a100-80gb": _nvidia("NVIDIA-A100-SXM4-80GB", 81920, gpus=8, family="ampere", compute="8.0"),
    "nvidia-l40s-48gb": _nvidia("NVIDIA-L40S", 46068, gpus=8, family="ada-lovelace", compute="8.9"),
    "cpu": NodeClass({}, {"cpu": "96", "memory": "1Ti"}, {"key": FAKE, "value": "fake", "effect": "NoSchedule"}),
}


def class_named(name: str) -> str:
    """The full name of a class: `name` itself, or the only one that begins with it.

    Raises ClusterError for none or several.
    """
    found = [known for known in NODE_CLASSES if known == name] or [k for k in NODE_CLASSES if k.startswith(name)]
    if len(found) != 1:
        raise ClusterError(
            f"node class {name!r}: expected one of {', '.join(NODE_CLASSES)}, or an unambiguous beginning of one"
        )
    return found[0]


def fake_node(class_name: str, number: int, *, address: str) -> dict[str, Any]:
    """The Node object `CLASS-NUMBER`, complete with what a kubelet would report of it."""
    node_class = NODE_CLASSES[class_name]
    name = f"{class_name}-{number}"
    resources = {**node_class.resources, "pods": "110", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE: "fake"},
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "tandem.dev/node": "fake",
                "topology.kubernetes.io/zone": ZONES[(number - 1) % len(ZONES)],
                **node_class.labels,
            },
        },
        "spec": {"taints": [dict(node_class.taint)]},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": "kwok",
                "containerRuntimeVersion": "kwok",
                "kernelVersion": "kwok",
                "osImage": "kwok",
                "kubeProxyVersion": "",
                "bootID": "",
                "machineID": "",
                "systemUUID": "",
            },
        },
    }


def numbers_after(class_name: str, existing: Sequence[str], *, count: int) -> list[int]:
    """The next `count` numbers of a class, after the highest one among the node names `existing`."""
    prefix = f"{class_name}-"
    used = [
        int(rest) for name in existing if name.startswith(prefix) and (rest := name.removeprefix(prefix)).isdecimal()
    ]
    first = max(used, default=0) + 1
    return list(range(first, first + count))


def add_nodes(kubectl: Kubectl, class_name: str, *, count: int, limit_seconds: float = 60) -> list[str]:
    """Add fake nodes and return their names once all are Ready.

    Raises ClusterError for an unknown class or a wait that is too long.
    """
    full = class_named(class_name)
    if count < 1:
        raise ClusterError(f"count {count}: expected at least 1")
    existing = [node["metadata"]["name"] for node in kubectl.get("nodes")["items"]]
    nodes = [fake_node(full, n, address="127.0.0.1") for n in numbers_after(full, existing, count=count)]
    kubectl.run("create", "-f", "-", stdin=yaml.safe_dump_all(nodes, sort_keys=False))
    names = [node["metadata"]["name"] for node in nodes]
    wait_for_nodes(kubectl, names, limit_seconds=limit_seconds)
    return names


def wait_for_nodes(kubectl: Kubectl, names: Sequence[str], *, limit_seconds: float) -> None:
    """Return once the nodes `names` are Ready."""
    path = r'{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'

    def are_ready() -> bool:
        lines = kubectl.run("get", "nodes", "-o", f"jsonpath={path}").split()
        return all(f"{name}=True" in lines for name in names)

    wait_until(
        are_ready,
        f"fake nodes {names[0]} to {names[-1]} to be Ready",
        limit_seconds=limit_seconds,
        log=kubectl.layout.log_of("kwok"),
        poll_seconds=0.2,
    )


def start_kwok(launcher: Launcher, binaries: Binaries, record: Record) -> Process:
    """Start kwok with our stages. The API server must answer already."""
    layout = launcher.layout
    stages = "---\n".join(path.read_text() for path in sorted(STAGES.glob("*.yaml")))
    write_whole(layout.configuration / "kwok.yaml", stages)
    return launcher.start("kwok", kwok_argv(layout, record, program=binaries["kwok"]))


def kwok_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """It manages the nodes with its annotation, and no other."""
    return [
        program,
        f"--kubeconfig={layout.configuration}/kwok.kubeconfig",
        f"--config={layout.configuration}/kwok.yaml",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={FAKE}=fake",
        "--node-ip=127.0.0.1",
        f"--node-port={record.ports['kwok']}",
        f"--server-address=127.0.0.1:{record.ports['kwok']}",
        f"--tls-cert-file={layout.pki}/kubelet-server.crt",
        f"--tls-private-key-file={layout.pki}/kubelet-server.key",
        "--node-lease-duration-seconds=40",
        f"--cidr={record.network.fake_pods}",
    ]
