"""Starts the engine's process, passes its log on, and ends with it. Knows processes and signals, not flags."""

import collections
import contextlib
import http.client
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.launch.phases import StartPhases
from tandem_runtime.launch.root_cause import root_cause

LOG_LINES_KEPT = 2000
READER_LIMIT_SECONDS = 5.0
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
        stop_limit_seconds: float,
    ) -> None:
        """`health` is host and port of the engine's HTTP server; `phases` is told what its log says.

        After SIGTERM the engine gets `stop_limit_seconds`, then SIGKILL.
        """
        self._stop_wanted = threading.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda _number, _frame: self._stop_wanted.set())
        self._health = health
        self._lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES_KEPT)
        self._phases = phases
        self._stop_limit_seconds = stop_limit_seconds
        # A process group of its own, so that none of the engine's processes can outlive it.
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
        self._reader = threading.Thread(target=self._pass_on_log, name="engine-log", daemon=True)
        self._reader.start()

    def run(self) -> TerminationMessage | None:
        """Waits for the engine's end; None when that was asked for by a signal and it obeyed."""
        while self._process.poll() is None and not self._stop_wanted.wait(POLL_SECONDS):
            if not self._phases.is_ready and self._answers():
                self._phases.see_answer(time.monotonic())
                durations = self._phases.durations_seconds().items()
                logger.info("ready: %s", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in durations))
        return self._failure() if self._process.poll() is not None else self._stop()

    def _stop(self) -> TerminationMessage | None:
        # One that has never answered has no requests, and may be in a phase that hears no signal.
        is_serving = self._phases.is_ready
        limit_seconds = self._stop_limit_seconds if is_serving else min(self._stop_limit_seconds, START_STOP_SECONDS)
        logger.info("stopping the engine, waiting at most %.0f s for requests in flight", limit_seconds)
        self._process.terminate()
        try:
            self._process.wait(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            self._end_group()
            if not is_serving:
                return None
            return TerminationMessage(
                code=ExitCode.ENGINE_STOP_TIMED_OUT,
                phase=Phase.STOP,
                reason=Reason.ENGINE_STOP_TIMED_OUT,
                message=f"the engine did not stop within {self._stop_limit_seconds:.0f} s of SIGTERM and was killed",
            )
        self._end_group()
        return None

    def _failure(self) -> TerminationMessage:
        phase = self._phases.current
        self._end_group()
        was_ready = self._phases.is_ready
        return TerminationMessage(
            code=ExitCode.ENGINE_FAILED if was_ready else ExitCode.ENGINE_START_FAILED,
            phase=phase,
            reason=Reason.ENGINE_FAILED if was_ready else Reason.ENGINE_START_FAILED,
            message=root_cause(list(self._lines), self._process.returncode),
        )

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=READER_LIMIT_SECONDS)
        self._reader.join(timeout=READER_LIMIT_SECONDS)

    def _pass_on_log(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            self._lines.append(line.rstrip("\n"))
            self._phases.see_line(line, time.monotonic())

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
