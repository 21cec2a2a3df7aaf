"""The workflows of a public forge: what they run is pinned, and what they may do is little."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.local.layout import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version_beside_it(workflow: Path) -> None:
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used) for used in uses), uses


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_right_that_no_job_names(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text())
    assert document["permissions"] == {}
    writing = {
        name: {right for right, access in job["permissions"].items() if access == "write"}
        for name, job in document["jobs"].items()
    }
    assert {name: rights for name, rights in writing.items() if rights} == (
        {"publish": {"contents", "packages", "id-token", "attestations"}} if workflow.name == "release.yml" else {}
    )


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_step_ends_where_the_first_program_of_a_pipe_fails(workflow: Path) -> None:
    """A runner's own bash has -e alone; one that is asked for has pipefail, too."""
    document = yaml.safe_load(workflow.read_text())
    assert document["defaults"]["run"]["shell"] == "bash"
    assert not [step for job in document["jobs"].values() for step in job["steps"] if "shell" in step]


def test_zizmor_would_tell_of_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    """`make check` runs it with the same words, and wants no finding."""
    workflow = tmp_path / ".github/workflows/ci.yml"
    workflow.parent.mkdir(parents=True)
    text = (REPOSITORY / ".github/workflows/ci.yml").read_text()

    def findings() -> subprocess.CompletedProcess[str]:
        words = ["--offline", "--quiet", "--persona", "auditor", "--no-config", str(workflow)]
        zizmor = str(Path(sys.executable).parent / "zizmor")
        return subprocess.run([zizmor, *words], capture_output=True, text=True, timeout=60, check=False)

    workflow.write_text(text)
    assert findings().returncode == 0
    workflow.write_text(re.sub(r"@[0-9a-f]{40} # (v\d)\S*", r"@\1", text))
    told = findings()
    assert told.returncode != 0
    assert "unpinned-uses" in told.stdout + told.stderr
