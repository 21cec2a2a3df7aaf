"""Translates our launch options into vLLM's command line and environment. Pure; the only place that knows its flags."""

import json
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from tandem_contracts.launch import LaunchOptions, Role, Speculation
from tandem_runtime.drafting.settings import DraftSettings
from tandem_runtime.launch.model_folder import ModelFolder

ENGINE_MODULE = "vllm.entrypoints.openai.api_server"
PROPOSER = "tandem_runtime.drafting.vllm_adapter.RemoteProposer"
WORKER = "tandem_runtime.drafting.vllm_adapter.DraftingWorker"
DRAIN_SECONDS = 20
CPU_BLOCK_TOKENS = 32


class Platform(StrEnum):
    """Which build of vLLM is installed."""

    CPU = "cpu"
    GPU = "gpu"


def engine_command(options: LaunchOptions, model: ModelFolder, *, platform: Platform, counters: Path) -> list[str]:
    """The command that starts vLLM's OpenAI server as `options` ask."""
    # fmt: off
    command = [
        sys.executable, "-m", ENGINE_MODULE,
        "--model", str(model.path),
        "--served-model-name", options.served_name,
        "--port", str(options.http_port),
        "--tensor-parallel-size", str(options.tensor_parallel),
        # Left alone, vLLM serves float32 weights in half precision, where rounding decides between near ties.
        "--dtype", model.dtype,
        "--shutdown-timeout", str(DRAIN_SECONDS),
        "--disable-uvicorn-access-log",
    ]
    # fmt: on
    if options.host:
        command += ["--host", options.host]
    if platform is Platform.CPU:
        # Compiling takes longer than it gains at start, and needs a C++ compiler in the image.
        command += ["--enforce-eager"]
        if options.role is Role.DRAFT:
            # The prefix cache works in whole blocks: with the CPU's default of 128 it finds little between steps.
            command += ["--block-size", str(CPU_BLOCK_TOKENS)]
    return command + _speculation(options, counters)


def engine_environment(inherited: Mapping[str, str], *, platform: Platform) -> dict[str, str]:
    """The environment for vLLM: nothing is fetched or reported, and files go only where a pod may write."""
    scratch = tempfile.gettempdir()
    environment = {
        **inherited,
        "HOME": scratch,
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "XDG_CONFIG_HOME": f"{scratch}/config",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        # The phases of the start and the cause of a failure are read from these lines.
        "VLLM_LOGGING_LEVEL": "INFO",
        "VLLM_CONFIGURE_LOGGING": "1",
    }
    if platform is Platform.CPU:
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return environment


def _speculation(options: LaunchOptions, counters: Path) -> list[str]:
    match options.speculation:
        case Speculation.OFF:
            return []
        case Speculation.NGRAM:
            method: dict[str, object] = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 5}
            extra: list[str] = []
        case Speculation.REMOTE:
            method = {"method": "custom_class", "model": PROPOSER}
            settings = DraftSettings(
                address=options.draft_address,
                deadline_seconds=options.draft_deadline_seconds,
                counters=str(counters),
            )
            extra = ["--worker-cls", WORKER, "--additional-config", json.dumps(settings.to_engine())]
    method["num_speculative_tokens"] = options.max_depth
    return ["--speculative-config", json.dumps(method), *extra]
