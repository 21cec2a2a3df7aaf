"""The chart's admission policy on a real API server: it refuses what breaks it, and no pod that the operator makes.

In a namespace without PodSecurity, so that it is the policy that refuses.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.binaries import Binaries
from deploy.local.kubectl import Kubectl
from deploy.local.processes import wait_until
from tandem_operator.api.deployment import Owner
from tandem_operator.objects.gate import GateTerms, gate_of
from tests.chart.rendering import VALUES, Manifest, objects_in, rendered

GOLDEN = Path(__file__).parents[1] / "unit/operator/golden"
OURS = {"app.kubernetes.io/managed-by": "tandem-operator"}
SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 10001}
DRY = ("create", "--dry-run=server", "-f", "-")


@pytest.fixture(scope="module")
def guarded(binaries: Binaries, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace with the policy of a release in it, in force."""
    name = f"t-{secrets.token_hex(4)}"
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    text = rendered(
        binaries["helm4"], VALUES["guarded"], tmp_path_factory.mktemp("guarded"), release="tandem", namespace=name
    )
    policy = [o for o in objects_in(text) if o["kind"].startswith("ValidatingAdmissionPolicy")]
    kubectl.apply(*policy)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tandem-operator", "namespace": name}}
    kubectl.apply(account)
    wait_until(
        lambda: "ValidatingAdmissionPolicy" in create(kubectl, pod({"hostPID": True}), name),
        "the policy in force",
        limit_seconds=30,
        log=kubectl.layout.log_of("apiserver"),
        poll_seconds=0.2,
    )
    yield name
    for found in policy:
        kubectl.run("delete", found["kind"].lower(), found["metadata"]["name"])
    kubectl.run("delete", "namespace", name, "--wait=false")


def create(kubectl: Kubectl, manifest: Manifest, namespace: str) -> str:
    """What the API server says against it; empty: nothing."""
    done = kubectl.attempt(*DRY, "-n", namespace, stdin=json.dumps(manifest))
    return done.stderr


def pod(spec: Manifest | None = None, *, container: Manifest | None = None, labels: Manifest = OURS) -> Manifest:
    """A pod that is allowed, with parts of its own."""
    engine = {"name": "engine", "image": "image", "securityContext": SAFE, **(container or {})}
    base = {"automountServiceAccountToken": False, "containers": [engine]}
    metadata = {"name": "tried", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**base, **(spec or {})}}


def volume(**source: object) -> Manifest:
    return {"volumes": [{"name": "added", **source}]}


def token(audience: str | None) -> Manifest:
    asked = {"path": "token", **({"audience": audience} if audience else {})}
    return volume(projected={"sources": [{"serviceAccountToken": asked}]})


def variable(name: str) -> Manifest:
    return {"env": [{"name": name, "value": "x"}]}


def security(**changes: object) -> Manifest:
    return {"securityContext": {**SAFE, **changes}}


REFUSED: dict[str, tuple[Manifest, str]] = {
    "the host's network": (pod({"hostNetwork": True}), "the host's network"),
    "the host's processes": (pod({"hostPID": True}), "the host's network, processes"),
    "the host's IPC": (pod({"hostIPC": True}), "IPC"),
    "the operator's account": (pod({"serviceAccountName": "tandem-operator"}), "must not run as the operator"),
    "a token by default": (pod({"automountServiceAccountToken": None}), "automountServiceAccountToken"),
    "a token for the API server": (pod(token(None)), "must not mount a token"),
    "a token for others": (pod(token("vault")), "must not mount a token"),
    "a folder of the host": (pod(volume(hostPath={"path": "/"})), "a volume of a pod"),
    "a file server": (pod(volume(nfs={"server": "a", "path": "/"})), "a volume of a pod"),
    "any csi driver": (pod(volume(csi={"driver": "secrets-store.csi.k8s.io"})), "a volume of a pod"),
    "privileged": (pod(container=security(privileged=True, allowPrivilegeEscalation=True)), "must not be privileged"),
    "escalation": (pod(container=security(allowPrivilegeEscalation=None)), "must not be privileged"),
    "capabilities kept": (pod(container=security(capabilities=None)), "drop ALL"),
    "a capability": (
        pod(container=security(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]})),
        "add none",
    ),
    "root": (pod(container=security(runAsUser=0)), "another user than root"),
    "root of the pod": (
        pod({"securityContext": {"runAsUser": 0}}, container=security(runAsUser=None)),
        "another user than root",
    ),
    "perhaps root": (pod(container=security(runAsNonRoot=None)), "another user than root"),
    "a port of the host": (
        pod(container={"ports": [{"containerPort": 80, "hostPort": 80}]}),
        "must not take a port of the host",
    ),
    "a library": (pod(container=variable("LD_PRELOAD")), "the environment of a container"),
    "a module": (pod(container=variable("PYTHONPATH")), "the environment of a container"),
    "a proxy": (pod(container=variable("https_proxy")), "the environment of a container"),
    "a way around vLLM's checks": (pod(container=variable("VLLM_ALLOW_INSECURE_SERIALIZATION")), "the environment"),
    "variables by the dozen": (pod(container={"envFrom": [{"configMapRef": {"name": "any"}}]}), "(envFrom)"),
    "variables of an init container": (
        pod(
            {
                "initContainers": [
                    {"name": "a", "image": "image", **security(), "envFrom": [{"secretRef": {"name": "any"}}]}
                ]
            }
        ),
        "(envFrom)",
    ),
    "a node by name": (pod({"nodeName": "control-plane"}), "past the scheduler"),
    "every taint": (pod({"tolerations": [{"operator": "Exists"}]}), "must not tolerate every taint"),
    "control planes": (
        pod({"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}),
        "control planes",
    ),
    "an init container": (
        pod({"initContainers": [{"name": "first", "image": "image"}]}),
        "must not be privileged",
    ),
}


@pytest.mark.parametrize(("manifest", "said"), REFUSED.values(), ids=REFUSED)
def test_a_pod_that_looks_like_ours_is_refused(manifest: Manifest, said: str, kubectl: Kubectl, guarded: str) -> None:
    answer = create(kubectl, manifest, guarded)
    assert "ValidatingAdmissionPolicy" in answer
    assert said in answer


def test_a_pod_that_does_not_look_like_ours_is_nobodys_business(kubectl: Kubectl, guarded: str) -> None:
    assert create(kubectl, pod({"hostPID": True}, labels={"app": "other"}), guarded) == ""
    assert create(kubectl, pod({"hostPID": True}), "default") == "", "of another namespace"


def own_pods() -> dict[str, Manifest]:
    """Every kind of pod that the operator and `tandem bench` make: of the reviewed manifests, and a wake gate's."""
    terms = GateTerms("image", "pair", 1000, hold_seconds=60, pull_secrets=("pull",))
    found = {"gate": gate_of(Owner(name="pair", namespace="chat", uid="u"), terms)["spec"]["template"]}
    for file in sorted(GOLDEN.glob("*.yaml")):
        for manifest in objects_in(file.read_text()):
            if manifest.get("kind") in {"Deployment", "Job"}:
                found[f"{file.stem} {manifest['metadata']['name']}"] = manifest["spec"]["template"]
    return found


def test_every_pod_of_the_operator_passes(kubectl: Kubectl, guarded: str) -> None:
    pods = own_pods()
    assert {"gate", "verifier", "draft", "inspect", "fetch", "quantize", "evaluate", "evict", "benchmark"} <= {
        template["metadata"]["labels"]["app.kubernetes.io/component"] for template in pods.values()
    }
    accounts = {found["spec"].get("serviceAccountName", "default") for found in pods.values()} - {"default"}
    kubectl.apply(
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": guarded}}
            for name in accounts
        )
    )
    for name, template in pods.items():
        manifest = copy.deepcopy({"apiVersion": "v1", "kind": "Pod", **template})
        manifest["metadata"]["name"] = "tried"
        assert manifest["metadata"]["labels"].items() >= OURS.items()
        assert create(kubectl, manifest, guarded) == "", name


def test_the_api_server_finds_no_fault_with_the_policys_types(kubectl: Kubectl, guarded: str) -> None:
    found = kubectl.get("validatingadmissionpolicy", f"{guarded}-tandem-operator-pods")
    assert "expressionWarnings" not in found.get("status", {}).get("typeChecking", {})


def test_a_container_may_be_added_to_a_pod_that_the_scheduler_has_given_a_node(kubectl: Kubectl, guarded: str) -> None:
    made = pod({"schedulerName": "this-test"})
    made["metadata"]["name"] = "bound"
    assert kubectl.attempt("create", "-n", guarded, "-f", "-", stdin=json.dumps(made)).returncode == 0
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "bound", "namespace": guarded},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "a-node"},
    }
    path = f"/api/v1/namespaces/{guarded}/pods/bound/binding"
    kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    added = {"name": "debugger", "image": "image", "securityContext": SAFE}
    patch = json.dumps({"spec": {"ephemeralContainers": [added]}})
    done = kubectl.attempt("patch", "pod", "bound", "-n", guarded, "--subresource=ephemeralcontainers", "-p", patch)
    assert done.stderr == ""
    kubectl.run("delete", "pod", "bound", "-n", guarded, "--force", "--grace-period=0")


def test_a_container_may_not_be_added_to_a_pod_of_ours_with_more_rights(kubectl: Kubectl, guarded: str) -> None:
    made = pod()
    made["metadata"]["name"] = "debugged"
    assert kubectl.attempt("create", "-n", guarded, "-f", "-", stdin=json.dumps(made)).returncode == 0

    def add(security_context: Manifest) -> str:
        added = {"name": "debugger", "image": "image", "securityContext": security_context}
        patch = json.dumps({"spec": {"ephemeralContainers": [added]}})
        to = ("pod", "debugged", "-n", guarded, "--subresource=ephemeralcontainers")
        done = kubectl.attempt("patch", *to, "--type=strategic", "-p", patch)
        return done.stderr

    assert "must not be privileged" in add({"privileged": True})
    assert add(SAFE) == ""


@pytest.mark.parametrize("role", ["view", "edit"])
def test_whoever_may_view_or_edit_a_namespace_may_do_so_with_deployments(
    role: str, binaries: Binaries, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    text = rendered(binaries["helm4"], VALUES["with roles for users"], tmp_path, release="tandem", namespace=namespace)
    roles = [o for o in objects_in(text) if o["kind"] == "ClusterRole"]
    user = f"{role}-{namespace}"

    def may(verb: str, resource: str, subresource: str = "") -> bool:
        attributes = {"group": "tandem.dev", "resource": resource, "subresource": subresource, "verb": verb}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {"namespace": namespace, **attributes}},
        }
        answer = kubectl.run("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
        return bool(json.loads(answer)["status"]["allowed"])

    kubectl.run("create", "rolebinding", "user", f"--clusterrole={role}", f"--user={user}", "-n", namespace)
    assert not may("list", "llmdeployments")
    kubectl.apply(*roles)
    wait_until(
        lambda: may("list", "llmdeployments"),
        f"the aggregated role {role}",
        limit_seconds=30,
        log=kubectl.layout.log_of("controller-manager"),
        poll_seconds=0.2,
    )
    wait_until(
        lambda: may("update", "llmdeployments", "scale") is (role == "edit"),
        "the right to scale" if role == "edit" else "no right to scale",
        limit_seconds=30,
        log=kubectl.layout.log_of("controller-manager"),
        poll_seconds=0.2,
    )
    assert may("create", "llmdeployments") is (role == "edit")
    assert not may("patch", "llmdeployments", "status")
    assert not may("create", "modelartifacts")
    for found in roles:
        kubectl.run("delete", "clusterrole", found["metadata"]["name"])
