"""`python3 -m deploy.environment`: make `.venv` from requirements/dev.txt. Only the standard library is needed.

The first thing that every target of the Makefile does on a fresh clone; rerun when the lock changes. With `docs` it
makes `.venv/docs` from requirements/docs.txt: what builds the pages has a lock of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = {"dev": ROOT / ".venv", "docs": ROOT / ".venv/docs"}
"""Each has the lock of its name, `dev` also the project itself."""
MINIMUM = (3, 11)
INSTALL_LIMIT_SECONDS = 900


def main(arguments: Sequence[str] = ()) -> int:
    """Make the environment that is named, `dev` when none is.

    Exit code 1 when this Python is too old or an install fails; standard error says which.
    """
    if sys.version_info < MINIMUM:
        sys.stderr.write(f"Python {sys.version.split()[0]}: {'.'.join(map(str, MINIMUM))} or newer is required\n")
        return 1
    name = arguments[0] if arguments else "dev"
    folder, lock = ENVIRONMENTS[name], ROOT / f"requirements/{name}.txt"
    started = time.monotonic()
    sys.stdout.write(f"environment: {folder.relative_to(ROOT)} from {lock.relative_to(ROOT)}\n")
    try:
        _make(folder)
        _install(folder, "--disable-pip-version-check", "--require-hashes", "-r", str(lock))
        if name == "dev":
            # Without the project's own entry in the environment, mypy and pytest would each need a path of their own.
            _install(folder, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    except (subprocess.SubprocessError, OSError) as error:
        sys.stderr.write(f"environment: {error}\n")
        return 1
    sys.stdout.write(f"environment: ready after {time.monotonic() - started:.0f} s\n")
    return 0


def _make(folder: Path) -> None:
    try:
        import ensurepip  # noqa: F401 -- Debian ships it in a package of its own
    except ImportError:
        _install_venv_package()
    venv.create(folder, with_pip=True, symlinks=True)


def _install_venv_package() -> None:
    package = f"python3.{sys.version_info.minor}-venv"
    if os.geteuid() != 0:
        raise OSError(f"Debian's package {package} is missing: install it, or run as root")
    subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=INSTALL_LIMIT_SECONDS)
    subprocess.run(["apt-get", "install", "-y", "-qq", package], check=True, timeout=INSTALL_LIMIT_SECONDS)


def _install(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=INSTALL_LIMIT_SECONDS, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
