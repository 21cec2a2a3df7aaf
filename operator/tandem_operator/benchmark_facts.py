"""What a Job has measured of a deployment, from raw objects. Pure.

A user makes such Jobs. Whoever may do so may also write another figure into the status by one: it is shown, and nothing
is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tandem_contracts.benchmark import Benchmarked
from tandem_operator import names
from tandem_operator.facts import Manifest, controller_uid

LABEL_JOB = "batch.kubernetes.io/job-name"
"""Kubernetes' own, on the pods of a Job."""


@dataclass(frozen=True)
class Benchmark:
    """The last word of a Job that has measured the deployment."""

    job: str
    revision: str
    """Of the verifiers that it began with."""
    ended: str
    """When, as Kubernetes writes it."""
    result: Benchmarked


def benchmark_in(children: Iterable[Manifest], *, owner_uid: str) -> Benchmark | None:
    """The newest one, by the pods of the owner's own Jobs; None while there is none that has measured anything."""
    children = tuple(children)
    jobs = {
        child["metadata"]["name"]: child["metadata"].get("labels") or {}
        for child in children
        if child["kind"] == "Job" and is_benchmark(child) and controller_uid(child) == owner_uid
    }
    found = [
        Benchmark(job, jobs[job].get(names.LABEL_REVISION, ""), ended, result)
        for child in children
        if child["kind"] == "Pod" and is_benchmark(child)
        if (job := child["metadata"]["labels"].get(LABEL_JOB, "")) in jobs
        for ended, result in results_in(child)
    ]
    return max(found, key=lambda each: (each.ended, each.job), default=None)


def is_benchmark(manifest: Manifest) -> bool:
    """Whether it is such a Job, or the pod of one."""
    return bool((manifest["metadata"].get("labels") or {}).get(names.LABEL_COMPONENT) == names.BENCHMARK)


def results_in(pod: Manifest) -> Iterator[tuple[str, Benchmarked]]:
    """What its container has said at its end, and when that was; nothing for one that failed, or said nonsense."""
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        ended: dict[str, Any] = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode") != 0:
            continue
        try:
            yield ended.get("finishedAt") or "", Benchmarked.decode(ended.get("message") or "")
        except ValueError:
            continue
