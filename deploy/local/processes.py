"""Starts programs that outlive us, remembers them so that only they are ever ended, and waits with a limit.

A pid alone is not an identity: it is recorded with the start time and the boot, so that a recycled pid is never
signalled.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.errors import ClusterError

POLL_SECONDS = 0.05
_STATE_FIELD = 0
_PARENT_FIELD = 1
_START_FIELD = 19


@dataclass(frozen=True)
class Process:
    """One started program.

    `start_ticks` counts clock ticks since the boot named `boot`; `log` is where its output goes.
    """

    name: str
    pid: int
    start_ticks: int
    boot: str
    log: str


def boot_identity() -> str:
    """The kernel's random id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_of(name: str, pid: int, *, log: Path) -> Process | None:
    """The process that has `pid` now, or None when there is none."""
    fields = _stat_of(pid)
    return None if fields is None else Process(name, pid, int(fields[_START_FIELD]), boot_identity(), str(log))


def is_alive(process: Process) -> bool:
    """Whether exactly this process still runs: same pid, same start, same boot, and not a zombie."""
    fields = _stat_of(process.pid)
    if fields is None or int(fields[_START_FIELD]) != process.start_ticks or boot_identity() != process.boot:
        return False
    if fields[_STATE_FIELD] not in {"Z", "X"}:
        return True
    # Reaped after it was seen to have ended, or one that ends right now would be told dead and keep its pid.
    _reap(process.pid)
    return False


def start(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    prefix: Sequence[str] = (),
    limit_seconds: float = 10,
) -> Process:
    """Start `argv` in a session of its own, output appended to `log`.

    `prefix` is a command that runs another one as its child (nsenter); then the child is the process that counts.
    Raises ClusterError when the program cannot be started or ends before its child appears.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*prefix, *argv]
    try:
        pid = os.posix_spawnp(
            command[0],
            command,
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                # An open pipe of the caller's, kept by a program that stays, would make its reader wait for ever.
                *((os.POSIX_SPAWN_CLOSE, number) for number in _inheritable_files()),
            ],
            setsid=True,
        )
    except OSError as error:
        raise ClusterError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
    first = process_of(name, pid, log=log)
    if first is None:
        raise ClusterError(f"{name} ended at once; {tail_of(log)}")
    if not prefix:
        return first
    found: list[Process] = []

    def has_child() -> bool:
        found.extend(p for child in children_of(pid) if (p := process_of(name, child, log=log)) is not None)
        return bool(found)

    wait_until(has_child, f"{name} to start", limit_seconds=limit_seconds, log=log, processes=[first])
    return found[0]


def end(processes: Sequence[Process], *, grace_seconds: float, limit_seconds: float = 20) -> None:
    """SIGTERM, then SIGKILL after `grace_seconds`; waits until all are gone. Dead or foreign pids are left alone."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while any(is_alive(p) for p in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    kill(processes, limit_seconds=limit_seconds)


def kill(processes: Sequence[Process], *, limit_seconds: float = 20) -> None:
    """SIGKILL at once; waits until all are gone. Dead or foreign pids are left alone."""
    for process in processes:
        _signal(process, signal.SIGKILL)
    named = ", ".join(f"{p.name} (pid {p.pid})" for p in processes)
    wait_until(lambda: not any(is_alive(p) for p in processes), f"{named} to end", limit_seconds=limit_seconds)


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    limit_seconds: float,
    log: Path | None = None,
    processes: Sequence[Process] = (),
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Return once `condition` holds.

    Raises ClusterError, with `what`, the limit and the end of `log`, when it does not hold within `limit_seconds`,
    or as soon as one of `processes` has ended.
    """
    deadline = time.monotonic() + limit_seconds
    while not condition():
        for process in processes:
            if not is_alive(process):
                raise ClusterError(f"{process.name} ended while waiting for {what}; {tail_of(Path(process.log))}")
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {limit_seconds:.0f} s for {what}; {tail_of(log)}")
        time.sleep(poll_seconds)


def tail_of(log: Path | None, lines: int = 12) -> str:
    """The end of a log, ready to be put into a message."""
    if log is None:
        return "no log"
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return f"log: {log} (not written)"
    return "\n  ".join([f"log: {log}, its end:", *text.splitlines()[-lines:]])


def children_of(pid: int) -> list[int]:
    """The pids whose parent is `pid`."""
    return [p for p in all_pids() if (fields := _stat_of(p)) is not None and int(fields[_PARENT_FIELD]) == pid]


def all_pids() -> list[int]:
    """Every pid that can be seen."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def arguments_of(pid: int) -> list[str]:
    """The command line of `pid`; empty when it is gone or belongs to the kernel."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0") if raw else []


def read_processes(path: Path) -> list[Process]:
    """The recorded processes; none when the record is missing or was cut off by a crash."""
    try:
        return [Process(**item) for item in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def write_processes(path: Path, processes: Sequence[Process]) -> None:
    """Record `processes`, whole or not at all."""
    write_whole(path, json.dumps([asdict(p) for p in processes], indent=1))


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace `path` by `text` in one step, so that a crash leaves the old file or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.chmod(mode)
    part.replace(path)


def _inheritable_files() -> list[int]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if int(entry.name) > 2 and os.get_inheritable(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue  # the listing's own descriptor, closed by now
    return found


def _signal(process: Process, number: signal.Signals) -> None:
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the program's name, which may itself hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()
