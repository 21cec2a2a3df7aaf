"""One at a time: a file lock between processes, with a limit on the wait. It holds no data."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import ClusterError


@contextmanager
def locked(
    path: Path, what: str, *, limit_seconds: float, say: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Hold `path` as a lock while the body runs, and remove it afterwards. `say` is told once when that means waiting.

    Raises ClusterError when another process holds it for longer than `limit_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limit_seconds
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _is_taken(descriptor, path):
            break
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise ClusterError(
                f"another process holds {path} ({what}) for more than {limit_seconds:.0f} s; wait for it or end it"
            )
        if say is not None:
            say(f"waiting for another process that holds {path} ({what}), at most {limit_seconds:.0f} s")
            say = None
        time.sleep(0.2)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_taken(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The holder before us may have removed the file after we opened it: then our lock guards nothing.
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
