"""The first process of the node's namespaces (network, mounts, pids): it prepares them, then only waits and reaps.

When it ends, the kernel ends every process inside, and the node's mounts, devices and packet rules go with them: that
is what makes `down`, and a start after a crash, complete. Run as a file, by `isolation.start`; it imports the
standard library only.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

# A kubelet sets these for the whole machine. It finds them already set here, and so leaves the machine's own alone.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def main(node: Path) -> None:
    """Prepare the namespaces that this process was started in, say so in `node`/anchor.json, and reap until killed."""
    # Read before /proc is replaced: our pid as the rest of the machine counts.
    host_pid = int(Path("/proc/self").readlink().name)
    # Mounts of the machine come in; ours are shared among the node's processes, and never go out.
    _run("mount", "--make-rslave", "/")
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "proc", "proc", "/proc")
    # Sockets and network namespaces of containers: empty at each start, as after a boot.
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tandem-run", "/run")
    for source, target in json.loads((node / "mounts.json").read_text()):
        Path(source).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", source, target)
    settings = Path("/run/kernel-settings")
    for name, value in KERNEL_SETTINGS.items():
        real = Path("/proc/sys") / name
        if real.exists():
            ours = settings / name
            ours.parent.mkdir(parents=True, exist_ok=True)
            ours.write_text(f"{value}\n")
            _run("mount", "--bind", str(ours), str(real))
    _run("ip", "link", "set", "lo", "up")
    part = node / "anchor.json.part"
    part.write_text(json.dumps(host_pid))
    part.replace(node / "anchor.json")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    while signal.sigwait({signal.SIGCHLD, signal.SIGTERM}) != signal.SIGTERM:
        _reap()


def _reap() -> None:
    """Collect every ended process whose own parent is gone; containers leave many."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
