"""The chart in the local cluster, by both Helms: what the API server makes of it. No operator runs (replicas: 0)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from deploy.local.cluster import Cluster
from deploy.local.kubectl import Kubectl

CHART = Path(__file__).parents[2] / "charts" / "tandem"
ACCOUNT = "tandem-operator"
QUIET = ("--set=crds.install=false", "--set=replicas=0", "--set-string=image.tag=0123456789ab")
LIMIT_SECONDS = 90
OURS = "deployments,configmaps,serviceaccounts,roles,rolebindings"


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """Both Helms, one after the other."""
    return cluster.binaries[request.param]


def run(helm: str, *arguments: str, cluster: Cluster, namespace: str) -> str:
    """Run Helm in a namespace of the local cluster; fails the test with what Helm says."""
    argv = [helm, *arguments, f"--namespace={namespace}", f"--kubeconfig={cluster.kubeconfig}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def names_of_ours(kubectl: Kubectl, namespace: str) -> set[str]:
    """Kind and name of everything with the chart's label."""
    found = kubectl.get(OURS, "-n", namespace, "-l", "app.kubernetes.io/part-of=tandem")
    return {f"{item['kind']}/{item['metadata']['name']}" for item in found["items"]}


def test_a_release_is_installed_upgraded_rolled_back_and_removed(
    helm: str, cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    install = ["install", "tandem", str(CHART), *QUIET, "--wait", "--timeout=60s"]
    assert "no operator runs" in run(helm, *install, cluster=cluster, namespace=namespace)
    kinds = ("Deployment", "ConfigMap", "ServiceAccount", "Role", "RoleBinding")
    assert names_of_ours(kubectl, namespace) == {f"{kind}/{ACCOUNT}" for kind in kinds}

    def checksum() -> str:
        template = kubectl.get("deployment", ACCOUNT, "-n", namespace)["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    before = checksum()
    upgrade = ["upgrade", "tandem", str(CHART), "--reset-then-reuse-values", "--set=config.resyncSeconds=30"]
    run(helm, *upgrade, "--wait", "--timeout=60s", cluster=cluster, namespace=namespace)
    assert checksum() != before
    run(helm, "rollback", "tandem", "1", "--wait", "--timeout=60s", cluster=cluster, namespace=namespace)
    assert checksum() == before
    run(helm, "uninstall", "tandem", "--wait", "--timeout=60s", cluster=cluster, namespace=namespace)
    assert names_of_ours(kubectl, namespace) == set()


def test_the_pod_is_admitted_where_podsecurity_is_restricted(
    helm: str, cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    run(helm, "install", "tandem", str(CHART), *QUIET, cluster=cluster, namespace=namespace)
    template = kubectl.get("deployment", ACCOUNT, "-n", namespace)["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "operator", "namespace": namespace},
        "spec": template["spec"],
    }
    file = json.dumps(pod)
    done = kubectl.attempt("apply", "--dry-run=server", "-f", "-", stdin=file)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    refused = kubectl.attempt("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert "violates PodSecurity" in refused.stderr


def test_the_account_may_do_its_work_and_nothing_around_it(
    helm: str, cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    run(helm, "install", "tandem", str(CHART), *QUIET, cluster=cluster, namespace=namespace)

    def may(*what: str) -> bool:
        account = f"--as=system:serviceaccount:{namespace}:{ACCOUNT}"
        return kubectl.attempt("auth", "can-i", *what, account).stdout.strip() == "yes"

    here = ("-n", namespace)
    assert may("patch", "deployments.apps", *here)
    assert may("create", "leases.coordination.k8s.io", *here)
    assert may("update", "leases.coordination.k8s.io/tandem-operator", *here)
    assert not may("update", "leases.coordination.k8s.io/another", *here)
    assert not may("list", "secrets", *here)
    assert not may("create", "pods", *here)
    assert may("create", "serviceaccounts", *here)
    assert not may("create", "serviceaccounts", "--subresource=token", *here)  # TYPE/token would be one of that name
    assert may("create", "jobs.batch", *here)
    assert not may("patch", "modelartifacts.tandem.dev", "-n", "default")
    assert not may("patch", "deployments.apps", "-n", "default")
    assert not may("list", "nodes")
