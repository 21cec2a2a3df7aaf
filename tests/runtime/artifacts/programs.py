"""Runs the programs of artifact Jobs as a pod does, in their own environment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.fixtures.environment import artifacts_environment
from deploy.local.layout import REPOSITORY
from tandem_contracts.termination import ExitCode, TerminationMessage

LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Ended:
    """How a program ended: everything that it has said."""

    code: int
    last_word: str
    output: str

    @property
    def refusal(self) -> TerminationMessage:
        """Its last word, which is not that of a good end."""
        assert self.code != ExitCode.OK, self.output
        return TerminationMessage.decode(self.last_word)


class Program:
    """One that runs."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        environment: dict[str, str],
        python: Path | None = None,
    ) -> None:
        """`python`: of another environment than that of artifact Jobs."""
        folder.mkdir(parents=True, exist_ok=True)
        self._word, self._log = folder / "termination-log", folder / "log"
        self._word.unlink(missing_ok=True)
        given = [f"--termination-log={self._word}", *arguments]  # before what an argument `--` ends
        command = [str(python or artifacts_environment()), "-m", module, *given]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_"))}
        own = {"PYTHONPATH": str(REPOSITORY / "runtime"), "HOME": str(folder), "OMP_WAIT_POLICY": "passive"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env={**kept, **own, **environment}, stdout=log, stderr=subprocess.STDOUT
            )

    def kill_once(self, is_time: Callable[[], bool], what: str) -> None:
        """SIGKILL as soon as it is time."""
        limit = time.monotonic() + LIMIT_SECONDS
        while not is_time():
            assert self._process.poll() is None, f"it ended before {what}: {self._log.read_text()}"
            assert time.monotonic() < limit, f"not within {LIMIT_SECONDS:.0f} s: {what}"
            time.sleep(0.02)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(LIMIT_SECONDS)

    def ended(self) -> Ended:
        """Once it has."""
        code = self._process.wait(LIMIT_SECONDS)
        word = self._word.read_text() if self._word.exists() else ""
        return Ended(code, word, self._log.read_text())


def run(module: str, arguments: Sequence[str], folder: Path, *, environment: dict[str, str] | None = None) -> Ended:
    """Start a program and wait for its end."""
    return Program(module, arguments, folder, environment=environment or {}).ended()
