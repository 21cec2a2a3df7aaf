"""Runs one program with a limit, its output in a log, and a sign of life while it works. Images it does not know."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.images.errors import ImageError
from deploy.local.processes import tail_of
from deploy.local.progress import Progress

REPORT_SECONDS = 20


def run(
    argv: Sequence[str],
    what: str,
    *,
    limit_seconds: float,
    log: Path,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Run `argv` to its end, output to `log`.

    Raises ImageError, with `what` and the end of the log, when it fails or takes longer than `limit_seconds`.
    """
    begun = time.monotonic()
    with log.open("a") as output:
        process = subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while (spent := time.monotonic() - begun) < limit_seconds:
                try:
                    process.wait(min(REPORT_SECONDS, limit_seconds - spent))
                    break
                except subprocess.TimeoutExpired:
                    progress.say(f"{time.monotonic() - begun:7.0f} s  … {what}: {_last_line(log)}")
        finally:
            is_late = process.poll() is None
            if is_late:
                # The whole session: a killed builder would leave the step that it runs.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if is_late:
        raise ImageError(f"{what} took more than {limit_seconds:.0f} s; {tail_of(log)}")
    if process.returncode != 0:
        raise ImageError(f"{what}: exit status {process.returncode}; {tail_of(log)}")


def output_of(argv: Sequence[str], what: str, *, limit_seconds: float) -> str:
    """The standard output of a short program. Raises ImageError when it fails or takes longer than `limit_seconds`."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except FileNotFoundError:
        raise ImageError(f"{what}: there is no program {argv[0]}") from None
    except subprocess.TimeoutExpired:
        raise ImageError(f"{what}: `{' '.join(argv)}` took more than {limit_seconds:.0f} s") from None
    if done.returncode != 0:
        raise ImageError(f"{what}: `{' '.join(argv)}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "no output yet")
