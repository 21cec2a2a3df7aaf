"""Serves a draft engine in this very process; one with a process of its own that is gone ends it."""

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from tandem_contracts.draft_access import DraftIdentity
from tandem_contracts.draft_container import DraftContainer
from tandem_contracts.launch import DEPTH_LIMIT
from tandem_contracts.termination import ExitCode, Reason, TerminationMessage
from tandem_runtime.draft_server.engines import DraftEngine, warm_up
from tandem_runtime.launch.exporter import ALL_INTERFACES, PhasesCollector, serve_metrics
from tandem_runtime.launch.memory import MemoryCollector
from tandem_runtime.launch.phases import StartPhases

STOP_SECONDS = 2.0
"""Enough for the answers that are being made. Verifiers do not wait for others: they go on without drafts."""
MESSAGE_LENGTH = 1000
CHECK_SECONDS = 0.5
"""How often an engine's own process, where it has one, is looked after."""

Start = Callable[[contextlib.ExitStack], tuple[DraftEngine, Callable[[], object]]]
"""Makes an engine, and what raises when a process that it needs is gone; what is to be ended goes on the stack."""

logger = logging.getLogger(__name__)


def serve_drafts(container: DraftContainer, start: Start) -> TerminationMessage | None:
    """Serves until SIGTERM or SIGINT; why it could not, or None. Only the main thread may call it."""
    stop_wanted = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop_wanted.set())
    phases, registry = StartPhases(time.monotonic()), CollectorRegistry()
    registry.register(PhasesCollector(phases))
    registry.register(MemoryCollector())
    stop_metrics = serve_metrics(registry, container.host, port=container.metrics_port)
    try:
        _serve(container, start, phases=phases, registry=registry, stop_wanted=stop_wanted)
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
    container: DraftContainer,
    start: Start,
    *,
    phases: StartPhases,
    registry: CollectorRegistry,
    stop_wanted: threading.Event,
) -> None:
    # Here, since torch takes seconds to load and a verifier's launcher has no use for it.
    from tandem_runtime.draft_server.access import Access
    from tandem_runtime.draft_server.figures import Figures
    from tandem_runtime.draft_server.server import DraftServer

    access = None
    if container.identity:
        certificates, credentials = Path(container.certificates_folder), Path(container.credentials_folder)
        access = Access(DraftIdentity.parse(container.identity), certificates, credentials)
    with contextlib.ExitStack() as stack:
        phases.see_weights_begin(time.monotonic())
        engine, check = start(stack)
        phases.see_weights_end(time.monotonic())
        warm_up(engine)
        server = DraftServer(
            engine,
            name=f"{socket.gethostname()} ({engine.name})",
            max_depth=DEPTH_LIMIT,
            max_sessions=container.max_sessions,
            figures=Figures(registry),
            access=access,
        )
        host = container.host or ALL_INTERFACES
        server.start(f"{host}:{container.grpc_port}")
        stack.callback(server.stop, grace_seconds=STOP_SECONDS)
        if access is not None:
            server.start_health(f"{host}:{container.health_port}")
        phases.see_answer(time.monotonic())
        durations = phases.durations_seconds().items()
        logger.info("ready: %s: %s", engine.name, ", ".join(f"{name} {seconds:.1f} s" for name, seconds in durations))
        while not stop_wanted.wait(CHECK_SECONDS):
            check()
