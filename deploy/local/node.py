"""The real node: containerd, kubelet, kube-proxy and coredns inside the node's namespaces. Their configuration, flags
and order.

Pods are joined by routes (CNI ptp), not by a bridge: a Service on the same node then works without the kernel module
br_netfilter.
"""

import json
from datetime import datetime
from pathlib import Path

import yaml

from deploy.local.binaries import Binaries
from deploy.local.controlplane import NODE_NAME
from deploy.local.errors import ClusterError
from deploy.local.kubectl import Kubectl
from deploy.local.launcher import Launcher
from deploy.local.layout import Layout
from deploy.local.processes import Process, wait_until, write_whole
from deploy.local.record import Record

CNI_PROGRAMS = "/usr/lib/cni"
DNS_DOMAIN = "cluster.local"


def write_files(layout: Layout, record: Record, *, pause: str) -> None:
    """All configuration of the node's programs; `pause` is the reference of the sandbox image."""
    folder = layout.configuration
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    write_whole(folder / "containerd.toml", containerd_toml(layout, pause=pause))
    write_whole(folder / "cni" / "10-tandem.conflist", json.dumps(cni_configuration(layout, record), indent=1))
    write_whole(folder / "kubelet.yaml", yaml.safe_dump(kubelet_configuration(layout, record), sort_keys=False))
    write_whole(folder / "Corefile", corefile(layout, record))
    # Names outside the cluster are the machine's own matter: pods with dnsPolicy Default ask the cluster's DNS too.
    write_whole(folder / "resolv.conf", f"nameserver {record.network.node}\n", mode=0o644)


def start_containerd(launcher: Launcher, binaries: Binaries) -> Process:
    """Start containerd; returns when it answers. Its folder is first in PATH, because that is how it finds its shim."""
    layout = launcher.layout
    process = launcher.start("containerd", [binaries["containerd"], f"--config={layout.configuration}/containerd.toml"])
    socket = Path(f"/proc/{process.pid}/root/run/containerd/containerd.sock")
    wait_until(socket.exists, "containerd's socket", limit_seconds=30, log=Path(process.log), processes=[process])
    return process


def start_node(launcher: Launcher, binaries: Binaries, record: Record) -> None:
    """Start kubelet, kube-proxy and coredns. The API server must answer already."""
    launcher.start("kubelet", kubelet_argv(launcher.layout, record, program=binaries["kubelet"]))
    launcher.start("kube-proxy", kube_proxy_argv(launcher.layout, record, program=binaries["kube-proxy"]))
    launcher.start("coredns", [binaries["coredns"], f"-conf={launcher.layout.configuration}/Corefile"])


def wait_for_node(layout: Layout, kubectl: Kubectl, *, since: datetime, limit_seconds: float = 60) -> None:
    """Return once the real node has said that it is Ready after `since`: what it said before a crash does not count.

    Raises ClusterError when that takes too long.
    """
    path = '{range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}'
    begun = since.replace(microsecond=0)

    def is_ready() -> bool:
        said = kubectl.attempt("get", "node", NODE_NAME, "-o", f"jsonpath={path}").stdout.split()
        return len(said) == 2 and said[0] == "True" and datetime.fromisoformat(said[1]) >= begun

    wait_until(
        is_ready,
        f"node {NODE_NAME} to be Ready",
        limit_seconds=limit_seconds,
        log=layout.log_of("kubelet"),
        poll_seconds=0.2,
    )


def missing_parts() -> list[str]:
    """The CNI plugins that are needed and not there."""
    return [name for name in ("ptp", "host-local", "loopback") if not (Path(CNI_PROGRAMS) / name).exists()]


def containerd_toml(layout: Layout, *, pause: str) -> str:
    """Sockets and state go to /run, which is the node's own.

    Without CAP_SYS_RESOURCE runc cannot lower an OOM score.
    """
    return f"""\
version = 3
root = '{layout.node}/containerd'
state = '/run/containerd'

[grpc]
  address = '/run/containerd/containerd.sock'

[plugins.'io.containerd.internal.v1.opt']
  path = '{layout.node}/containerd-opt'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{CNI_PROGRAMS}']
    conf_dir = '{layout.configuration}/cni'

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def cni_configuration(layout: Layout, record: Record) -> dict[str, object]:
    """One cable and one route for each pod; addresses are handed out from a folder below the state."""
    return {
        "cniVersion": "1.0.0",
        "name": "tandem",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": record.network.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    # On the node's own tmpfs: after a crash no address stays taken by a pod that is gone.
                    "dataDir": "/run/cni-addresses",
                },
            }
        ],
    }


def kubelet_configuration(layout: Layout, record: Record) -> dict[str, object]:
    """Nothing is reserved and nothing evicted early: the machine's cores are few and its disk is not ours to police."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": record.network.node,
        "port": record.ports["kubelet"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": record.ports["kubelet-health"],
        "tlsCertFile": f"{layout.pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{layout.pki}/kubelet-server.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": DNS_DOMAIN,
        "clusterDNS": [record.network.node],
        "resolvConf": f"{layout.configuration}/resolv.conf",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "podLogsDir": f"{layout.logs}/pods",
        "makeIPTablesUtilChains": False,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "30s",
        "volumePluginDir": f"{layout.node}/volume-plugins",
        "staticPodPath": "",
    }


def kubelet_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """Its root folder is the usual one, which is the node's own there (see isolation.MOUNT_POINTS)."""
    return [
        program,
        f"--config={layout.configuration}/kubelet.yaml",
        f"--kubeconfig={layout.configuration}/kubelet.kubeconfig",
        f"--cert-dir={layout.node}/kubelet-certificates",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={record.network.node}",
        "--node-labels=tandem.dev/node=real",
    ]


def kube_proxy_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """Connection tracking limits are the machine's: left alone."""
    return [
        program,
        f"--kubeconfig={layout.configuration}/kube-proxy.kubeconfig",
        "--proxy-mode=nftables",
        f"--cluster-cidr={record.network.pods}",
        f"--hostname-override={NODE_NAME}",
        f"--healthz-bind-address=127.0.0.1:{record.ports['kube-proxy-health']}",
        f"--metrics-bind-address=127.0.0.1:{record.ports['kube-proxy-metrics']}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    ]


def corefile(layout: Layout, record: Record) -> str:
    """The cluster's names only; a short time to live, so that tests see endpoints come and go."""
    return f"""\
.:53 {{
    bind {record.network.node}
    errors
    health 127.0.0.1:{record.ports["coredns-health"]}
    kubernetes {DNS_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {layout.configuration}/coredns.kubeconfig
        ttl 1
    }}
}}
"""


def refuse_missing_parts() -> None:
    """Raises ClusterError when a CNI plugin is missing although its Debian package seems installed."""
    if missing := missing_parts():
        raise ClusterError(f"{CNI_PROGRAMS} lacks {', '.join(missing)}: install containernetworking-plugins")
