"""The chart's own suites, by helm-unittest: they pass, and notice it when any branch of a template goes another way."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.binaries import build, module_of
from deploy.local.layout import layout_of
from deploy.local.progress import Progress
from tests.chart.rendering import CHART, LIMIT_SECONDS

TEMPLATES = sorted((CHART / "templates").iterdir())
BRANCH = re.compile(r"\{\{-? (?P<word>if|else if|with|range) (?P<names>[$\w, ]+:= )?(?P<condition>[^}]+?) -?\}\}")
OTHERWISE = {"if": ("false", "true"), "else if": ("false", "true"), "with": ("dict",), "range": ("list",)}
UNREACHABLE = {'ne (toString $crd.kind) "CustomResourceDefinition"'}
"""A guard against another kind of file beside the CRDs, of which there is none."""


@dataclass(frozen=True)
class Mutant:
    """A template of which one branch is always taken, or never."""

    template: Path
    begin: int
    end: int
    condition: str
    otherwise: str

    def __str__(self) -> str:
        return f"{self.template.name}: {self.condition} -> {self.otherwise}"

    def text(self) -> str:
        text = self.template.read_text()
        return text[: self.begin] + self.otherwise + text[self.end :]


def mutants() -> Iterator[Mutant]:
    for template in TEMPLATES:
        for found in BRANCH.finditer(template.read_text()):
            for otherwise in OTHERWISE[found["word"]]:
                begin, end = found.span("condition")
                yield Mutant(template, begin, end, found["condition"], otherwise)


@pytest.fixture(scope="module")
def unittest() -> str:
    return build(layout_of(), Progress(), modules=[module_of("helm-unittest")])["helm-unittest"]


def run(unittest: str, chart: Path, suite: str = "*") -> subprocess.CompletedProcess[str]:
    argv = [unittest, "--strict", "--file", f"tests/{suite}_test.yaml", str(chart)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


def suite_of(template: Path) -> str:
    """The suite of a template; what all share is judged by all."""
    return "*" if template.suffix == ".tpl" else template.stem.lower()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The chart, where templates can be changed, and helm-unittest can leave its folder of snapshots."""
    return Path(shutil.copytree(CHART, tmp_path / "tandem"))


def test_the_suites_pass_and_every_template_has_one(unittest: str, copied: Path) -> None:
    suites = {file.name.removesuffix("_test.yaml") for file in (CHART / "tests").glob("*_test.yaml")}
    assert suites == {suite_of(template) for template in TEMPLATES} - {"*"}
    for suite in ("*", *suites):
        done = run(unittest, copied, suite)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)  # some seventy runs of a quarter of a second
def test_every_branch_of_every_template_is_noticed(unittest: str, copied: Path) -> None:
    unnoticed = []
    count = 0
    for mutant in mutants():
        if mutant.condition in UNREACHABLE and mutant.otherwise == "false":
            continue
        count += 1
        changed = copied / "templates" / mutant.template.name
        changed.write_text(mutant.text())
        if run(unittest, copied, suite_of(mutant.template)).returncode == 0:
            unnoticed.append(str(mutant))
        changed.write_text(mutant.template.read_text())
    assert unnoticed == []
    assert count > 60
