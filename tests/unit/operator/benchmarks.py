"""Jobs that have measured a deployment, and their pods, as the API server gives them."""

from __future__ import annotations

from typing import Any

from tandem_contracts.benchmark import Benchmarked, Latency, Load
from tandem_operator import names
from tandem_operator.benchmark_facts import LABEL_JOB
from tandem_operator.facts import Manifest
from tests.builders import NAME, UID, make_child

REVISION = "7f3a90c1"
ENDED = "2030-01-01T00:01:00Z"
RESULT = Benchmarked(
    load=Load(prompts=20, input_tokens=64, output_tokens=32, concurrency=4, seed=7),
    completed=20,
    failed=0,
    seconds=12.54,
    input_tokens=1280,
    output_tokens=640,
    requests_per_second=1.595,
    output_tokens_per_second=51.04,
    first_token=Latency(mean=0.11234, p50=0.1, p95=0.2, p99=1.5),
    output_token=Latency(mean=0.0213, p50=0.02, p95=0.03, p99=0.04),
    request=Latency(mean=1.0, p50=1.0, p95=2.0, p99=2.0),
    acceptance=0.712,
    kv_usage=0.4,
    verifier_memory_bytes=3 * 2**30 + 1,
)


def make_job(name: str = f"{NAME}-benchmark-1a2b3c", *, owner_uid: str = UID, **status: Any) -> Manifest:
    job = make_child("Job", name, status=status)
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": NAME, "uid": owner_uid, "controller": True}
    job["apiVersion"] = "batch/v1"
    job["metadata"]["ownerReferences"] = [owner]
    job["metadata"]["labels"] |= {names.LABEL_COMPONENT: names.BENCHMARK, names.LABEL_REVISION: REVISION}
    return job


def make_job_pod(job: str = f"{NAME}-benchmark-1a2b3c", **status: Any) -> Manifest:
    pod = make_child("Pod", f"{job}-x2k9p", status=status)
    pod["apiVersion"] = "v1"
    pod["metadata"]["labels"] |= {names.LABEL_COMPONENT: names.BENCHMARK, LABEL_JOB: job}
    return pod


def ended(message: str = RESULT.encode(), *, code: int = 0, at: str = ENDED) -> Manifest:
    """The status of a pod whose container has said this at its end."""
    terminated = {"exitCode": code, "finishedAt": at, "message": message, "reason": "Error" if code else "Completed"}
    statuses = [{"name": names.BENCHMARK, "state": {"terminated": terminated}}]
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": statuses}
