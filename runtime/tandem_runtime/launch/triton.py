"""Starts the Triton server that the package nvidia-pytriton carries, on loopback, and ends it.

It serves one model, which is written first, into a folder that an earlier try may have left.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tandem_runtime.draft_server.triton.repository import write_repository
from tandem_runtime.launch.program import Program
from tandem_runtime.launch.root_cause import root_cause

LOOPBACK = "127.0.0.1"
START_LIMIT_SECONDS = 300.0
STOP_LIMIT_SECONDS = 3.0
POLL_SECONDS = 0.1
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- where Triton and its Python exchange tensors

logger = logging.getLogger(__name__)


class TritonEndedError(Exception):
    """The server ended, or did not get ready; the message says why."""


class TritonServer:
    """One server process, with the Python that it starts. Ends with the `with` block."""

    def __init__(self, model: Path, folder: Path, *, caches: int) -> None:
        """`folder`: is emptied, and takes the exported model, as float32. Raises what the export raises."""
        shutil.rmtree(folder, ignore_errors=True)
        write_repository(model, folder / "models", caches=caches)
        package = _package()
        _link_backend(package, folder / "backends")
        port = _free_port()
        self.address = f"{LOOPBACK}:{port}"
        self._folder = folder
        self._regions = f"tandem-{os.getpid()}-{port}-"
        # fmt: off
        command = [
            str(package / "tritonserver" / "bin" / "tritonserver"),
            "--model-repository", str(folder / "models"),
            "--backend-directory", str(folder / "backends"),
            "--backend-config", f"python,shm-region-prefix-name={self._regions}",
            "--disable-auto-complete-config",
            "--grpc-address", LOOPBACK,
            "--grpc-port", str(port),
            "--allow-http", "false",
            "--allow-metrics", "false",
        ]
        # fmt: on
        self._program = Program(command, _environment(os.environ, package))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """SIGTERM, then SIGKILL for what is left of its process group."""
        self._program.stop(STOP_LIMIT_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)
        for region in SHARED_MEMORY.glob(f"{self._regions}*"):
            region.unlink(missing_ok=True)

    def wait_until_ready(self) -> None:
        """Returns when it listens, which it does once the model is loaded. Raises TritonEndedError."""
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            self.check()
            host, _, port = self.address.rpartition(":")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=POLL_SECONDS):
                return
            time.sleep(POLL_SECONDS)
        raise TritonEndedError(f"Triton does not listen on {self.address} after {START_LIMIT_SECONDS:.0f} s")

    def check(self) -> None:
        """Raises TritonEndedError, with the cause, when the server is gone."""
        status = self._program.status
        if status is None:
            return
        lines = self._program.end()
        # What it logged while it served is no reason for a signal from outside.
        raise TritonEndedError(f"Triton's server is gone: {root_cause(lines if status >= 0 else lines[-1:], status)}")


def _package() -> Path:
    """Where nvidia-pytriton is. Not imported: its Python code wants packages that nothing here needs."""
    found = importlib.util.find_spec("pytriton")
    if found is None or found.origin is None:
        raise TritonEndedError("there is no Triton in this image: it needs the Python package nvidia-pytriton")
    return Path(found.origin).parent


def _link_backend(package: Path, folder: Path) -> None:
    """The Python backend, with what runs this version of Python beside it, where alone it is looked for."""
    server, target = package / "tritonserver", folder / "python"
    target.mkdir(parents=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(server / "backends" / "python").iterdir(), stub):
        (target / file.name).symlink_to(file)


def _environment(inherited: Mapping[str, str], package: Path) -> dict[str, str]:
    """Its Python finds packages by PATH's first `python3`; the backend, linked as it is, needs a hint for libraries."""
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": str(package.parent / "nvidia_pytriton.libs"),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
