"""What is made from the chart: its README, and the manifests for kustomize. `make check` finds drift."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.local.binaries import Binaries
from tests.chart.rendering import CHART, LIMIT_SECONDS, Manifest, objects_in, rendered

REPOSITORY = CHART.parents[1]
BASE = REPOSITORY / "deploy/kustomize"
MANAGED_BY = "app.kubernetes.io/managed-by"


def kustomized(binaries: Binaries, folder: Path) -> dict[tuple[str, str], Manifest]:
    """What `kubectl kustomize` makes of a folder, by kind and name."""
    argv = [binaries["kubectl"], "kustomize", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return {(o["kind"], o["metadata"]["name"]): o for o in objects_in(done.stdout)}


def test_kustomize_renders_the_charts_defaults(binaries: Binaries, tmp_path: Path) -> None:
    text = rendered(binaries["helm4"], {}, tmp_path, release="tandem", namespace="tandem")
    expected = {(o["kind"], o["metadata"]["name"]): o for o in objects_in(text)}
    found = kustomized(binaries, BASE)
    for each in (*expected.values(), *found.values()):
        del each["metadata"]["labels"][MANAGED_BY]  # which of the two it was
    assert found == expected


def test_an_overlay_moves_everything_to_its_namespace(binaries: Binaries, tmp_path: Path) -> None:
    # kustomize takes no absolute path
    base = Path("/".join([".."] * (len(tmp_path.parts) - 1))) / BASE.relative_to("/")
    overlay = {"namespace": "chat", "resources": [str(base)]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    found = kustomized(binaries, tmp_path)
    assert {o["metadata"].get("namespace") for (kind, _), o in found.items() if not kind.startswith("Custom")} == {
        "chat"
    }
    assert found["RoleBinding", "tandem-operator"]["subjects"][0]["namespace"] == "chat"


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    """The README's table of values: what is said of each."""
    lines = (CHART / "README.md").read_text().splitlines()
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines if re.match(r"\| [a-z]\S* \| ", line)]
    return {key: text for key, _, _, text in cells}


def test_the_readme_says_something_of_every_value(rows: dict[str, str]) -> None:
    assert [key for key, text in rows.items() if len(text.split()) < 2] == []
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"].keys() - {"global"} == {key.partition(".")[0] for key in rows}


def test_the_readme_has_no_value_that_the_schema_does_not_know(rows: dict[str, str]) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def knows(path: list[str], at: Manifest) -> bool:
        if reference := at.get("$ref"):
            at = schema["definitions"][reference.rpartition("/")[2]]
        if not path:
            return True
        properties = at.get("properties", {})
        return path[0] in properties and knows(path[1:], properties[path[0]])

    assert [key for key in rows if not knows(key.split("."), schema)] == []


def test_artifact_hub_is_told_of_the_crds_that_there_are() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    told = {(crd["name"], crd["kind"], crd["version"]) for crd in yaml.safe_load(annotations["artifacthub.io/crds"])}
    files = [yaml.safe_load(file.read_text()) for file in (CHART / "files/crds").glob("*.yaml")]
    assert told == {
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], version["name"])
        for crd in files
        for version in crd["spec"]["versions"]
    }
    sample = yaml.safe_load((REPOSITORY / "deploy/samples/gpu-pair.yaml").read_text())
    assert yaml.safe_load(annotations["artifacthub.io/crdsExamples"]) == [sample]
    changes = yaml.safe_load(annotations["artifacthub.io/changes"])
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert {change["kind"] for change in changes} <= kinds
