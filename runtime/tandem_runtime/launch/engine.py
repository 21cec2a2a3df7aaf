"""Translates our launch options into vLLM's command line and environment. Pure; the only place that knows its flags."""

import json
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from tandem_contracts.engine_settings import FLAGS, SWITCH, Compilation, EngineSettings, Switch
from tandem_contracts.launch import Access, InEngineKind, LaunchOptions, Speculation
from tandem_contracts.metrics import LATENCY_GRID
from tandem_contracts.stopping import StopTimes
from tandem_runtime.drafting.settings import DraftSettings
from tandem_runtime.launch.model_folder import ModelFolder

QUIET: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Of every program of vLLM's: nothing is fetched or reported, and what it says comes at once."""

ENGINE_MODULE = "vllm.entrypoints.openai.api_server"
PROPOSER = "tandem_runtime.drafting.vllm_adapter.RemoteProposer"
WORKER = "tandem_runtime.drafting.vllm_adapter.DraftingWorker"
GUARD = "tandem_runtime.launch.guard.Guard"
LEAVING = "tandem_runtime.launch.leaving.Leaving"
DRAFT_BLOCK_TOKENS = 32
_LATENCIES = ("time_to_first_token", "inter_token_latency", "request_latency")
"""vLLM's families of histograms that have the grid: the second one has the time per output token of a request, too."""
_METHODS = {
    InEngineKind.DRAFT_MODEL: "draft_model",
    InEngineKind.EAGLE3: "eagle3",
    InEngineKind.MTP: "mtp",
    InEngineKind.SUFFIX: "suffix",
}


class Platform(StrEnum):
    """Which build of vLLM is installed."""

    CPU = "cpu"
    GPU = "gpu"


def engine_command(options: LaunchOptions, model: ModelFolder, *, platform: Platform) -> list[str]:
    """The command that starts vLLM's OpenAI server as `options` ask."""
    # fmt: off
    command = [
        sys.executable, "-m", ENGINE_MODULE,
        *_model(options, model),
        "--served-model-name", options.served_name,
        "--port", str(options.http_port),
        "--shutdown-timeout", str(StopTimes.of_drain(options.drain_seconds).engine_seconds),
        "--disable-uvicorn-access-log",
        "--middleware", LEAVING,
        "--custom-histogram-buckets", json.dumps(dict.fromkeys(_LATENCIES, LATENCY_GRID)),
    ]
    # fmt: on
    if options.host:
        command += ["--host", options.host]
    if options.traces_endpoint:
        command += ["--otlp-traces-endpoint", options.traces_endpoint]
    if options.access is Access.API_KEY:
        # vLLM asks for its key under some paths only; others answer the same questions (/invocations).
        command += ["--middleware", GUARD]
    return command + _settings(options, platform) + _speculation(options)


def draft_engine_flags(options: LaunchOptions, model: ModelFolder, *, platform: Platform) -> list[str]:
    """The part of that command line which is for an engine without a server, as a draft server has one."""
    flags = [*_model(options, model), *_settings(options, platform)]
    if platform is Platform.CPU and options.engine.block_tokens is None:
        # The prefix cache works in whole blocks: with the CPU's default of 128 it finds little between steps.
        flags += ["--block-size", str(DRAFT_BLOCK_TOKENS)]
    return flags


def _model(options: LaunchOptions, model: ModelFolder) -> list[str]:
    # fmt: off
    return [
        "--model", str(model.path),
        "--tensor-parallel-size", str(options.tensor_parallel),
        # Left alone, vLLM serves float32 weights in half precision, where rounding decides between near ties.
        "--dtype", options.engine.data_type or model.dtype,
    ]
    # fmt: on


def engine_environment(
    inherited: Mapping[str, str], *, platform: Platform, compilation: Compilation | None = None
) -> dict[str, str]:
    """The environment for vLLM: nothing is fetched or reported, and files go only where a pod may write."""
    scratch, cache = tempfile.gettempdir(), str(cache_folder())
    environment = {
        **inherited,
        "HOME": scratch,
        "XDG_CACHE_HOME": cache,
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "FLASHINFER_WORKSPACE_BASE": cache,
        "XDG_CONFIG_HOME": f"{scratch}/config",
        **QUIET,
        # The phases of the start and the cause of a failure are read from these lines.
        "VLLM_LOGGING_LEVEL": "INFO",
        "VLLM_CONFIGURE_LOGGING": "1",
    }
    if platform is Platform.CPU:
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        if compilation is not Compilation.COMPILED:
            # vLLM compiles a function for logprobs even so, and the first request for them ends an engine without g++.
            environment["TORCHDYNAMO_DISABLE"] = "1"
        # vLLM 0.32 cannot load what it saves ahead of time here ("no attribute 'finalize_loading'"): it compiles again.
        environment["VLLM_USE_AOT_COMPILE"] = "0"
    return environment


def cache_folder() -> Path:
    """Where engines keep what they have compiled: graphs, kernels, and what they found out about a model's class."""
    return Path(tempfile.gettempdir()) / "cache"


def _settings(options: LaunchOptions, platform: Platform) -> list[str]:
    engine = options.engine
    compilation = engine.compilation
    if platform is Platform.CPU:
        # Compiling takes longer than it gains at start, and needs a C++ compiler in the image.
        compilation = compilation or Compilation.EAGER
    valued = {
        "max-model-len": engine.max_model_length,
        "kv-cache-dtype": engine.kv_cache_dtype,
        "quantization": engine.quantization,
        "attention-backend": engine.attention_backend,
        "block-size": engine.block_tokens,
        "gpu-memory-utilization": None if engine.memory_percent is None else f"0.{engine.memory_percent:02}",
        "max-num-seqs": engine.max_sequences,
        "max-num-batched-tokens": engine.max_batched_tokens,
        "scheduling-policy": engine.scheduling_policy,
        "prefix-caching-hash-algo": engine.prefix_hash,
    }
    switched = {
        "enforce-eager": None if compilation is None else _SWITCH_OF[compilation],
        "enable-chunked-prefill": engine.chunked_prefill,
        "enable-prefix-caching": engine.prefix_caching,
    }
    # On CPUs vLLM counts memory, and samples after drafts of any origin, with errors that our worker mends.
    is_ours = platform is Platform.CPU or options.speculation is Speculation.REMOTE
    worker = ["--worker-cls", WORKER] if is_ours else []
    return [*_valued(valued), *_switched(switched), *_flags(engine), *worker]


_SWITCH_OF = {Compilation.EAGER: Switch.ENABLED, Compilation.COMPILED: Switch.DISABLED}


def _flags(engine: EngineSettings) -> list[str]:
    """The flags that a user gave by name; LaunchOptions has checked them against the list."""
    valued = {name: value for name, value in sorted(engine.flags.items()) if FLAGS[name] is not SWITCH}
    switched = {name: Switch(str(value)) for name, value in sorted(engine.flags.items()) if FLAGS[name] is SWITCH}
    return [*_valued(valued), *_switched(switched)]


def _valued(values: Mapping[str, object]) -> list[str]:
    return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]


def _switched(switches: Mapping[str, Switch | None]) -> list[str]:
    return [
        f"--{name}" if switch is Switch.ENABLED else f"--no-{name}"
        for name, switch in switches.items()
        if switch is not None
    ]


def draft_environment(options: LaunchOptions, model: ModelFolder, *, counters: Path) -> dict[str, str]:
    """What the proposer of remote drafts reads; nothing for other engines."""
    if options.speculation is not Speculation.REMOTE:
        return {}
    settings = DraftSettings(
        address=options.draft_address,
        deadline_seconds=options.draft_deadline_seconds,
        tokenizer_hash=model.tokenizer_hash,
        counters=str(counters),
        identity=options.draft_identity,
        certificates_folder=options.certificates_folder if options.draft_identity else "",
        credentials_folder=options.credentials_folder if options.draft_identity else "",
    )
    return settings.to_environment()


def _speculation(options: LaunchOptions) -> list[str]:
    match options.speculation:
        case Speculation.OFF:
            return []
        case Speculation.NGRAM:
            method: dict[str, object] = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 5}
        case Speculation.IN_ENGINE:
            method = {"method": _METHODS[options.in_engine]} if options.in_engine else {}
            if options.in_engine_model:
                method["model"] = options.in_engine_model
        case Speculation.REMOTE:
            method = {"method": "custom_class", "model": PROPOSER}
    method["num_speculative_tokens"] = options.max_depth
    return ["--speculative-config", json.dumps(method)]
