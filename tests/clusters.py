"""Fixtures for tests on the real local cluster: one cluster a worker, one namespace a test. A pytest plugin.

Only the cluster that `python -m deploy.local up` made from our own state folder is ever touched; `KUBECONFIG` is
ignored. Build the programs before the tests (`python -m deploy.local build`): the limit of a test is shorter than a
build.
"""

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from deploy.local.cluster import Cluster
from deploy.local.kubectl import Kubectl
from deploy.local.layout import layout_of
from deploy.local.processes import wait_until

REAL_NODE = "real_node: needs the real node of the local cluster; skipped without root, and only then"


ONE_WORKER = {
    "tests/e2e": "the images are loaded into one cluster",
    "tests/runtime": "the engines are started once",
}
"""Folders of which one worker has all tests, and why; of any other, a file is what a worker gets."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and give each worker of a parallel run a cluster of its own."""
    config.addinivalue_line("markers", REAL_NODE)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        state = layout_of().state
        os.environ["TANDEM_STATE"] = str(state.with_name(f"{state.name}-{worker}"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """What a worker of a parallel run gets at a time."""
    return ByFolderOrFile(config, log)


class ByFolderOrFile(LoadScopeScheduling):
    """A file, or the whole of a folder that has to stay together."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder in ONE_WORKER else path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a real node where there can be none."""
    if item.get_closest_marker("real_node") is not None and os.geteuid() != 0:
        pytest.skip("the real node needs root: containers, and a network of its own")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The running cluster.

    Brought up once a run; taken down at the end unless it ran before or TANDEM_KEEP_CLUSTER=1.
    """
    found = Cluster()
    ran_before = found.is_running()
    found.up()
    found.refuse_foreign()
    yield found
    if not ran_before and os.environ.get("TANDEM_KEEP_CLUSTER") != "1":
        found.down()


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    """kubectl on the cluster: `run`, `attempt`, `get`, `apply`."""
    return cluster.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A fresh namespace that enforces PodSecurity `restricted`; deleted afterwards, without waiting for it."""
    name = f"t-{secrets.token_hex(4)}"
    make_namespace(kubectl, name)
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


def make_namespace(kubectl: Kubectl, name: str) -> None:
    """Make it and wait until pods are accepted there."""
    enforce = "pod-security.kubernetes.io/enforce"
    labels = {enforce: "restricted", f"{enforce}-version": "latest"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    wait_until(
        lambda: kubectl.attempt("get", "serviceaccount", "default", "-n", name).returncode == 0,
        f"ServiceAccount {name}/default",
        limit_seconds=20,
        log=kubectl.layout.log_of("controller-manager"),
        poll_seconds=0.1,
    )


def wait_for(kubectl: Kubectl, condition: str, *what: str, namespace: str, limit_seconds: float = 30) -> None:
    """`kubectl wait --for=CONDITION WHAT`; fails the test, showing pods and events, when it is too late."""
    done = kubectl.attempt(
        "wait",
        f"--for={condition}",
        *what,
        "-n",
        namespace,
        f"--timeout={limit_seconds:.0f}s",
        limit_seconds=limit_seconds + 10,
    )
    if done.returncode != 0:
        shown = kubectl.attempt("get", "pods,events", "-n", namespace, "-o", "wide").stdout
        pytest.fail(f"waited {limit_seconds:.0f} s for {condition} of {' '.join(what)}: {done.stderr.strip()}\n{shown}")
