"""The Debian packages that the real node needs, and their installation when we may."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import ClusterError
from deploy.local.progress import Progress

# One file of each package, to see whether it is there, also on a machine that has the program from elsewhere.
PACKAGES = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "nftables": "nft",
    "iproute2": "ip",
    "util-linux": "nsenter",
    "mount": "mount",
}
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT_SECONDS = 600


def missing_packages(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """Those of `packages` (by name, with a program or file of each) of which nothing is there."""
    return [package for package, sign in packages.items() if not _is_there(sign)]


def install(packages: list[str], progress: Progress) -> None:
    """Install `packages` with apt-get. Raises ClusterError, naming them, when that cannot be done."""
    command = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"this machine has no apt-get; install what these Debian packages hold: {' '.join(packages)}"
        )
    with progress.step(f"installed {', '.join(packages)}"):
        argv = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "--yes", "--no-install-recommends", *packages]
        done = _apt(argv)
        if done.returncode != 0:
            # The package lists of a fresh machine are missing or old.
            _apt(["apt-get", "update"])
            done = _apt(argv)
        if done.returncode != 0:
            raise ClusterError(f"`{command}` failed: {done.stderr.strip()[-2000:]}")


def _apt(argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{' '.join(argv)}` took more than {LIMIT_SECONDS} s") from None


def _is_there(sign: str) -> bool:
    return Path(sign).exists() if sign.startswith("/") else shutil.which(sign, path=SEARCH_PATH) is not None
