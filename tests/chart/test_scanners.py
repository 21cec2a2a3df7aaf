"""What the chart renders, judged by other people's programs: no failure, and nothing is left out of their judgement.

checkov and kube-score know what a careful manifest looks like, kubeconform compares with the schemas of our own API
server, which is also asked itself. kubectl-validate has the schemas of the oldest Kubernetes; it takes more than two
minutes to build, so it is asked in `make campaign`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.fixtures.environment import checkov_environment
from deploy.local.binaries import GRAFANA_OPERATOR, PROMETHEUS_OPERATOR, Binaries, build, module_of, source_of
from deploy.local.cluster import Cluster
from deploy.local.kubectl import Kubectl
from deploy.local.layout import layout_of
from deploy.local.processes import wait_until
from deploy.local.progress import Progress
from tests.chart.rendering import CHART, DIGEST, VALUES, Manifest, merged, objects_in, rendered
from tests.chart.schemas import FILES, write_schemas

GOLDEN = Path(__file__).parents[1] / "unit/operator/golden"
JOBS = [
    str(GOLDEN / f"{phase}-job.yaml") for phase in ("inspect", "fetch", "quantize", "evaluate", "evict", "benchmark")
]
HARDENED: Manifest = {
    "image": {"digest": DIGEST, "pullPolicy": "Always"},
    "networkPolicy": {"create": True, "apiServerPorts": [443, 6443]},
}
"""What only a user knows: the image that they have, and where their API server listens."""
SCANNED = {
    name: merged(values, HARDENED)
    for name, values in VALUES.items()
    # Their point is to be without what the scanners want.
    if name not in {"without network policies", "two operators, evicted together"}
}
MONITORS = ("podmonitors", "servicemonitors", "prometheusrules")
LIMIT_SECONDS = 100
KNOWN_TO_KUBE_SCORE = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
CHECKOV_AT_LEAST = 90
"""Judgements of one set of values; fewer would mean that something was not read."""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program that says no to bad manifests; the exit status is not checked."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


def program(name: str) -> str:
    """One of the programs from Go modules."""
    return build(layout_of(), Progress(), modules=[module_of(name)])[name]


@pytest.fixture(scope="module")
def manifests(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of manifests for each set of values. Each is a release of its own name: none is judged by another's."""
    folder = tmp_path_factory.mktemp("manifests")
    found = {}
    for number, (name, values) in enumerate(SCANNED.items()):
        text = rendered(binaries["helm4"], values, folder, release=f"release-{number}")
        found[name] = folder / f"{number}.yaml"
        without = [o for o in objects_in(text) if o["kind"] != "CustomResourceDefinition"]
        found[name].write_text(yaml.safe_dump_all(without))
    (folder / "values.yaml").unlink()
    return found


def checked(folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What checkov says of a folder of manifests."""
    python = checkov_environment()
    options = ["--framework", "kubernetes", "--skip-download", "--compact", "--output", "json"]
    done = run(str(python), str(python.with_name("checkov")), *options, "--directory", str(folder))
    return done, json.loads(done.stdout)


def findings_of(kube_score: subprocess.CompletedProcess[str], file: Path) -> tuple[set[str], int]:
    """What kube-score finds in a file, and in how many of its objects it has looked."""
    of_chart = [found for found in json.loads(kube_score.stdout) if found["file_name"] == str(file)]
    complaints = {
        f"{found['object_name']}: {check['check']['id']}: {[each['summary'] for each in check['comments'] or []]}"
        for found in of_chart
        for check in found["checks"]
        if not check["skipped"] and check["grade"] < 10
    }
    return complaints, len(of_chart)


@pytest.mark.timeout(400)  # with the making of its environment, which takes half a minute
def test_checkov_finds_nothing_and_leaves_nothing_out(manifests: dict[str, Path]) -> None:
    (folder,) = {file.parent for file in manifests.values()}
    done, told = checked(folder)
    results, summary = told["results"], told["summary"]
    failed = [(check["check_id"], check["resource"], check["check_name"]) for check in results["failed_checks"]]
    assert failed == []
    assert (summary["skipped"], summary["parsing_errors"], done.returncode) == (0, 0, 0)
    assert summary["passed"] >= CHECKOV_AT_LEAST * len(manifests)


@pytest.mark.timeout(400)  # as above
def test_of_the_defaults_is_found_what_the_charts_readme_says(binaries: Binaries, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    file = folder / "defaults.yaml"
    file.write_text(yaml.safe_dump_all(objects_in(rendered(binaries["helm4"], {"crds": {"install": False}}, tmp_path))))
    _, told = checked(folder)
    assert {check["check_name"] for check in told["results"]["failed_checks"]} == {
        "Image should use digest",
        "Image Pull Policy should be Always",
    }
    complaints, _ = findings_of(run(program("kube-score"), "score", "--output-format", "json", str(file), *JOBS), file)
    assert {found.split(": ")[1] for found in complaints} == {"container-image-pull-policy", "pod-networkpolicy"}


@pytest.mark.parametrize("name", SCANNED)
def test_kube_score_finds_nothing(name: str, manifests: dict[str, Path]) -> None:
    """It is shown the Jobs as well, whose pods some of the NetworkPolicies are for."""
    done = run(program("kube-score"), "score", "--output-format", "json", str(manifests[name]), *JOBS)
    complaints, looked_at = findings_of(done, manifests[name])
    assert complaints == set()
    known = [o for o in objects_in(manifests[name].read_text()) if o["kind"] in KNOWN_TO_KUBE_SCORE]
    assert looked_at == len(known) >= 4


@pytest.fixture(scope="module")
def monitors(cluster: Cluster) -> Kubectl:
    """Our API server with the kinds of the Prometheus operator, of the Grafana operator, and ours."""
    modules = (PROMETHEUS_OPERATOR, GRAFANA_OPERATOR)
    prometheus, grafana = (source_of(cluster.layout, module, progress=cluster.progress) for module in modules)
    files = [prometheus / f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml" for kind in MONITORS]
    for file in (*files, grafana / "config/crd/bases/grafana.integreatly.org_grafanadashboards.yaml"):
        cluster.kubectl.run("apply", "--server-side", "-f", str(file))
    cluster.kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "files/crds"))
    groups = ("apis/monitoring.coreos.com/v1", "apis/grafana.integreatly.org/v1beta1")
    wait_until(
        lambda: all(group in cluster.kubectl.run("get", "--raw", "/openapi/v3") for group in groups),
        "the API server's description of monitors and dashboards",
        limit_seconds=30,
        log=cluster.layout.log_of("apiserver"),
    )
    return cluster.kubectl


@pytest.fixture(scope="module")
def schemas(monitors: Kubectl, manifests: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Schemas of every kind that the chart has."""
    folder = tmp_path_factory.mktemp("schemas")
    objects = [o for file in manifests.values() for o in objects_in(file.read_text())]
    write_schemas(monitors, [o["apiVersion"] for o in objects] + ["apiextensions.k8s.io/v1"], folder)
    return folder


def kubeconform(schemas: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Compare with these schemas and no others."""
    options = ["-strict", "-summary", "-output", "json", "-schema-location", f"{schemas}/{FILES}"]
    return run(program("kubeconform"), *options, *files)


def test_every_object_is_of_its_kind(manifests: dict[str, Path], schemas: Path) -> None:
    crds = sorted(map(str, (CHART / "files/crds").glob("*.yaml")))
    done = kubeconform(schemas, *map(str, manifests.values()), *crds)
    told = json.loads(done.stdout)
    assert told.get("resources", []) == []
    count = sum(len(objects_in(file.read_text())) for file in manifests.values()) + len(crds)
    assert told["summary"] == {"valid": count, "invalid": 0, "errors": 0, "skipped": 0}


def test_a_key_that_a_kind_does_not_know_is_found(manifests: dict[str, Path], schemas: Path, tmp_path: Path) -> None:
    objects = objects_in(manifests["watched"].read_text())
    for found in objects:
        found["surplus"] = 1
    file = tmp_path / "surplus.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    assert json.loads(kubeconform(schemas, str(file)).stdout)["summary"]["invalid"] == len(objects)


@pytest.mark.parametrize("name", SCANNED)
def test_the_api_server_takes_every_object_without_a_warning(
    name: str, binaries: Binaries, monitors: Kubectl, namespace: str, tmp_path: Path
) -> None:
    values = merged(SCANNED[name], {"crds": {"install": False}})
    text = rendered(binaries["helm4"], values, tmp_path, namespace=namespace)
    applied = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    done = monitors.attempt(*applied, stdin=text)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.campaign
def test_the_oldest_kubernetes_knows_every_key(manifests: dict[str, Path], tmp_path: Path) -> None:
    """Of its own kinds: the schemas are those of 1.30."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name, file in manifests.items():
        own = [
            o for o in objects_in(file.read_text()) if not o["apiVersion"].startswith(("monitoring.coreos", "grafana."))
        ]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(own))
    done = run(program("kubectl-validate"), str(folder), "--version", "1.30", "--local-crds", str(CHART / "files/crds"))
    assert done.returncode == 0, done.stdout + done.stderr
