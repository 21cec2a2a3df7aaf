"""The draft engines that come with Tandem, as a launcher starts them. Each imports what only its image has."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tandem_contracts.draft_container import DEFAULT_SESSIONS, DraftContainer
from tandem_contracts.launch import DEPTH_LIMIT, LaunchOptions
from tandem_contracts.launch import DraftEngine as DraftEngineKind
from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.launch.drafts import Start
from tandem_runtime.launch.engine import Platform, draft_engine_flags, engine_environment
from tandem_runtime.launch.model_folder import ModelFolder


def container_of(options: LaunchOptions) -> DraftContainer:
    """What of a launcher's options says where its drafts are served."""
    return DraftContainer(
        model=options.model,
        max_sessions=options.engine.max_sequences or DEFAULT_SESSIONS,
        identity=options.draft_identity,
        certificates_folder=options.certificates_folder,
        credentials_folder=options.credentials_folder,
        host=options.host,
        grpc_port=options.grpc_port,
        metrics_port=options.metrics_port,
        health_port=options.health_port,
    )


def start_of(options: LaunchOptions, model: ModelFolder, *, platform: Platform) -> Start:
    """How the engine that the options name is started. Its environment, which this process gets, is read at imports."""
    os.environ.update(engine_environment(os.environ, platform=platform, compilation=options.engine.compilation))
    sessions = container_of(options).max_sessions

    def start(stack: contextlib.ExitStack) -> tuple[DraftEngine, Callable[[], object]]:
        match options.draft_engine:
            case DraftEngineKind.VLLM:
                from tandem_runtime.draft_server.vllm_engine import VllmEngine

                flags = draft_engine_flags(options, model, platform=platform)
                return VllmEngine(flags, tokenizer_hash=model.tokenizer_hash), _nothing
            case DraftEngineKind.TRITON:
                from tandem_runtime.draft_server.triton.engine import TritonEngine
                from tandem_runtime.launch.triton import TritonServer

                folder = Path(tempfile.gettempdir()) / f"tandem-triton-{options.grpc_port}"
                triton = stack.enter_context(TritonServer(model.path, folder, caches=sessions))
                triton.wait_until_ready()
                asked = TritonEngine(triton.address, tokenizer_hash=model.tokenizer_hash)
                stack.callback(asked.close)
                return asked, triton.check
            case _:
                # Not beside vLLM, which fails to start where numba has been imported before.
                from tandem_runtime.draft_server.choice import lean_engine_of

                engine = lean_engine_of(
                    model.path,
                    caches=sessions,
                    depth=2 * DEPTH_LIMIT + 1,
                    tokenizer_hash=model.tokenizer_hash,
                    scheme=options.draft_scheme,
                )
                return engine, _nothing

    return start


def _nothing() -> None:
    """An engine without a process of its own."""
