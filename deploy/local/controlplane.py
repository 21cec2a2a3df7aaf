"""etcd, API server, controller manager and scheduler: their files, flags and order. It knows no node."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from deploy.local.binaries import Binaries
from deploy.local.kubeconfig import kubeconfig_of, write_kubeconfig
from deploy.local.kubectl import Kubectl
from deploy.local.launcher import Launcher
from deploy.local.layout import Layout
from deploy.local.pki import Leaf, authority_in, issue
from deploy.local.processes import Process, wait_until, write_whole
from deploy.local.progress import Progress
from deploy.local.record import Record

NODE_NAME = "tandem-node"
USERS = {
    "admin": ("tandem-admin", "system:masters"),
    "kwok": ("tandem-kwok", "system:masters"),
    "apiserver-kubelet": ("tandem-apiserver", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", ""),
    "coredns": ("tandem-coredns", ""),
    "front-proxy": ("front-proxy", ""),
}
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # Heartbeats: they say nothing, and are most of all writes.
        {
            "level": "None",
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
            "namespaces": ["kube-node-lease"],
        },
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        # The controllers' own ServiceAccounts read without end; those of tests and of the operator are what is asked
        # about.
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "verbs": ["get", "list", "watch"]},
        {"level": "None"},
    ],
}


def leaves_of(record: Record) -> list[Leaf]:
    """Every certificate of the cluster."""
    addresses = ("127.0.0.1", record.network.node, record.network.first_service)
    names = (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    users = [Leaf(file, name, group) for file, (name, group) in USERS.items()]
    servers = [
        Leaf("apiserver", "kube-apiserver", names=names, addresses=addresses),
        Leaf("kubelet-server", NODE_NAME, names=(NODE_NAME, "localhost"), addresses=addresses[:2]),
    ]
    return [*users, *servers]


def write_files(layout: Layout, record: Record) -> None:
    """Certificates, kubeconfigs and the audit policy. The authority and the token key are kept from earlier starts."""
    issue(authority_in(layout.pki), leaves_of(record))
    layout.configuration.mkdir(parents=True, exist_ok=True)
    for user in ("kwok", "controller-manager", "scheduler", "kubelet", "kube-proxy", "coredns"):
        write_kubeconfig(
            layout.configuration / f"{user}.kubeconfig", kubeconfig_of(record.server, layout.pki, leaf=user)
        )
    write_kubeconfig(layout.kubeconfig, kubeconfig_of(record.server, layout.pki, leaf="admin"))
    write_whole(layout.configuration / "audit-policy.yaml", yaml.safe_dump(AUDIT_POLICY, sort_keys=False))


def start_control_plane(
    launcher: Launcher, binaries: Binaries, *, record: Record, kubectl: Kubectl, progress: Progress
) -> None:
    """Start all four; returns when the API server is ready.

    Raises ClusterError when one ends or is not ready in time.
    """
    layout = launcher.layout
    with progress.step("etcd and the API server are ready"):
        etcd = launcher.start("etcd", etcd_argv(layout, record, program=binaries["etcd"]))
        apiserver = launcher.start("apiserver", apiserver_argv(layout, record, program=binaries["kube-apiserver"]))
        wait_for_api(kubectl, [etcd, apiserver])
    launcher.start(
        "controller-manager", controller_manager_argv(layout, record, program=binaries["kube-controller-manager"])
    )
    launcher.start("scheduler", scheduler_argv(layout, record, program=binaries["kube-scheduler"]))


def wait_for_api(kubectl: Kubectl, processes: Sequence[Process], *, limit_seconds: float = 60) -> None:
    """Return once the API server says that it is ready.

    Raises ClusterError when that takes too long or one of `processes` ends.
    """
    wait_until(
        kubectl.is_answering,
        "the API server to be ready",
        limit_seconds=limit_seconds,
        log=Path(processes[-1].log),
        processes=processes,
        poll_seconds=0.2,
    )


def etcd_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """etcd without fsync: a cluster of this kind survives the death of its processes, not a power cut."""
    client, peer = (f"http://127.0.0.1:{record.ports[name]}" for name in ("etcd", "etcd-peer"))
    return [
        program,
        "--name=tandem",
        f"--data-dir={layout.etcd}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=tandem={peer}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=2147483648",
        "--log-level=warn",
    ]


def apiserver_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """Admission plugins stay as they are by default.

    With a real node it listens inside, and advertises the node's address to pods.
    """
    pki = layout.pki
    reconciler = "lease" if record.has_real_node else "none"
    return [
        program,
        f"--etcd-servers=http://127.0.0.1:{record.ports['etcd']}",
        f"--bind-address={'0.0.0.0' if record.has_real_node else '127.0.0.1'}",  # noqa: S104
        f"--secure-port={record.ports['apiserver']}",
        f"--advertise-address={record.server_address}",
        f"--endpoint-reconciler-type={reconciler}",
        f"--service-cluster-ip-range={record.network.services}",
        "--allow-privileged=true",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--authorization-mode=Node,RBAC",
        f"--requestheader-client-ca-file={pki}/ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        f"--audit-policy-file={layout.configuration}/audit-policy.yaml",
        f"--audit-log-path={layout.audit_log}",
        # An event is in the log before its answer is sent, so that a test may count at once.
        "--audit-log-mode=blocking-strict",
        "--audit-log-maxsize=1000",
        "--audit-log-maxbackup=2",
        "--event-ttl=1h",
        "--profiling=false",
    ]


def controller_manager_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """A higher client limit than usual: with 20 requests a second, 500 Deployments take a minute and a half to become
    pods.
    """
    return [
        program,
        *_client(layout, "controller-manager"),
        f"--secure-port={record.ports['controller-manager']}",
        f"--root-ca-file={layout.pki}/ca.crt",
        f"--service-account-private-key-file={layout.pki}/sa.key",
        "--use-service-account-credentials=true",
        # It makes this folder; the default lies outside the state.
        f"--flex-volume-plugin-dir={layout.node}/volume-plugins",
        "--node-monitor-grace-period=40s",
        "--horizontal-pod-autoscaler-sync-period=2s",
    ]


def scheduler_argv(layout: Layout, record: Record, *, program: str) -> list[str]:
    """The default scheduler."""
    return [program, *_client(layout, "scheduler"), f"--secure-port={record.ports['scheduler']}"]


def _client(layout: Layout, name: str) -> list[str]:
    kubeconfig = layout.configuration / f"{name}.kubeconfig"
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={layout.configuration}/{name}-certificates",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]
