"""Serves a draft engine of your own in a container of type Custom: everything but the engine is Tandem's."""

import os
from collections.abc import Callable, Mapping

from tandem_contracts.draft_container import DraftContainer, InvalidContainerError
from tandem_contracts.launch import TERMINATION_LOG
from tandem_contracts.termination import ExitCode, Reason
from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.launch.drafts import serve_drafts
from tandem_runtime.launch.ending import ended, refusal, started_logging


def serve(
    engine_of: Callable[[DraftContainer], DraftEngine],
    *,
    environment: Mapping[str, str] = os.environ,
    termination_log: str = TERMINATION_LOG,
) -> ExitCode:
    """Serve what `engine_of` makes until SIGTERM; the code to exit with. Only the main thread may call it."""
    started_logging()
    try:
        container = DraftContainer.of(environment)
    except InvalidContainerError as cause:
        return ended(refusal(ExitCode.INVALID_OPTIONS, Reason.INVALID_OPTIONS, cause), termination_log)
    return ended(serve_drafts(container, lambda _stack: (engine_of(container), lambda: None)), termination_log)
