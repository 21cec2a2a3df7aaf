"""A program that is started, whose log is passed on, and none of whose processes outlives it."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

LINES_KEPT = 2000
READER_LIMIT_SECONDS = 5.0


class Program:
    """One program, in a process group of its own."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        see_line: Callable[[str], object] = lambda _line: None,
    ) -> None:
        """`see_line` is told each line of its log, from another thread."""
        self._see_line = see_line
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
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
        self._reader = threading.Thread(target=self._pass_on_log, name="program-log", daemon=True)
        self._reader.start()

    @property
    def status(self) -> int | None:
        """As of subprocess: the exit code, less than 0 for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, limit_seconds: float) -> None:
        """Until it has ended, or this time is over."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=limit_seconds)

    def stop(self, limit_seconds: float) -> bool:
        """SIGTERM, and after this time SIGKILL for what is left of its group; whether it obeyed."""
        self._process.terminate()
        self.wait(limit_seconds)
        obeyed = self.status is not None
        self.end()
        return obeyed

    def end(self) -> list[str]:
        """SIGKILL for what is left of its group; the last lines of its log."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=READER_LIMIT_SECONDS)
        self._reader.join(timeout=READER_LIMIT_SECONDS)
        return list(self._lines)

    def _pass_on_log(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            self._lines.append(line.rstrip("\n"))
            self._see_line(line)
