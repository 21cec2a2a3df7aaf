"""`python -m tandem_runtime.benchmark`: asks a deployment through its Service, as a client would, and says how it was.

Flags: tandem_contracts.benchmark. Its last word is `Benchmarked`, as JSON.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tandem_contracts.benchmark import Benchmarked, BenchmarkOptions, InvalidBenchmarkOptionsError
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.artifacts.last_word import RefusedError, ended
from tandem_runtime.benchmark.client import benchmarked_in, client_command, client_environment
from tandem_runtime.benchmark.pods import Pods
from tandem_runtime.launch.program import Program

LINES_TOLD = 5
_REFUSED = "Bad Request"
_WAIT_SECONDS = 3600.0
"""The Job's deadline ends this program; there is none of its own."""


def main(arguments: list[str]) -> ExitCode:
    """Measure once."""
    try:
        options = BenchmarkOptions.parse(arguments)
    except InvalidBenchmarkOptionsError as error:
        word = TerminationMessage(
            code=ExitCode.INVALID_OPTIONS,
            phase=Phase.BENCHMARK,
            reason=Reason.INVALID_OPTIONS,
            message=str(error),
        )
        sys.stderr.write(f"{word.encode()}\n")
        return word.code
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(ExitCode.STEP_FAILED))  # it may be process 1
    return ended(Phase.BENCHMARK, lambda: measured(options).encode(), termination_log=Path(options.termination_log))


def measured(options: BenchmarkOptions) -> Benchmarked:
    """Ask, and read the pods meanwhile. Raises RefusedError where nothing was answered."""
    pods = Pods(
        filter(None, options.verifiers.split(",")),
        filter(None, options.drafts.split(",")),
        http_port=options.http_port,
        metrics_port=options.metrics_port,
    )
    with tempfile.TemporaryDirectory(prefix="tandem-") as scratch:
        result = Path(scratch) / "result.json"
        pods.start()
        program = Program(client_command(options, result), client_environment(os.environ))
        try:
            while program.status is None:
                program.wait(_WAIT_SECONDS)
        finally:
            lines = program.end()
            pods.stop()
        if program.status != 0 or not result.is_file():
            told = "; ".join(line for line in lines[-LINES_TOLD:] if line.strip())
            raise RefusedError(Reason.STEP_FAILED, f"vLLM's client ended with {program.status}: {told}")
        found = benchmarked_in(result.read_text(encoding="utf-8"), options.load)
    if not found.completed:
        raise RefusedError(Reason.STEP_FAILED, f"none of {found.failed} requests was answered: {_told(found)}")
    return replace(
        found,
        acceptance=pods.acceptance(),
        kv_usage=pods.kv_usage(),
        verifier_memory_bytes=pods.verifier_memory_bytes(),
        draft_memory_bytes=pods.draft_memory_bytes(),
    )


def _told(found: Benchmarked) -> str:
    """The client's words, which leave out the body of a refusal: mostly so much was asked for, so it is told."""
    if not found.error.startswith(_REFUSED):
        return found.error
    tokens = found.load.input_tokens + found.load.output_tokens
    return (
        f"{found.error}; a prompt and its answer have {tokens} tokens: are they more than the engine's maxModelLength?"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
