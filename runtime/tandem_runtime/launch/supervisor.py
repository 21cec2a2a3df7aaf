"""Runs the engine's program, and ends with it. Knows processes and signals, not flags."""

import http.client
import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tandem_contracts.stopping import StopTimes
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.launch.leaving import Stage, tell
from tandem_runtime.launch.phases import StartPhases
from tandem_runtime.launch.program import Program
from tandem_runtime.launch.root_cause import root_cause

POLL_SECONDS = 0.1
HEALTH_LIMIT_SECONDS = 1.0
START_STOP_SECONDS = 10.0
"""What an engine gets to stop that was only starting."""

logger = logging.getLogger(__name__)


class Supervisor:
    """One engine process. Only the main thread may make one, since it takes over SIGTERM and SIGINT."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        health: tuple[str, int],
        phases: StartPhases,
        stop: StopTimes,
        leaving_file: Path,
    ) -> None:
        """`health` is host and port of the engine's HTTP server; `phases` is told what its log says.

        After SIGTERM its server is told by `leaving_file` that it leaves; the engine itself gets SIGTERM after
        `stop.leaving_seconds`, and SIGKILL `stop.limit_seconds` after that.
        """
        self._stop_wanted = threading.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda _number, _frame: self._stop_wanted.set())
        self._health = health
        self._phases = phases
        self._stop_times, self._leaving_file = stop, leaving_file
        self._program = Program(command, environment, see_line=lambda line: phases.see_line(line, time.monotonic()))

    def run(self) -> TerminationMessage | None:
        """Waits for the engine's end; None when that was asked for by a signal and it obeyed."""
        while self._program.status is None and not self._stop_wanted.wait(POLL_SECONDS):
            if not self._phases.is_ready and self._answers():
                self._phases.see_answer(time.monotonic())
                durations = self._phases.durations_seconds().items()
                logger.info("ready: %s", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in durations))
        status = self._program.status
        return self._stop() if status is None else self._failure(status)

    def _stop(self) -> TerminationMessage | None:
        # One that has never answered has no requests, and may be in a phase that hears no signal.
        is_serving = self._phases.is_ready
        limit_seconds: float = self._stop_times.limit_seconds
        if is_serving:
            self._leave()
        else:
            limit_seconds = min(limit_seconds, START_STOP_SECONDS)
        logger.info("stopping the engine, waiting at most %.0f s for requests in flight", limit_seconds)
        if self._program.stop(limit_seconds) or not is_serving:
            return None
        return TerminationMessage(
            code=ExitCode.ENGINE_STOP_TIMED_OUT,
            phase=Phase.STOP,
            reason=Reason.ENGINE_STOP_TIMED_OUT,
            message=f"the engine did not stop within {limit_seconds:.0f} s of SIGTERM and was killed",
        )

    def _leave(self) -> None:
        """Send those elsewhere who keep connections, while the engine still answers all that comes."""
        tell(self._leaving_file, Stage.LEAVING)
        self._program.wait(self._stop_times.leaving_seconds)
        tell(self._leaving_file, Stage.GONE)

    def _failure(self, status: int) -> TerminationMessage:
        phase, was_ready = self._phases.current, self._phases.is_ready
        return TerminationMessage(
            code=ExitCode.ENGINE_FAILED if was_ready else ExitCode.ENGINE_START_FAILED,
            phase=phase,
            reason=Reason.ENGINE_FAILED if was_ready else Reason.ENGINE_START_FAILED,
            message=root_cause(self._program.end(), status),
        )

    def _answers(self) -> bool:
        host, port = self._health
        connection = http.client.HTTPConnection(host, port, timeout=HEALTH_LIMIT_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
