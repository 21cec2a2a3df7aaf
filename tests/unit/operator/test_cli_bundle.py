"""`tandem debug bundle`: what is in it, what is noted as missing, and that no secret is in it, wherever one was."""

from __future__ import annotations

import itertools
import json
import stat
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_contracts import metrics
from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator import __version__, names
from tandem_operator.cli.bundle import BUNDLE
from tandem_operator.cli.main import main
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tests.builders import NAME, NAMESPACE, make_body, make_child, make_raw_pod, make_spec
from tests.unit.operator.user_cluster import UserCluster, user_cluster

VERIFIER, OPERATOR, ARTIFACT = f"{NAME}-verifier-a", "tandem-operator-x", "m-0123456789abcdef"
OWN = {names.LABEL_DEPLOYMENT: NAME}
OF_OPERATOR = {names.LABEL_PART_OF: names.PART_OF, names.LABEL_COMPONENT: "operator"}
CONFIG = """
accelerators: {npu: {resource: x/npu, environment: {VENDOR_LICENCE: plain-%s}}}
prometheus: {address: ''}
"""
NUMBER = 7701234567
SECRETIVE = """
apiKeys: [%s]
credentials: {of-one: {user: %s}}
password: %d
tokensPerSecond: 51
"""
IDENTITY = {"name", "namespace", "uid", "apiVersion", "kind", "creationTimestamp", "lastTransitionTime", "labels"}
"""Keys of what makes an object that one, and of what is a time or a word of a closed set."""
CLOSED = {"phase", "podIP", "type", "status", "role", "resourceVersion"}


FORMS = (
    "hf_Canary{0}CanaryCanary",
    "ghp_Canary{0}CanaryCanary",
    "github_pat_canary{0}_canarycanary",
    "AKIACANARY{0}CANARY",
    "Bearer canary.{0}.canary",
    "https://canary:canary{0}@example.com/x",
    "password=canary-{0}",
    "eyJcanary{0}.canarycanary.canary",
    "sk-Canary-{0}-canarycanary",
    "sk-canary{0}canarycanary",
    "serve --api-key canary-{0} --seed 1",
    "sh -c \"serve --hf-token 'canary {0}'\"",
    "['serve', '--api-key', 'canary-{0}']",
    "'api_key': ['canary-{0}', 'canary-{0}']",
    '"apiKeys": [{{"canary-{0}": "canary-{0}"}}]',
    '\\"secret\\": \\"canary {0}\\"',
    "https://example.com/x?X-Amz-Signature=canary{0}&x=1",
    "https://example.com/x?X-Amz-Security-Token=canary{0}%2F&x=1",
    "https://example.com/x?X-Goog-Signature=canary{0}",
    "https://example.com/x?sv=1&sig=canary{0}canarycanary%3D",
)
"""In which credentials are written, each with the word in it and a number of four digits."""


class Canaries:
    """Secrets that nobody may see: each has the word in it, and each is another one."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1000)
        self._forms = itertools.cycle(FORMS)

    def token(self) -> str:
        """One that looks like a credential."""
        return next(self._forms).format(next(self._numbers))

    def plain(self) -> str:
        """One that looks like nothing: only the place where it is tells."""
        return f"correct-canary-{next(self._numbers)}-staple"

    def planted(self, value: Any, key: str = "") -> Any:
        """The same object with one in every text that may hold one."""
        if isinstance(value, dict):
            made = {each: self.planted(inner, each) for each, inner in value.items()}
            if key == "metadata":
                made["annotations"] = {"example.com/note": self.plain(), f"{names.GROUP}/x": self.token()}
                made["managedFields"] = [{"manager": self.plain()}]
            return made if key not in IDENTITY else value
        if isinstance(value, list):
            return [self.planted(each, key) for each in value]
        if isinstance(value, str) and key not in IDENTITY | CLOSED:
            return f"{value} {self.token()}"
        return value


def pod_of(name: str, *, env: str = "", role: Role = Role.VERIFIER) -> Manifest:
    pod = make_raw_pod(
        role,
        "7f3a90c1",
        name=name,
        phase="Running",
        podIP="10.0.0.1",
        containerStatuses=[
            {
                "name": "engine",
                "restartCount": 1,
                "state": {"running": {}},
                "lastState": {"terminated": {"message": "it ended"}},
            }
        ],
    )
    container = {
        "name": "engine",
        "image": "reg.example/engine:1",
        "args": ["--served-name", "x", "--api-key", env or "none"],
        "env": [{"name": "HF_ENDPOINT", "value": env}, {"name": "HF_HUB_OFFLINE", "value": "1"}],
    }
    return {**pod, "spec": {"nodeName": "gpu-1", "containers": [container]}}


def event_of(name: str, about: str) -> Manifest:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "regarding": {"name": about}, "note": "it happened"}


def labelled(kind: str, name: str, labels: Manifest, **parts: Any) -> Manifest:
    made = make_child(kind, name, **parts)
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def log(pod: str, *, container: str = "engine", previous: bool = False, lines: int = 500) -> str:
    query = f"container={container}&tailLines={lines}&previous={str(previous).lower()}"
    return f"{KINDS['Pod'].path(NAMESPACE, pod)}/log?{query}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[UserCluster]:
    with user_cluster(tmp_path) as made:
        condition = {"type": "ArtifactsReady", "status": "True", "reason": "Published", "message": f"{ARTIFACT} is"}
        body = make_body(make_spec(autoscaling={"slo": {"timeToFirstToken": "2000ms"}, "verifier": {"maxReplicas": 4}}))
        made.put(names.KIND, {**body, "status": {"conditions": [condition], "scaling": {"desiredVerifiers": 1}}})
        made.put("Pod", pod_of(VERIFIER))
        made.put("Deployment", labelled("Deployment", f"{NAME}-verifier-7f3a90c1", OWN))
        made.put("ConfigMap", labelled("ConfigMap", names.scaling_name(NAME), OWN, data={"verifier": "{}"}))
        made.put("Service", labelled("Service", "of-another", {names.LABEL_DEPLOYMENT: "another"}))
        made.put("ConfigMap", labelled("ConfigMap", "of-the-user", {}, data={"prompts": "theirs"}))
        for name in (ARTIFACT, "m-of-another"):
            made.put(names.ARTIFACT_KIND, labelled(names.ARTIFACT_KIND, name, {}, spec={"path": "x"}))
            made.put("Job", labelled("Job", f"{name}-fetch", {names.LABEL_ARTIFACT: name}))
        containers = [{"name": "operator", "image": "reg.example/operator:7"}]
        template = {"template": {"spec": {"containers": containers}}}
        made.put("Deployment", labelled("Deployment", "tandem-operator", OF_OPERATOR, spec=template))
        made.put("ConfigMap", labelled("ConfigMap", "tandem-operator", OF_OPERATOR, data={"config.yaml": CONFIG % "x"}))
        status = {"phase": "Running", "containerStatuses": [{"name": "operator", "state": {"running": {}}}]}
        made.put("Pod", labelled("Pod", OPERATOR, OF_OPERATOR, status=status))
        made.put("Lease", make_child("Lease", names.LEASE))
        for name, about in (("e1", NAME), ("e2", VERIFIER), ("e3", "another-verifier")):
            made.put("Event", event_of(name, about))
        made.texts |= {
            "/version": '{"gitVersion": "v1.37.0"}',
            log(VERIFIER): "loading\n  weights\n",
            log(VERIFIER, previous=True): "out of memory\n",
            log(OPERATOR, container="operator"): '{"message": "a pass"}\n',
        }
        made.serve_page(VERIFIER, HTTP_PORT, f"{metrics.ENGINE_RUNNING} 1\n")
        made.serve_page(VERIFIER, METRICS_PORT, f"{metrics.ENGINE_READY} 1\n")
        made.serve_page(OPERATOR, 9090, "tandem_operator_passes_total 1\n")
        yield made


def bundle(cluster: UserCluster, tmp_path: Path, *options: str) -> dict[str, str]:
    """Texts of the archive, by their path in its folder."""
    out = tmp_path / "bundle.tar.gz"
    assert main(cluster.options("debug", "bundle", NAME, "--out", str(out), *options)) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = {}
    with tarfile.open(out) as archive:
        for member in archive.getmembers():
            folder, _, path = member.name.partition("/")
            assert folder == "bundle"
            packed = archive.extractfile(member)
            assert packed is not None
            found[path] = packed.read().decode()
    return found


def test_everything_that_helps_is_in_it_and_nothing_of_others(cluster: UserCluster, tmp_path: Path) -> None:
    found = bundle(cluster, tmp_path)
    index = yaml.safe_load(found.pop("index.yaml"))
    assert sorted(found) == index["files"]
    assert set(found) == {
        "resource.yaml",
        "status.txt",
        "why.txt",
        "events.yaml",
        f"objects/Pod-{VERIFIER}.yaml",
        f"objects/Deployment-{NAME}-verifier-7f3a90c1.yaml",
        f"objects/ConfigMap-{NAME}-scaling.yaml",
        f"artifacts/ModelArtifact-{ARTIFACT}.yaml",
        f"artifacts/Job-{ARTIFACT}-fetch.yaml",
        f"logs/{VERIFIER}.engine.log",
        f"logs/{VERIFIER}.engine.previous.log",
        f"metrics/{VERIFIER}-8000.txt",
        f"metrics/{VERIFIER}-8001.txt",
        "operator/Deployment-tandem-operator.yaml",
        "operator/ConfigMap-tandem-operator.yaml",
        f"operator/Pod-{OPERATOR}.yaml",
        "operator/Lease-tandem-operator.yaml",
        f"operator/logs/{OPERATOR}.operator.log",
        f"operator/metrics/{OPERATOR}-9090.txt",
    }
    assert (index["operator"], index["apiServer"]) == ("reg.example/operator:7", "v1.37.0")
    assert (index["tandem"], index["missing"]) == (__version__, [])
    assert found[f"logs/{VERIFIER}.engine.log"] == "loading\n  weights\n"
    assert found[f"logs/{VERIFIER}.engine.previous.log"] == "out of memory\n"
    assert [event["metadata"]["name"] for event in yaml.safe_load(found["events.yaml"])["items"]] == ["e1", "e2"]
    assert yaml.safe_load(found["resource.yaml"])["spec"]["autoscaling"]["slo"]["timeToFirstToken"] == "2000ms"
    assert "npu" in found["operator/ConfigMap-tandem-operator.yaml"]


def test_no_secret_is_in_it_wherever_one_was(cluster: UserCluster, tmp_path: Path) -> None:
    canaries = Canaries()
    for path, manifest in cluster.objects.items():
        cluster.objects[path] = canaries.planted(manifest)
    value = canaries.plain()
    cluster.put("Pod", canaries.planted(pod_of(VERIFIER)) | {"spec": pod_of(VERIFIER, env=value)["spec"]})
    several = SECRETIVE % (first := canaries.plain(), canaries.plain(), NUMBER)
    data = {"config.yaml": CONFIG % canaries.plain(), "token": "canary", "more.yaml": several}
    config = labelled("ConfigMap", "tandem-operator", OF_OPERATOR, data=data)
    cluster.put("ConfigMap", {**config, "binaryData": {"a.bin": b64encode(b"canary").decode()}})
    cluster.objects[f"/api/v1/namespaces/{NAMESPACE}/secrets/keys"] = {
        "metadata": {"name": "keys"},
        "data": {"key": "canary"},
    }
    key = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"
    for path in [path for path in cluster.texts if path != "/version"]:
        lines = [f"before {canaries.token()} after" for _ in FORMS]
        known = [f"asked with {each}" for each in (value, first, NUMBER)]
        cluster.texts[path] = "\n".join([*lines, *known, f"\x1b[31m{canaries.token()}\x1b[0m", key, "end"])
    found = bundle(cluster, tmp_path)
    lines = [f"{path}: {line}" for path, text in found.items() for line in text.splitlines()]
    hidden = ("canary", str(NUMBER), b64encode(b"canary").decode().lower())
    assert [line for line in lines if any(each in line.lower() for each in hidden)] == []
    assert "tokensPerSecond: 51" in found["operator/ConfigMap-tandem-operator.yaml"]
    assert "before *** after" in found[f"logs/{VERIFIER}.engine.log"]
    assert "asked with ***" in found[f"logs/{VERIFIER}.engine.previous.log"]
    assert found[f"operator/logs/{OPERATOR}.operator.log"].endswith("***\nend\n")
    pod = yaml.safe_load(found[f"objects/Pod-{VERIFIER}.yaml"])
    (container,) = pod["spec"]["containers"]
    assert container["env"] == [{"name": "HF_ENDPOINT", "value": "***"}, {"name": "HF_HUB_OFFLINE", "value": "1"}]
    assert container["args"] == ["--served-name", "x", "--api-key", "***"]
    assert container["image"] == "reg.example/engine:1"
    assert pod["metadata"]["annotations"]["example.com/note"] == "***"
    assert not any("/secrets" in path for path in cluster.asked("GET"))


def test_the_canaries_would_be_seen_if_nothing_took_them_out(cluster: UserCluster) -> None:
    canaries = Canaries()
    assert all("canary" in canaries.token().lower() for _ in FORMS)
    planted = yaml.safe_dump(canaries.planted(pod_of(VERIFIER)))
    assert planted.lower().count("canary") > 8
    assert main(cluster.options("debug", "bundle", "nobody")) == 2


def test_missing_rights_are_noted_and_the_rest_is_there(
    cluster: UserCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden |= {"/proxy/", "/log", "events", "modelartifacts", "leases", "/version"}
    found = bundle(cluster, tmp_path)
    missing = "\n".join(yaml.safe_load(found["index.yaml"])["missing"])
    for right in ("pods/proxy", "pods/log", "Event objects", "ModelArtifact objects", "operator/Lease"):
        assert right in missing
    assert f"objects/Pod-{VERIFIER}.yaml" in found
    said = capsys.readouterr().out
    assert "not there:" in said
    assert "pods/log" in said


def test_for_programs_it_is_one_document(
    cluster: UserCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden.add("leases")
    index = yaml.safe_load(bundle(cluster, tmp_path, "-o", "json")["index.yaml"])
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == BUNDLE.keys.keys()
    assert document == {
        "name": NAME,
        "namespace": NAMESPACE,
        "archive": str(tmp_path / "bundle.tar.gz"),
        "files": index["files"],
        "missing": index["missing"],
    }
    assert "operator/Lease" in document["missing"][0]


def test_without_an_operator_in_the_namespace_that_is_noted(cluster: UserCluster, tmp_path: Path) -> None:
    for path in [path for path in cluster.objects if "tandem-operator" in path]:
        del cluster.objects[path]
    index = yaml.safe_load(bundle(cluster, tmp_path)["index.yaml"])
    assert index["operator"] == "unknown"
    assert f"operator/: no pod of an operator in namespace {NAMESPACE}" in index["missing"]


def test_so_many_lines_are_asked_for(cluster: UserCluster, tmp_path: Path) -> None:
    cluster.texts[log(VERIFIER, lines=7)] = "the last seven\n"
    assert bundle(cluster, tmp_path, "--lines", "7")[f"logs/{VERIFIER}.engine.log"] == "the last seven\n"


def test_a_file_that_is_there_is_never_written_over(
    cluster: UserCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.tar.gz"
    out.write_text("mine")
    assert main(cluster.options("debug", "bundle", NAME, "--out", str(out))) == 1
    assert out.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_as_such(
    cluster: UserCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "missing/mine.tar.gz"
    assert main(cluster.options("debug", "bundle", NAME, "--out", str(out))) == 1
    assert f"--out {out}: there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("lines", ["0", "many", "100001"])
def test_a_number_of_lines_is_a_number(lines: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["debug", "bundle", NAME, "--lines", lines])
    assert ended.value.code == 2
    assert "--lines" in capsys.readouterr().err
