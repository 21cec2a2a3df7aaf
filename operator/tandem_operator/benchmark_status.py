"""What status says of the last benchmark. Pure.

It stays when the Job is gone: nothing else remembers it, and who loses it measures again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from tandem_contracts.benchmark import Latency, Load
from tandem_contracts.launch import Role
from tandem_operator.api.status import (
    BenchmarkLatency,
    BenchmarkLoad,
    BenchmarkMemory,
    BenchmarkQuality,
    BenchmarkStatus,
    BenchmarkTask,
)
from tandem_operator.artifact_facts import ArtifactQuality
from tandem_operator.benchmark_facts import Benchmark
from tandem_operator.observation import Observation

QUALITIES_TOLD = 8
"""Sets of texts of each role."""
MOST_DIGITS = 1e9
_MEBIBYTE = 2**20


def benchmark_status(observation: Observation, previous: Any) -> BenchmarkStatus | None:
    """The newest one: what was said before stays until there is another Job's."""
    try:
        kept = BenchmarkStatus.model_validate(previous) if previous else None
    except ValidationError:
        kept = None  # somebody else wrote it
    seen = observation.benchmark
    if seen is None or (kept and (kept.ended, kept.job) >= (seen.ended, seen.job)):
        return kept
    return status_of_benchmark(seen, observation.qualities)


def status_of_benchmark(seen: Benchmark, qualities: Mapping[Role, ArtifactQuality]) -> BenchmarkStatus:
    """What a Job has measured, beside what is known of the models."""
    found = seen.result
    memory = BenchmarkMemory(verifier=_size(found.verifier_memory_bytes), draft=_size(found.draft_memory_bytes))
    return BenchmarkStatus(
        job=seen.job,
        ended=seen.ended,
        revision=seen.revision,
        load=_load(found.load),
        completed=found.completed,
        failed=found.failed,
        duration=_seconds(found.seconds),
        requests_per_second=_number(found.requests_per_second),
        output_tokens_per_second=_number(found.output_tokens_per_second),
        time_to_first_token=_latency(found.first_token),
        time_per_output_token=_latency(found.output_token),
        inter_token_latency=_latency(found.piece),
        request_latency=_latency(found.request),
        acceptance_rate=None if found.acceptance is None else _number(found.acceptance),
        kv_cache_usage=None if found.kv_usage is None else _number(found.kv_usage),
        memory=memory if memory.verifier or memory.draft else None,
        quality=tuple(_quality(qualities)),
    )


def _load(load: Load) -> BenchmarkLoad:
    how = {"requests_per_second": _number(load.rate)} if load.rate else {"concurrency": load.concurrency}
    return BenchmarkLoad(
        prompts=load.prompts,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        temperature=_number(load.temperature),
        seed=load.seed,
        **how,
    )


def _quality(qualities: Mapping[Role, ArtifactQuality]) -> Iterator[BenchmarkQuality]:
    for role, measured in sorted(qualities.items()):
        for texts, quality in sorted(measured.losses.items())[:QUALITIES_TOLD]:
            yield BenchmarkQuality(
                role=role.value,
                artifact=measured.name,
                texts=texts,
                perplexity=_number(quality.perplexity),
                source_perplexity=_number(quality.perplexity_source),
                tasks=tuple(
                    BenchmarkTask(
                        name=task.name,
                        metric=task.metric,
                        score=_number(task.quantized),
                        source_score=_number(task.source),
                    )
                    for task in quality.tasks
                ),
            )


def _latency(found: Latency | None) -> BenchmarkLatency | None:
    if found is None:
        return None
    return BenchmarkLatency(
        mean=_seconds(found.mean), p50=_seconds(found.p50), p95=_seconds(found.p95), p99=_seconds(found.p99)
    )


def _seconds(value: float) -> str:
    """Of three digits, in the unit that fits."""
    return f"{_number(value)}s" if value >= 1 else f"{_number(value * 1000)}ms"


def _number(value: float) -> str:
    """Three digits, or all of a larger whole number that is no nonsense."""
    return f"{value:.0f}" if 100 <= value < MOST_DIGITS else f"{value:.3g}"


def _size(count: int | None) -> str | None:
    return None if count is None else f"{count // _MEBIBYTE}Mi"
