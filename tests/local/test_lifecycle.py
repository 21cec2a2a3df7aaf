"""The life of a cluster on the real machine: it serves, survives a crash, and leaves nothing behind."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.cluster import Cluster
from deploy.local.errors import ClusterError
from deploy.local.kubectl import Kubectl
from deploy.local.layout import Layout, layout_of
from deploy.local.oci_archive import Image, write_archive
from deploy.local.processes import wait_until
from deploy.local.record import read_record
from tests.clusters import make_namespace, wait_for
from tests.local.machine import read_machine

ANSWER = Path(__file__).parent / "answer" / "main.go"
SPACE = "life"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def make_pod_spec(image: str, *arguments: str, restart: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    container = {"name": "c", "image": image, "args": [*arguments], "securityContext": RESTRICTED}
    if arguments[0] == "serve":
        container["readinessProbe"] = probe
    return {"restartPolicy": restart, "containers": [container]}


def make_server(image: str) -> list[dict[str, Any]]:
    labels = {"app": "server"}
    template = {"metadata": {"labels": labels}, "spec": make_pod_spec(image, "serve", "hello", restart="Always")}
    meta = {"name": "server", "namespace": SPACE}
    headless = {"name": "direct", "namespace": SPACE}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": headless,
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 8080}]},
        },
    ]


def answers_in_pods(cluster: Cluster, image: str, **url_of_pod: str) -> dict[str, str]:
    """What new pods, one for each name, get from their address."""
    for name, url in url_of_pod.items():
        metadata = {"name": name, "namespace": SPACE}
        spec = make_pod_spec(image, "get", url, restart="Never")
        cluster.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    pods = [f"pod/{name}" for name in url_of_pod]
    wait_for(cluster.kubectl, "jsonpath={.status.phase}=Succeeded", *pods, namespace=SPACE)
    return {name: cluster.kubectl.run("logs", name, "-n", SPACE) for name in url_of_pod}


def crash(cluster: Cluster, *names: str) -> None:
    """SIGKILL to the programs `names` at once, as the kernel does when memory runs out; returns when they are gone."""
    for name in names:
        process = cluster.processes()[name]
        assert process is not None, f"{name} does not run; log: {cluster.layout.log_of(name)}"
        os.kill(process.pid, signal.SIGKILL)
    wait_until(
        lambda: not any(cluster.processes()[name] for name in names),
        f"the killed {', '.join(names)} to be gone",
        limit_seconds=20,
    )


@pytest.mark.real_node
def test_a_cluster_serves_survives_a_crash_and_leaves_nothing_behind(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state", layout_of().cache)
    before = read_machine(layout)
    cluster = Cluster(layout)
    try:
        cluster.up()
        assert cluster.has_real_node
        assert cluster.is_running()
        image = cluster.load_program(ANSWER, "tandem.local/answer")
        make_namespace(cluster.kubectl, SPACE)
        cluster.kubectl.apply(*make_server(image))
        answers = answers_in_pods(cluster, image, service=f"http://server.{SPACE}/", headless="http://direct:8080/")
        assert answers == {"service": "hello", "headless": "hello"}

        # Containers and their shims stay, as nothing is left that could end them; and what entered the namespaces for
        # a program that is stopped stops with it, and never collects it.
        stopped = cluster.processes()["etcd"]
        assert stopped is not None
        os.kill(stopped.pid, signal.SIGSTOP)
        crash(cluster, *(name for name in cluster.processes() if name != "anchor"))
        assert not cluster.is_running()
        cluster.up()
        assert cluster.is_running()
        assert answers_in_pods(cluster, image, later="http://server/") == {"later": "hello"}

        # With the anchor everything ends at once, as when the machine is switched off.
        crash(cluster, "anchor")
        assert not any(cluster.processes().values())
    finally:
        cluster.down()
    after = read_machine(layout)
    assert dataclasses.asdict(after) == dataclasses.asdict(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_node
def test_the_machine_shows_of_a_running_node_one_device_and_one_route(cluster: Cluster) -> None:
    running, record, device = read_machine(cluster.layout), read_record(cluster.layout), cluster.layout.device
    assert record is not None
    assert device in running.devices
    routes = [route.split() for route in running.routes]
    inside = record.network.whole.removesuffix("0.0/16")
    there = [route for route in routes if device in route or any(word.startswith(inside) for word in route)]
    assert {route[route.index("dev") + 1] for route in there} == {device}
    made = [route[0] for route in there if "kernel" not in route]  # it adds some for the address of any device
    assert made == [record.network.whole]
    assert "kube-proxy" not in running.packet_rules
    assert [mount for mount in running.mounts if str(cluster.layout.state) in mount or "kubelet" in mount] == []


@pytest.mark.real_node
def test_a_pod_can_mount_a_loaded_image_as_a_volume(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    write_archive(Image("tandem.local/weights:1", {"model.txt": b"weights"}, []), tmp_path / "weights.tar")
    assert cluster.load_image(tmp_path / "weights.tar") == ["tandem.local/weights:1"]
    image = cluster.load_program(ANSWER, "tandem.local/answer")
    spec = make_pod_spec(image, "read", "/models/model.txt", restart="Never")
    spec["volumes"] = [{"name": "m", "image": {"reference": "tandem.local/weights:1", "pullPolicy": "IfNotPresent"}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "m", "mountPath": "/models"}]
    metadata = {"name": "reader", "namespace": namespace}
    cluster.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    wait_for(cluster.kubectl, "jsonpath={.status.phase}=Succeeded", "pod/reader", namespace=namespace)
    assert cluster.kubectl.run("logs", "reader", "-n", namespace) == "weights"


@pytest.mark.real_node
def test_an_archive_that_is_none_is_refused_with_its_path(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=f"{tmp_path}/no.tar is not a file"):
        cluster.load_image(tmp_path / "no.tar")
    (tmp_path / "bad.tar").write_text("no archive")
    with pytest.raises(ClusterError, match=f"importing {tmp_path}/bad.tar failed"):
        cluster.load_image(tmp_path / "bad.tar")


def test_up_does_nothing_when_the_cluster_runs(cluster: Cluster) -> None:
    processes = cluster.processes()
    cluster.up()
    assert cluster.processes() == processes


@pytest.mark.real_node
def test_all_cores_of_the_machine_are_allocatable(kubectl: Kubectl) -> None:
    node = kubectl.get("node", "tandem-node")
    assert int(node["status"]["allocatable"]["cpu"]) == os.cpu_count()


def test_a_write_is_in_the_audit_log_as_soon_as_it_is_answered(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl.run("create", "configmap", "written", "-n", namespace)
    cluster.kubectl.run("get", "configmap", "written", "-n", namespace)
    events = [json.loads(line) for line in cluster.layout.audit_log.read_text().splitlines()]
    verbs = [
        e["verb"]
        for e in events
        if (e.get("objectRef") or {}).get("name") == "written" and e["objectRef"]["namespace"] == namespace
    ]
    assert verbs == ["create"]


def test_reads_by_service_accounts_are_in_the_audit_log(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    user = f"system:serviceaccount:{namespace}:default"
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl.run("create", "token", "default", "-n", namespace).strip()
    kubeconfig["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    refused = cluster.kubectl.attempt("--kubeconfig", f"{tmp_path}/kubeconfig", "get", "pods", "-n", namespace)
    assert "is forbidden" in refused.stderr
    events = [json.loads(line) for line in cluster.layout.audit_log.read_text().splitlines()]
    reads = [
        event for event in events if event["user"]["username"] == user and event["objectRef"]["resource"] == "pods"
    ]
    assert {event["verb"] for event in reads} == {"list"}
