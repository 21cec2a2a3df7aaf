"""API servers on this machine behind the cluster's own: a certificate, and the registration for as long as they run."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.cluster import Cluster
from deploy.local.pki import Leaf, authority_in, issue
from deploy.local.record import read_record
from tests.clusters import wait_for


def host_of(cluster: Cluster) -> str:
    """This machine, as the API server sees it."""
    record = read_record(cluster.layout)
    assert record is not None
    return record.network.host if record.has_real_node else "127.0.0.1"


def issue_for(service: str, namespace: str, folder: Path) -> None:
    """An authority in `folder`, and tls.crt and tls.key below it in the name of a Service and for loopback."""
    issue(authority_in(folder), [Leaf("tls", service, names=(f"{service}.{namespace}.svc",), addresses=("127.0.0.1",))])


@contextmanager
def registered(
    cluster: Cluster, group: str, version: str, *, service: str, namespace: str, port: int, folder: Path
) -> Iterator[None]:
    """The API at this port of this machine, with the certificate in `folder`, is the cluster's while the body runs.

    As long as it were registered and silent, no namespace of the cluster could be deleted.
    """
    name = f"{version}.{group}"
    spec = {
        "group": group,
        "version": version,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": service, "namespace": namespace, "port": port},
        "caBundle": base64.b64encode((folder / "ca.crt").read_bytes()).decode(),
    }
    cluster.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service, "namespace": namespace},
            "spec": {"type": "ExternalName", "externalName": host_of(cluster)},
        },
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}, "spec": spec},
    )
    try:
        wait_for(cluster.kubectl, "condition=Available", f"apiservice/{name}", namespace=namespace)
        yield
    finally:
        cluster.kubectl.run("delete", "apiservice", name)
