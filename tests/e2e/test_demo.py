"""`make demo` from the images on: an answer with accepted drafts, and nothing left behind afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo.steps import CRD, CRDS, NAMESPACE
from deploy.local.cluster import Cluster
from deploy.model_volume import volume_name
from deploy.place import Place, local_place

REPOSITORY = Path(__file__).parents[2]
LIMIT_SECONDS = 400

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(2 * LIMIT_SECONDS)]


def _demo(cluster: Cluster, *arguments: str) -> str:
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", "deploy.demo", *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _used_by_somebody(place: Place) -> str:
    """Namespaces with deployments that no test has made, and the demo's own."""
    names = place.run("get", "namespaces", "-o", "name").split()
    known = place.run("get", "crd", CRD, "--ignore-not-found", "-o", "name").strip()
    served = place.get(CRD, "--all-namespaces")["items"] if known else []
    used = {item["metadata"]["namespace"] for item in served}
    used = {name for name in used if not name.startswith(("t-", "f-"))}  # those of tests, on their way out
    return ", ".join(sorted(used | ({NAMESPACE} if f"namespace/{NAMESPACE}" in names else set())))


@pytest.mark.usefixtures("models")
def test_the_demo_ends_with_an_answer_and_takes_away_all_that_it_made(cluster: Cluster) -> None:
    place = local_place(cluster)
    if used := _used_by_somebody(place):
        pytest.skip(f"somebody uses this cluster, and the test would take it away from them: {used}; `make demo-down`")
    place.run("delete", "crd", *CRDS, "--ignore-not-found")  # another test's: the demo shall bring its own
    told = _demo(cluster, "up")
    drafts = re.search(r"(\d+) tokens; the draft pod proposed (\d+), the verifier accepted (\d+) of them", told)
    assert drafts is not None, told
    tokens, proposed, accepted = (int(number) for number in drafts.groups())
    assert 0 < accepted <= proposed
    assert accepted < tokens
    speeds = re.search(r"(\d+) tokens a second with drafts, (\d+) without", told)
    assert speeds is not None, told
    assert all(int(number) > 0 for number in speeds.groups())
    assert re.search(r"^llmdeployment\S*/pair\s+True\s+RolledOut\s+1/1\s+1/1", told, re.MULTILINE), told
    # Taken down as on somebody else's cluster: piece by piece, while the cluster stays.
    _demo(cluster, "down", "--cluster", "current")
    gone = (f"namespace/{NAMESPACE}", *(f"crd/{crd}" for crd in CRDS), f"persistentvolume/{volume_name(NAMESPACE)}")
    assert place.run("get", *gone, "--ignore-not-found") == ""
    assert cluster.is_running()
