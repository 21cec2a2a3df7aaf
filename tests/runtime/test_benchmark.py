"""The program of a benchmark's Job, with vLLM's own client, against real engines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.fixtures.environment import engine_environment
from deploy.fixtures.pair import ModelPair
from deploy.local.layout import REPOSITORY
from tandem_contracts.benchmark import BENCHMARK_MODULE, Benchmarked, BenchmarkOptions, Latency, progress_in
from tandem_contracts.termination import ExitCode, Phase, TerminationMessage
from tests.runtime.engines import LOOPBACK, Engine
from tests.runtime.serving_pair import ServingPair

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LIMIT_SECONDS = 240.0
PROMPTS = 12


def run(engine: Engine, models: ModelPair, folder: Path, **load: float) -> tuple[int, str, str]:
    """Exit code, log and last word."""
    options = BenchmarkOptions(
        address=f"http://{engine.address}",
        served_name=engine.options.served_name,
        tokenizer=str(models.verifier),
        verifiers=LOOPBACK,
        drafts="127.0.0.9",  # where nobody is
        http_port=engine.options.http_port,
        metrics_port=engine.options.metrics_port,
        termination_log=str(folder / "termination-log"),
        **load,  # type: ignore[arg-type]
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "runtime"), "HOME": str(folder)}
    command = [str(engine_environment()), "-m", BENCHMARK_MODULE, *options.to_arguments()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False, cwd=folder, env=environment
    )
    return done.returncode, done.stdout + done.stderr, Path(options.termination_log).read_text(encoding="utf-8")


def test_vllms_client_measures_a_pair_and_the_pods_say_what_they_did_meanwhile(
    pair: ServingPair, models: ModelPair, tmp_path: Path
) -> None:
    load = {"prompts": PROMPTS, "input_tokens": 32, "output_tokens": 24, "concurrency": 3, "seed": 5}
    code, log, word = run(pair.verifier, models, tmp_path, **load)
    assert code == ExitCode.OK, log
    found = Benchmarked.decode(word)
    assert found.load.to_data().items() >= {"prompts": PROMPTS, "seed": 5, "concurrency": 3}.items()
    assert (found.completed, found.failed, found.output_tokens) == (PROMPTS, 0, PROMPTS * 24)
    assert found.requests_per_second == pytest.approx(PROMPTS / found.seconds, rel=0.01)
    for latency in (found.first_token, found.output_token, found.piece, found.request):
        assert isinstance(latency, Latency)
        assert 0 < latency.p50 <= latency.p95 <= latency.p99
    assert found.acceptance is not None
    assert 0 < found.acceptance <= 1
    assert found.kv_usage is not None
    assert 0 <= found.kv_usage <= 1
    assert found.draft_memory_bytes is None
    assert progress_in(log, PROMPTS) == PROMPTS


def test_a_rate_is_kept_whatever_is_still_being_answered(pair: ServingPair, models: ModelPair, tmp_path: Path) -> None:
    load = {"prompts": 6, "input_tokens": 8, "output_tokens": 1, "rate": 20.0, "temperature": 0.7}
    code, log, word = run(pair.verifier, models, tmp_path, **load)
    assert code == ExitCode.OK, log
    found = Benchmarked.decode(word)
    assert found.completed == 6
    assert found.output_token is None, "there is none behind the first one"


def test_a_benchmark_of_which_nothing_was_answered_says_why(
    pair: ServingPair, models: ModelPair, tmp_path: Path
) -> None:
    code, log, word = run(pair.verifier, models, tmp_path, prompts=2, input_tokens=8, output_tokens=100_000)
    assert code == ExitCode.STEP_FAILED, log
    said = TerminationMessage.decode(word)
    assert said.phase is Phase.BENCHMARK
    assert said.message.startswith("none of 2 requests was answered: ")
    assert "Bad Request; a prompt and its answer have 100008 tokens" in said.message
