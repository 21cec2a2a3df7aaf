"""Serves a draft model in this very process, which asks engines of other makes; one that is gone ends it."""

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from tandem_contracts.draft_access import DraftIdentity
from tandem_contracts.launch import DEPTH_LIMIT, LaunchOptions
from tandem_contracts.launch import DraftEngine as DraftEngineKind
from tandem_contracts.termination import ExitCode, Reason, TerminationMessage
from tandem_runtime.draft_server.engines import DraftEngine, warm_up
from tandem_runtime.launch.engine import Platform, draft_engine_flags, engine_environment
from tandem_runtime.launch.exporter import ALL_INTERFACES, PhasesCollector, serve_metrics
from tandem_runtime.launch.model_folder import ModelFolder
from tandem_runtime.launch.phases import StartPhases

DEFAULT_SESSIONS = 64
STOP_SECONDS = 2.0
"""Enough for the answers that are being made. Verifiers do not wait for others: they go on without drafts."""
MESSAGE_LENGTH = 1000
CHECK_SECONDS = 0.5
"""How often an engine's own process, where it has one, is looked after."""

logger = logging.getLogger(__name__)


def serve_drafts(options: LaunchOptions, model: ModelFolder, *, platform: Platform) -> TerminationMessage | None:
    """Serves until SIGTERM or SIGINT; why it could not, or None. Only the main thread may call it."""
    stop_wanted = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop_wanted.set())
    phases, registry = StartPhases(time.monotonic()), CollectorRegistry()
    registry.register(PhasesCollector(phases))
    stop_metrics = serve_metrics(registry, options.host, port=options.metrics_port)
    try:
        _serve(options, model, platform=platform, phases=phases, registry=registry, stop_wanted=stop_wanted)
    except Exception as failure:
        logger.exception("the draft server failed")
        return TerminationMessage(
            code=ExitCode.ENGINE_FAILED if phases.is_ready else ExitCode.ENGINE_START_FAILED,
            phase=phases.current,
            reason=Reason.ENGINE_FAILED if phases.is_ready else Reason.ENGINE_START_FAILED,
            message=f"{type(failure).__name__}: {failure}"[:MESSAGE_LENGTH],
        )
    else:
        return None
    finally:
        stop_metrics()


def _serve(
    options: LaunchOptions,
    model: ModelFolder,
    *,
    platform: Platform,
    phases: StartPhases,
    registry: CollectorRegistry,
    stop_wanted: threading.Event,
) -> None:
    os.environ.update(engine_environment(os.environ, platform=platform))
    # Here, since torch takes seconds to load and a verifier's launcher has no use for it.
    from tandem_runtime.draft_server.access import Access
    from tandem_runtime.draft_server.figures import Figures
    from tandem_runtime.draft_server.server import DraftServer

    sessions = options.engine.max_sequences or DEFAULT_SESSIONS
    access = None
    if options.draft_identity:
        certificates, credentials = Path(options.certificates_folder), Path(options.credentials_folder)
        access = Access(DraftIdentity.parse(options.draft_identity), certificates, credentials)
    with contextlib.ExitStack() as stack:
        phases.see_weights_begin(time.monotonic())
        engine, check = _started(options, model, platform=platform, sessions=sessions, stack=stack)
        phases.see_weights_end(time.monotonic())
        warm_up(engine)
        server = DraftServer(
            engine,
            name=f"{socket.gethostname()} ({engine.name})",
            max_depth=DEPTH_LIMIT,
            max_sessions=sessions,
            figures=Figures(registry),
            access=access,
        )
        host = options.host or ALL_INTERFACES
        server.start(f"{host}:{options.grpc_port}")
        stack.callback(server.stop, grace_seconds=STOP_SECONDS)
        if access is not None:
            server.start_health(f"{host}:{options.health_port}")
        phases.see_answer(time.monotonic())
        durations = phases.durations_seconds().items()
        logger.info("ready: %s: %s", engine.name, ", ".join(f"{name} {seconds:.1f} s" for name, seconds in durations))
        while not stop_wanted.wait(CHECK_SECONDS):
            check()


def _started(
    options: LaunchOptions, model: ModelFolder, *, platform: Platform, sessions: int, stack: contextlib.ExitStack
) -> tuple[DraftEngine, Callable[[], object]]:
    """The engine, and what raises when a process that it needs is gone. Each imports what only its image has."""
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
                model.path, caches=sessions, depth=2 * DEPTH_LIMIT + 1, tokenizer_hash=model.tokenizer_hash
            )
            return engine, _nothing


def _nothing() -> None:
    """An engine without a process of its own."""
