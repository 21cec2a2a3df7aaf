"""`python3 -m deploy.environment`: make `.venv` from requirements/dev.txt. Only the standard library is needed.

The first thing that every target of the Makefile does on a fresh clone; rerun when the lock changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv"
LOCK = ROOT / "requirements/dev.txt"
MINIMUM = (3, 11)
INSTALL_LIMIT_SECONDS = 900


def main() -> int:
    """Exit code 1 when this Python is too old or an install fails; standard error says which."""
    if sys.version_info < MINIMUM:
        sys.stderr.write(f"Python {sys.version.split()[0]}: {'.'.join(map(str, MINIMUM))} or newer is required\n")
        return 1
    started = time.monotonic()
    sys.stdout.write(f"environment: {ENVIRONMENT.name} from {LOCK.relative_to(ROOT)}\n")
    try:
        _make()
        _run("pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK))
        # Without the project's own entry in the environment, mypy and pytest would each need a path of their own.
        _run("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    except (subprocess.SubprocessError, OSError) as error:
        sys.stderr.write(f"environment: {error}\n")
        return 1
    sys.stdout.write(f"environment: ready after {time.monotonic() - started:.0f} s\n")
    return 0


def _make() -> None:
    try:
        import ensurepip  # noqa: F401 -- Debian ships it in a package of its own
    except ImportError:
        _install_venv_package()
    venv.create(ENVIRONMENT, with_pip=True, symlinks=True)


def _install_venv_package() -> None:
    package = f"python3.{sys.version_info.minor}-venv"
    if os.geteuid() != 0:
        raise OSError(f"Debian's package {package} is missing: install it, or run as root")
    subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=INSTALL_LIMIT_SECONDS)
    subprocess.run(["apt-get", "install", "-y", "-qq", package], check=True, timeout=INSTALL_LIMIT_SECONDS)


def _run(module: str, *arguments: str) -> None:
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    command = [str(ENVIRONMENT / "bin/python"), "-m", module, *arguments]
    subprocess.run(command, check=True, timeout=INSTALL_LIMIT_SECONDS, env=environment)


if __name__ == "__main__":
    sys.exit(main())
