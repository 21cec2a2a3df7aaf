"""What a benchmark's Job has measured reaches the status, stays there, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.benchmark import MOST, Load
from tandem_contracts.launch import Role
from tandem_contracts.quality import Quality, TaskResult
from tandem_operator.artifact_facts import ArtifactQuality
from tandem_operator.benchmark_facts import Benchmark, benchmark_in
from tandem_operator.benchmark_status import benchmark_status
from tandem_operator.facts import Facts, Manifest
from tandem_operator.facts_parsing import facts_of
from tandem_operator.kept import kept_of
from tandem_operator.observation import Observation
from tandem_operator.plan import Plan
from tandem_operator.store import key_of
from tests.builders import KEY, NAME, UID
from tests.unit.operator.benchmarks import ENDED, RESULT, REVISION, ended, make_job, make_job_pod

JOB = f"{NAME}-benchmark-1a2b3c"
SEEN = Benchmark(JOB, REVISION, ENDED, RESULT)
QUALITY = Quality(
    tokens=1000,
    perplexity_source=5.2811,
    perplexity=5.3219,
    increase_percent=0.8,
    increase_percent_upper=1.0,
    kl_divergence=0.01,
    top1_agreement=0.97,
    evaluation="a" * 64,
    tasks=(TaskResult(name="gsm8k", metric="acc,none", source=0.42, quantized=0.41, recovery_percent=97.6),),
)


def told(benchmark: Benchmark | None, previous: object = None, **parts: Any) -> Manifest | None:
    observation = Observation(name=NAME, generation=1, facts=Facts(), plan=Plan(), benchmark=benchmark, **parts)
    found = benchmark_status(observation, previous)
    return None if found is None else found.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_the_last_word_of_the_pod_of_a_job_of_ours_is_found_as_the_store_keeps_it() -> None:
    children = [kept_of(make_job()), kept_of(make_job_pod(**ended()))]
    assert benchmark_in(children, owner_uid=UID) == SEEN
    assert {key_of(child) for child in children} == {KEY}, "so the operator hears of both"


def test_the_job_and_its_pod_are_nothing_else_to_the_operator() -> None:
    assert facts_of([make_job(), make_job_pod(**ended())], owner_uid=UID) == Facts()


NOTHING = {
    "no job": [make_job_pod(**ended())],
    "somebody else's job": [make_job(owner_uid="other"), make_job_pod(**ended())],
    "a pod that runs": [make_job(), make_job_pod(phase="Running", containerStatuses=[{"state": {"running": {}}}])],
    "a pod that failed": [make_job(), make_job_pod(**ended(code=24))],
    "nonsense": [make_job(), make_job_pod(**ended("ok"))],
    "a pod without a status": [make_job(), make_job_pod()],
    "a job that is gone": [make_job("other"), make_job_pod(**ended())],
}


@pytest.mark.parametrize("children", NOTHING.values(), ids=NOTHING)
def test_nothing_else_is_a_result(children: list[Manifest]) -> None:
    assert benchmark_in(children, owner_uid=UID) is None


def test_of_several_the_newest_counts_in_whatever_order_they_are_seen() -> None:
    newer = [make_job("b"), make_job_pod("b", **ended(at="2030-01-01T00:02:00Z"))]
    children = [make_job(), make_job_pod(**ended()), *newer]
    for each in (children, children[::-1]):
        found = benchmark_in(each, owner_uid=UID)
        assert found is not None
        assert found.job == "b"


def test_status_tells_load_latencies_throughput_memory_and_what_the_models_are_worth() -> None:
    qualities = {Role.VERIFIER: ArtifactQuality("m-1", {"built-in": QUALITY})}
    assert told(SEEN, qualities=qualities) == {
        "job": JOB,
        "ended": ENDED,
        "revision": REVISION,
        "load": {
            "prompts": 20, "inputTokens": 64, "outputTokens": 32, "concurrency": 4, "temperature": "0", "seed": 7,
        },
        "completed": 20,
        "failed": 0,
        "duration": "12.5s",
        "requestsPerSecond": "1.59",
        "outputTokensPerSecond": "51",
        "timeToFirstToken": {"mean": "112ms", "p50": "100ms", "p95": "200ms", "p99": "1.5s"},
        "timePerOutputToken": {"mean": "21.3ms", "p50": "20ms", "p95": "30ms", "p99": "40ms"},
        "requestLatency": {"mean": "1s", "p50": "1s", "p95": "2s", "p99": "2s"},
        "acceptanceRate": "0.712",
        "kvCacheUsage": "0.4",
        "memory": {"verifier": "3072Mi"},
        "quality": [
            {
                "role": "verifier",
                "artifact": "m-1",
                "texts": "built-in",
                "perplexity": "5.32",
                "sourcePerplexity": "5.28",
                "tasks": [{"name": "gsm8k", "metric": "acc,none", "score": "0.41", "sourceScore": "0.42"}],
            }
        ],
    }  # fmt: skip


def test_what_is_not_known_is_absent() -> None:
    bare = replace(RESULT, acceptance=None, kv_usage=None, verifier_memory_bytes=None, first_token=None)
    found = told(replace(SEEN, result=bare))
    assert found is not None
    assert {"acceptanceRate", "kvCacheUsage", "memory", "timeToFirstToken"}.isdisjoint(found)


def test_a_rate_is_told_instead_of_a_concurrency() -> None:
    found = told(replace(SEEN, result=replace(RESULT, load=Load(rate=2.5))))
    assert found is not None
    assert found["load"]["requestsPerSecond"] == "2.5"
    assert "concurrency" not in found["load"]


def test_it_stays_when_the_job_is_gone_and_until_there_is_a_newer_one() -> None:
    first = told(SEEN)
    assert told(None, first) == first
    assert told(replace(SEEN, job="older", ended="2029-12-31T00:00:00Z"), first) == first
    newer = told(replace(SEEN, job="newer", ended="2030-01-02T00:00:00Z"), first)
    assert newer is not None
    assert newer["job"] == "newer"


def test_figures_of_models_that_change_later_do_not_rewrite_it() -> None:
    first = told(SEEN)
    assert told(SEEN, first, qualities={Role.VERIFIER: ArtifactQuality("m-1", {"built-in": QUALITY})}) == first


@pytest.mark.parametrize("written", [{}, "fast", {"job": 7}])
def test_what_somebody_else_wrote_is_dropped(written: object) -> None:
    assert told(None, written) is None


def test_no_figure_that_a_job_may_say_breaks_the_status() -> None:
    huge = replace(
        RESULT, completed=int(MOST), seconds=MOST, requests_per_second=1e-300, verifier_memory_bytes=int(MOST)
    )
    ruined = replace(QUALITY, perplexity=5e21)
    assert told(replace(SEEN, result=huge), qualities={Role.DRAFT: ArtifactQuality("m", {"t": ruined})}) is not None
