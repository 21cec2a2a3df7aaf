"""The volume of artifacts, on the real node: it is full, two write to it at once, and another user reads from it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy import openai
from deploy.fixtures.pair import ModelPair
from deploy.local import isolation
from deploy.local.cluster import Cluster
from tandem_contracts.artifact_job import Made
from tests.e2e.conftest import Site, quantizing_site
from tests.e2e.quantizing import READY_LIMIT_SECONDS, artifacts_of, conditions_of, make_deployment

pytestmark = [pytest.mark.real_node, pytest.mark.campaign, pytest.mark.timeout(900)]

OTHER_USER = 20002
RIVAL = "rival"
LARGE_MEGABYTES = 500


@dataclass(frozen=True)
class SmallVolume:
    """A file system of its own inside the node, of a size that can be changed."""

    anchor_pid: int
    folder: Path
    model_bytes: int

    def run(self, *command: str) -> None:
        subprocess.run([*isolation.entry(self.anchor_pid), *command], check=True, timeout=20)

    def mount(self, megabytes: int) -> None:
        self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", str(self.folder))

    def resize(self, megabytes: int) -> None:
        self.run("mount", "-o", f"remount,size={megabytes}m", str(self.folder))

    def names(self) -> set[str]:
        """Of the files and folders at its top that are no secret of the volume's."""
        inside = Path(f"/proc/{self.anchor_pid}/root{self.folder}")
        return {path.name for path in inside.iterdir() if not path.name.startswith(".")}

    def staged(self) -> list[str]:
        return [path.name for path in Path(f"/proc/{self.anchor_pid}/root{self.folder}/.staging").iterdir()]


@pytest.fixture(scope="module")
def small(cluster: Cluster, cache: Path, models: ModelPair) -> Iterator[SmallVolume]:
    """Room for the files of a model, and not for the margin that must be left beside them."""
    anchor = cluster.processes()["anchor"]
    assert anchor is not None
    cache.mkdir(parents=True)
    model_bytes = sum(path.stat().st_size for path in models.verifier.glob("*.*"))
    volume = SmallVolume(anchor.pid, cache, model_bytes)
    volume.mount(model_bytes * 11 // 10 // (1 << 20) + 1)
    yield volume
    volume.run("umount", "--lazy", str(cache))


@pytest.fixture(scope="module")
def site(cluster: Cluster, models: ModelPair, small: SmallVolume) -> Iterator[Site]:
    with quantizing_site(cluster, models, small.folder) as site:
        yield site


def test_a_full_volume_names_the_bytes_and_a_larger_one_serves_the_model(site: Site, small: SmallVolume) -> None:
    site.apply(make_deployment("full", scheme="W8A8"))
    site.wait_until(
        lambda: conditions_of(site, "full").get("Stalled", {}).get("reason") == "VolumeFull",
        "the volume is found full",
        limit_seconds=READY_LIMIT_SECONDS,
    )
    said = conditions_of(site, "full")["Stalled"]["message"]
    told = re.search(r"the volume is full: (\d+) bytes are needed, (\d+) are free", said)
    assert told, said
    needed, free = map(int, told.groups())
    assert small.model_bytes <= free < needed
    assert small.names() == set()
    assert small.staged() == []
    (source,) = [item["metadata"]["name"] for form, item in artifacts_of(site).items() if not form]
    assert source in said
    assert site.get("pods", "-l", "tandem.dev/deployment=full")["items"] == []
    small.resize(LARGE_MEGABYTES)
    site.run("delete", "ma", source, "--wait=true", limit_seconds=60)
    _wait_served(site, "full")
    assert len(small.names()) == 2, "the model, and its quantized form"


def test_of_two_that_make_the_same_files_at_once_one_wins_and_both_succeed(site: Site, small: SmallVolume) -> None:
    small.resize(LARGE_MEGABYTES)
    jobs = ("jobs", "-l", "app.kubernetes.io/component=quantize")
    before = {item["metadata"]["name"] for item in site.get(*jobs)["items"]}
    # Long enough that the second one begins long before the first one publishes.
    site.apply(make_deployment("twice", scheme="W4A16", calibration={"samples": 32, "maxSequenceLength": 256}))
    begun: list[dict[str, Any]] = []

    def is_begun() -> bool:
        begun[:] = [job for job in site.get(*jobs)["items"] if job["metadata"]["name"] not in before]
        return bool(begun)

    site.wait_until(is_begun, "a Job that quantizes", limit_seconds=READY_LIMIT_SECONDS)
    (job,) = begun
    site.apply(_copy_of(job, RIVAL))
    site.run("wait", "--for=condition=Complete", f"job/{RIVAL}", "--timeout=300s", limit_seconds=310)
    _wait_served(site, "twice")
    words = [_last_word(site, name) for name in (RIVAL, job["metadata"]["name"])]
    assert all(word.seconds > 0 for word in words), "each has made all of it"
    assert words[0].manifest == words[1].manifest, "and both tell of the one that is there"
    assert small.staged() == []
    (made,) = [item["status"] for form, item in artifacts_of(site).items() if form.startswith("W4A16")]
    assert made["files"]["manifest"] == words[0].manifest
    assert made["files"]["path"] in small.names()
    site.run("delete", "job", RIVAL)


def test_a_pod_of_another_user_serves_what_the_job_has_published(site: Site) -> None:
    (pod,) = site.get("pods", "-l", "tandem.dev/deployment=full,tandem.dev/role=verifier")["items"]
    spec = {k: v for k, v in pod["spec"].items() if k not in {"nodeName", "serviceAccount", "serviceAccountName"}}
    spec["securityContext"] = {**spec["securityContext"], "runAsUser": OTHER_USER, "runAsGroup": OTHER_USER}
    del spec["securityContext"]["fsGroup"]
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec})
    limit = READY_LIMIT_SECONDS
    site.run("wait", "--for=condition=Ready", "pod/stranger", f"--timeout={limit}s", limit_seconds=limit + 10)
    there = site.get("pod", "stranger")["status"]
    assert there["containerStatuses"][0]["restartCount"] == 0
    (container,) = spec["containers"]
    (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == "http"]
    answer = openai.complete(f"http://{there['podIP']}:{port}", model="full", prompt="def f(", max_tokens=4)
    assert answer
    site.run("delete", "pod", "stranger", "--grace-period=1", "--wait=true")


def _wait_served(site: Site, name: str) -> None:
    site.wait_until(
        lambda: conditions_of(site, name).get("Ready", {}).get("status") == "True",
        f"{name} is served",
        limit_seconds=READY_LIMIT_SECONDS,
    )
    assert conditions_of(site, name)["ArtifactsReady"]["reason"] == "GatePassed"


def _copy_of(job: dict[str, Any], name: str) -> dict[str, Any]:
    """The same work, at nobody's wish."""
    template = {"metadata": {"labels": {"app": name}}, "spec": job["spec"]["template"]["spec"]}
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def _last_word(site: Site, job: str) -> Made:
    (pod,) = site.get("pods", "-l", f"batch.kubernetes.io/job-name={job}")["items"]
    (container,) = pod["status"]["containerStatuses"]
    return Made.decode(container["state"]["terminated"]["message"])
