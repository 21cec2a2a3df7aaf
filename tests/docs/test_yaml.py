"""Every YAML block of the pages and the README: our resources are planned, pieces of them fit, values are rendered."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.binaries import Binaries
from tandem_operator.cli.main import main as tandem
from tandem_operator.names import API_VERSION
from tests.docs.blocks import ALL, Block
from tests.prometheus.server import promtool

BLOCKS = [block for block in ALL if block.language == "yaml"]
LIMIT_SECONDS = 60
OTHERS = {
    "argoproj.io/v1alpha1",
    "autoscaling/v2",
    "keda.sh/v1alpha1",
    "kustomize.toolkit.fluxcd.io/v1",
    "v1",
}
"""API groups of others that pages show. Only that they are YAML is checked."""
BASE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "LLMDeployment",
    "metadata": {"name": "whole", "namespace": "chat"},
    "spec": {
        "verifier": {
            "model": {"source": {"persistentVolumeClaim": {"claimName": "models", "path": "large"}}},
            "accelerator": {"classes": ["nvidia-h100-80gb"], "count": 1},
        },
        "draft": {
            "model": {"source": {"persistentVolumeClaim": {"claimName": "models", "path": "small"}}},
            "accelerator": {"classes": ["nvidia-l4-24gb"], "count": 1},
        },
        "cache": {"volume": {"claimName": "cache"}},
    },
}
"""What a piece of a resource is put into, in place of what is there."""
CONFIGURATION = {
    "engineImageAllowList": [".*"],
    "modelHubs": {"mirror": "https://hub.example"},
    "modelStores": {"minio": "https://minio.example:9000"},
}
"""What the pages have an administrator set."""


def whole(block: Block) -> dict[str, Any]:
    """The resource that a piece of one makes, at the path that the remark above it names."""
    body = copy.deepcopy(BASE)
    *above, last = block.remark("under").split(".")
    at = body
    for name in above:
        at = at[name]
    at[last] = {**at.get(last, {}), **yaml.safe_load(block.text)}
    return body


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_is_allowed(
    block: Block,
    folder_of: Callable[[Path], Path],
    binaries: Binaries,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(block.page)
    if block.remark("under"):
        (folder / "whole.yaml").write_text(yaml.safe_dump(whole(block)))
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIGURATION))
        assert tandem(["plan", "-f", "whole.yaml", "--config", "config.yaml"]) == 0, capsys.readouterr().err
        return
    if block.title.endswith("values.yaml"):
        for helm in (binaries["helm3"], binaries["helm4"]):
            argv = [helm, "template", "tandem", "charts/tandem", "--values", block.title, "--kube-version", "1.30.0"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS)
            assert done.returncode == 0, done.stderr
        return
    for document in yaml.safe_load_all(block.text):
        if "scrape_configs" in document:
            check_prometheus(document, folder)
            continue
        assert document["metadata"]["name"]
        if document["apiVersion"] != API_VERSION:
            assert document["apiVersion"] in OTHERS
            continue
        file = folder / "one.yaml"
        file.write_text(yaml.safe_dump(document))
        assert tandem(["plan", "-f", str(file)]) == 0, capsys.readouterr().err


def check_prometheus(configuration: dict[str, Any], folder: Path) -> None:
    """By Prometheus' own program."""
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    promtool("check", "config", str(file))


def test_there_are_blocks_of_every_kind() -> None:
    assert len(BLOCKS) > 25
    assert sum(bool(block.remark("under")) for block in BLOCKS) > 8
    assert sum(API_VERSION in block.text for block in BLOCKS) > 6


def test_every_block_has_a_language_that_is_looked_at() -> None:
    assert {block.language for block in ALL} == {"console", "promql", "yaml"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("spec.autoscaling", "slo: {noSuchField: 1}"),
        ("spec.speculation", "maxDepth: 99"),
        ("spec.verifier", "accelerator: {classes: [no-such-class]}"),
    ],
)
def test_a_piece_with_a_mistake_is_found(
    path: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "whole.yaml"
    file.write_text(yaml.safe_dump(whole(Block(Path("page.md"), 1, "yaml", "", text, (("under", path),)))))

    assert tandem(["plan", "-f", str(file)]) == 1
    assert path in capsys.readouterr().err
