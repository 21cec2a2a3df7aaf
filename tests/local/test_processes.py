"""Programs that outlive us: none is forgotten, and no stranger is ever ended."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.errors import ClusterError
from deploy.local.processes import (
    Process,
    end,
    is_alive,
    kill,
    process_of,
    read_processes,
    start,
    wait_until,
    write_processes,
)

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = start("sleeper", ["sleep", "60"], log=tmp_path / "log", environment=ENVIRONMENT)
    yield process
    kill([process])


def test_a_started_program_is_the_leader_of_a_session_of_its_own(sleeper: Process) -> None:
    assert is_alive(sleeper)
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_a_process_that_took_over_a_recorded_pid_is_not_ended(sleeper: Process) -> None:
    recycled = replace(sleeper, start_ticks=sleeper.start_ticks - 1)
    end([recycled], grace_seconds=0)
    assert not is_alive(recycled)
    assert is_alive(sleeper)


def test_a_record_from_before_a_reboot_ends_nothing(sleeper: Process) -> None:
    stale = replace(sleeper, boot="another boot")
    kill([stale])
    assert is_alive(sleeper)


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    log = tmp_path / "log"
    process = start("deaf", [sys.executable, "-c", deaf], log=log, environment=ENVIRONMENT)
    wait_until(lambda: "deaf" in log.read_text(), "the program to ignore SIGTERM", limit_seconds=10, log=log)
    end([process], grace_seconds=0.2)
    assert not is_alive(process)


def test_an_ended_child_counts_as_gone_although_nobody_waited_for_it(sleeper: Process) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(sleeper), "the killed program to be gone", limit_seconds=10)


def test_the_child_of_a_wrapper_is_the_process_that_counts(tmp_path: Path) -> None:
    # `timeout` runs its command as a child, as nsenter does.
    process = start("child", ["sleep", "60"], log=tmp_path / "log", environment=ENVIRONMENT, prefix=["timeout", "50"])
    assert Path(f"/proc/{process.pid}/comm").read_text().strip() == "sleep"
    kill([process])


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="tool cannot be started: /no/such/tool"):
        start("tool", ["/no/such/tool"], log=tmp_path / "log", environment=ENVIRONMENT)


def test_a_wait_that_is_too_long_says_for_what_and_shows_the_log(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text("disk is full\n")
    with pytest.raises(ClusterError, match="for etcd to answer") as caught:
        wait_until(lambda: False, "etcd to answer", limit_seconds=0.01, log=log)
    assert str(log) in str(caught.value)
    assert "disk is full" in str(caught.value)


def test_a_wait_ends_as_soon_as_the_program_has_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start("short", ["sh", "-c", "echo bad flag; exit 1"], log=log, environment=ENVIRONMENT)
    with pytest.raises(ClusterError, match=r"short ended while waiting for it(?s:.*)bad flag"):
        wait_until(lambda: False, "it", limit_seconds=60, processes=[process])


def test_the_record_survives_and_a_broken_one_is_empty(tmp_path: Path, sleeper: Process) -> None:
    path = tmp_path / "processes.json"
    write_processes(path, [sleeper])
    assert read_processes(path) == [sleeper]
    path.write_text(path.read_text()[:20])
    assert read_processes(path) == []


def test_a_pid_that_nobody_has_is_no_process(tmp_path: Path) -> None:
    # Asked without a pause, some of them end while they are looked at.
    for _ in range(30):
        process = start("gone", ["true"], log=tmp_path / "log", environment=ENVIRONMENT)
        wait_until(lambda p=process: not is_alive(p), "it to end", limit_seconds=10, poll_seconds=0)
        assert process_of("gone", process.pid, log=tmp_path) is None


def test_a_program_that_stays_holds_no_pipe_of_its_caller(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    process = start("sleeper", ["sleep", "60"], log=tmp_path / "log", environment=ENVIRONMENT)
    os.close(writer)
    try:
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b"", "the reader waits for a program that will not write"
    finally:
        kill([process])
        os.close(reader)
