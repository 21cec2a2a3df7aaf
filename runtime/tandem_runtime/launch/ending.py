"""How a launcher ends: the reason in its log, in the termination log, and as exit code."""

import logging
import sys
from pathlib import Path

from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage

logger = logging.getLogger("tandem_runtime.launch")


def started_logging() -> None:
    """Log to standard output, as a pod does."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="(launch) %(levelname)s %(message)s")


def refusal(code: ExitCode, reason: Reason, cause: Exception) -> TerminationMessage:
    """For what was found out before anything was started."""
    return TerminationMessage(code=code, phase=Phase.CHECK, reason=reason, message=str(cause))


def ended(last_word: TerminationMessage | None, termination_log: str) -> ExitCode:
    """Tell why, None being a stop that was asked for; the code to exit with."""
    if last_word is None:
        logger.info("stopped as asked")
        return ExitCode.OK
    logger.error("%s in phase %s: %s", last_word.reason, last_word.phase, last_word.message)
    try:
        Path(termination_log).write_text(last_word.encode())
    except OSError as failure:
        logger.warning("the termination log cannot be written: %s", failure)
    return last_word.code
