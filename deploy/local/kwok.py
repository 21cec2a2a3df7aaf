"""Fake nodes with accelerators, kept alive by kwok: the real scheduler places pods there, `stages/` says what becomes
of them.

No real pod lands on them unless it tolerates their taint, and no GPU pod can land on the real node, which has no GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def _taint(key: str, value: str) -> Mapping[str, str]:
    return {"key": key, "value": value, "effect": "NoSchedule"}


@dataclass(frozen=True)
class NodeClass:
    """A kind of machine: its labels as the vendor's discovery and the provider write them, what it offers, and the
    taints that keep others off.
    """

    labels: Mapping[str, str]
    resources: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]


HOST = {"cpu": "96", "memory": "1Ti"}
NVIDIA_TAINT = _taint("nvidia.com/gpu", "present")
GKE_SPOT = ("cloud.google.com/gke-spot", "true")


def _nvidia_labels(product: str, memory_mib: int, *, gpus: int, family: str, compute: str) -> dict[str, str]:
    major, minor = compute.split(".")
    return {
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


def _nvidia(product: str, memory_mib: int, *, gpus: int, family: str, compute: str) -> NodeClass:
    labels = _nvidia_labels(product, memory_mib, gpus=gpus, family=family, compute=compute)
    return NodeClass(labels, {**HOST, "nvidia.com/gpu": str(gpus)}, (NVIDIA_TAINT,))


def _mig(product: str, memory_mib: int, *, family: str, compute: str, slices: Mapping[str, int]) -> NodeClass:
    """A machine whose GPUs are all cut into slices, under the device plugin's strategy `mixed`."""
    labels = _nvidia_labels(product, memory_mib, gpus=8, family=family, compute=compute)
    labels["nvidia.com/mig.strategy"] = "mixed"
    labels |= {f"nvidia.com/mig-{profile}.count": str(count) for profile, count in slices.items()}
    offered = {f"nvidia.com/mig-{profile}": str(count) for profile, count in slices.items()}
    return NodeClass(labels, {**HOST, "nvidia.com/gpu": "0", **offered}, (NVIDIA_TAINT,))


def _spot(node_class: NodeClass, *mark: str) -> NodeClass:
    """The same machine rented as spot capacity of GKE, which labels and taints it."""
    key, value = mark
    labels, taints = {**node_class.labels, key: value}, (*node_class.taints, _taint(key, value))
    return NodeClass(labels, node_class.resources, taints)


def _amd(product: str, device_id: str, vram: str) -> NodeClass:
    labels = {
        "amd.com/gpu.device-id": device_id,
        "amd.com/gpu.product-name": product,
        "amd.com/gpu.vram": vram,
    }
    return NodeClass(labels, {**HOST, "amd.com/gpu": "8"}, (_taint("amd.com/gpu", "present"),))


# Names begin differently, since the beginning of one is enough to name it.
NODE_CLASSES: Mapping[str, NodeClass] = {
    "nvidia-h100-80gb": _nvidia("NVIDIA-H100-80GB-HBM3", 81559, gpus=8, family="hopper", compute="9.0"),
    "nvidia-a100-80gb": _nvidia("NVIDIA-A100-SXM4-80GB", 81920, gpus=8, family="ampere", compute="8.0"),
    "nvidia-l40s-48gb": _nvidia("NVIDIA-L40S", 46068, gpus=8, family="ada-lovelace", compute="8.9"),
    "mig-h100-80gb": _mig(
        "NVIDIA-H100-80GB-HBM3", 81559, family="hopper", compute="9.0", slices={"3g.40gb": 8, "1g.10gb": 8}
    ),
    "spot-a10g-24gb": _spot(_nvidia("NVIDIA-A10G", 23028, gpus=4, family="ampere", compute="8.6"), *GKE_SPOT),
    "amd-mi300x-192gb": _amd("AMD_Instinct_MI300X_OAM", "74a1", "192G"),
    "amd-mi325x-256gb": _amd("AMD_Instinct_MI325X", "74a5", "256G"),
    # Its GPUs are those of a ResourceSlice that somebody makes: a DRA driver writes no label and offers no resource.
    "dra": NodeClass({}, HOST, (NVIDIA_TAINT,)),
    "cpu": NodeClass({}, HOST, (_taint(FAKE, "fake"),)),
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
        "spec": {"taints": [dict(taint) for taint in node_class.taints]},
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
