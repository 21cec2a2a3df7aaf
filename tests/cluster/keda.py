"""A real KEDA as processes of this machine: its operator, and its metrics adapter behind the API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.addresses import free_ports
from deploy.local.binaries import build, module_of, source_of
from deploy.local.cluster import Cluster
from deploy.local.processes import Process, end, start, wait_until
from tests.cluster.aggregation import host_of, issue_for, registered

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
SERVICE = "keda-metrics-apiserver"
KINDS = "scaledobjects,scaledjobs,triggerauthentications,clustertriggerauthentications"


@contextmanager
def running_keda(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Path]:
    """For ScaledObjects of this namespace; its operator's log."""
    module = module_of("keda-operator")
    programs = build(cluster.layout, cluster.progress, modules=[module])
    kinds = source_of(cluster.layout, module, progress=cluster.progress) / "config/crd/bases"
    cluster.kubectl.run("apply", "--server-side", "-f", str(kinds))
    wait_until(
        lambda: cluster.kubectl.attempt("get", KINDS, "--all-namespaces").returncode == 0,
        "KEDA's kinds",
        limit_seconds=30,
        log=cluster.layout.log_of("apiserver"),
    )
    folder.mkdir()
    issue_for(SERVICE, namespace, folder)
    ports = free_ports(("metrics-service", "adapter", "adapter-metrics"))
    asked = f"127.0.0.1:{ports['metrics-service']}"
    kubeconfig = cluster.kubeconfig
    operator = [
        programs["keda-operator"],
        f"--kubeconfig={kubeconfig}",
        f"--metrics-service-bind-address={asked}",
        f"--cert-dir={folder}",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        "--enable-webhook-patching=false",
        "--enable-apiservice-patching=false",
    ]
    adapter = [
        programs["keda-adapter"],
        *(f"--{use}kubeconfig={kubeconfig}" for use in ("", "authentication-", "authorization-", "lister-")),
        f"--metrics-service-address={asked}",
        f"--cert-dir={folder}",
        f"--bind-address={host_of(cluster)}",
        f"--secure-port={ports['adapter']}",
        f"--port={ports['adapter-metrics']}",
        f"--tls-cert-file={folder}/tls.crt",
        f"--tls-private-key-file={folder}/tls.key",
    ]
    places = dict.fromkeys(("POD_NAMESPACE", "WATCH_NAMESPACE", "KEDA_CLUSTER_OBJECT_NAMESPACE"), namespace)
    processes: list[Process] = []
    try:
        for name, argv in (("keda-operator", operator), ("keda-adapter", adapter)):
            processes.append(
                start(name, argv, log=folder / f"{name}.log", environment={"PATH": "/usr/bin:/bin", **places})
            )
        log = folder / "keda-adapter.log"
        wait_until(
            lambda: "Serving securely" in log.read_text(),
            "KEDA's adapter",
            limit_seconds=60,
            log=log,
            processes=processes,
        )
        port = ports["adapter"]
        with registered(cluster, GROUP, VERSION, service=SERVICE, namespace=namespace, port=port, folder=folder):
            yield folder / "keda-operator.log"
    finally:
        end([*reversed(processes)], grace_seconds=10)
