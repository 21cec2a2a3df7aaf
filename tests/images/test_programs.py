"""How long programs are run: their limit, their log, and what a failure says."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from deploy.images.errors import ImageError
from deploy.images.programs import output_of, run
from deploy.local.processes import wait_until
from deploy.local.progress import Progress

PROGRESS = Progress(io.StringIO())
STARTS_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def python(program: str, folder: Path, *, limit_seconds: float = 60) -> str:
    """Run a Python program; returns its log."""
    log = folder / "log"
    run([sys.executable, "-c", program], "the work", limit_seconds=limit_seconds, log=log, progress=PROGRESS)
    return log.read_text()


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or is at most not yet collected by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_output_of_both_kinds_is_in_the_log(tmp_path: Path) -> None:
    assert python("import sys; print('out', flush=True); print('err', file=sys.stderr)", tmp_path) == "out\nerr\n"


def test_a_failure_names_the_work_the_status_and_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"(?s)the work: exit status 3; log: .*no space left"):
        python("print('no space left'); raise SystemExit(3)", tmp_path)


def test_work_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the work took more than 2 s"):
        python(STARTS_A_CHILD, tmp_path, limit_seconds=2)
    child = int((tmp_path / "log").read_text())
    wait_until(lambda: has_ended(child), f"the end of the child, pid {child}", limit_seconds=20)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="containerd: there is no program no-such-program"):
        output_of(["no-such-program"], "containerd", limit_seconds=5)


def test_a_short_program_that_fails_is_quoted() -> None:
    with pytest.raises(ImageError, match="ended with 1: no such image"):
        output_of(["sh", "-c", "echo no such image >&2; exit 1"], "image storage", limit_seconds=5)
