"""Start and end of the whole cluster: what comes after what, and how everything goes again.

The steps themselves are elsewhere.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from deploy.local import cgroups, controlplane, debian, image_store, images, isolation, kwok, node
from deploy.local.binaries import Binaries, binaries_of
from deploy.local.errors import ClusterError
from deploy.local.kubectl import Kubectl
from deploy.local.launcher import Launcher, environment_of
from deploy.local.layout import Layout
from deploy.local.locks import locked
from deploy.local.objects import cluster_objects
from deploy.local.processes import (
    Process,
    all_pids,
    arguments_of,
    end,
    is_alive,
    kill,
    process_of,
    read_processes,
    wait_until,
)
from deploy.local.progress import Progress
from deploy.local.record import Record, new_record, read_record, with_free_ports, write_record

NETWORK_LIMIT_SECONDS = 60


def start(layout: Layout, *, progress: Progress, kubectl: Kubectl) -> None:
    """Start everything, from nothing or over what a crash left; the programs are built already.

    Raises ClusterError at the first step that fails.
    """
    binaries = binaries_of(layout)
    # A network is free until its route is laid: of two clusters that start at once, the second one shall see it.
    with locked(layout.cache / "network.lock", "choosing a network", limit_seconds=NETWORK_LIMIT_SECONDS):
        record = _prepare(layout, progress)
        layout.logs.mkdir(exist_ok=True)
        anchor = _isolated(layout, record, progress) if record.has_real_node else None
    controlplane.write_files(layout, record)
    if anchor is not None:
        _start_with_node(layout, record, anchor=anchor, binaries=binaries, kubectl=kubectl, progress=progress)
    else:
        _start_control_plane(Launcher(layout), record, binaries=binaries, kubectl=kubectl, progress=progress)
    # Pods are refused in a namespace until the controller manager has made its default ServiceAccount.
    wait_until(
        lambda: kubectl.attempt("get", "serviceaccount", "default", "-n", "default").returncode == 0,
        "ServiceAccount default/default",
        limit_seconds=30,
        log=layout.log_of("controller-manager"),
        poll_seconds=0.2,
    )


def end_everything(layout: Layout) -> None:
    """End every program of this state folder and remove what they made outside it. The folder's data stay."""
    has_namespaces = os.geteuid() == 0 and (
        layout.node.exists() or cgroups.exists(layout.cgroup) or bool(isolation.find_anchors(layout))
    )
    if not has_namespaces:
        # In reverse order of their start, so that none complains about one that it needs.
        end([*reversed(read_processes(layout.processes))], grace_seconds=5)
    kill(_strays(layout))
    if has_namespaces:
        isolation.remove(layout)
    layout.processes.unlink(missing_ok=True)


def outdated_programs(layout: Layout) -> list[str]:
    """The programs that run from another build than the pinned one."""
    pinned = {str(path) for path in binaries_of(layout).paths.values()}
    running = [(p.name, arguments_of(p.pid)) for p in read_processes(layout.processes) if is_alive(p)]
    return [name for name, argv in running if argv and argv[0].startswith(f"{layout.bin}/") and argv[0] not in pinned]


def remove_state(layout: Layout) -> None:
    """The record goes last: a removal that is cut off can be repeated. Unpacked images are left to the next cluster."""
    image_store.keep(layout, version=_containerd_version(binaries_of(layout)))
    for entry in layout.state.iterdir():
        if entry == layout.record:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    layout.record.unlink()
    layout.state.rmdir()


def _prepare(layout: Layout, progress: Progress) -> Record:
    """The record to start with, nothing of an earlier start running, and the packages that a node needs installed."""
    as_root = os.geteuid() == 0
    record = read_record(layout)
    if record is not None and record.has_real_node != as_root:
        made = "as root" if record.has_real_node else "without root"
        raise ClusterError(f"{layout.state} was made {made}: take it down in the same way first")
    if as_root:
        if packages := debian.missing_packages():
            debian.install(packages, progress)
        node.refuse_missing_parts()
    if record is None:
        return new_record(layout, has_real_node=as_root)
    progress.say("cleaning up what an earlier start left")
    end_everything(layout)
    record = with_free_ports(record)
    write_record(layout, record)
    return record


def _isolated(layout: Layout, record: Record, progress: Progress) -> Process:
    with progress.step("the node's namespaces are ready"):
        return isolation.start_anchor(layout, record.network, environment=environment_of(layout))


def _start_with_node(
    layout: Layout, record: Record, *, anchor: Process, binaries: Binaries, kubectl: Kubectl, progress: Progress
) -> None:
    pause = images.pause_archive(layout, progress=progress)
    image_store.take(layout, version=_containerd_version(binaries))
    node.write_files(layout, record, pause=pause.reference)
    entry = isolation.entry(anchor.pid)
    launcher = Launcher(layout, entry, [str(Path(binaries["containerd"]).parent)])
    launcher.remember(anchor)
    with progress.step("containerd answers and has the sandbox image"):
        node.start_containerd(launcher, binaries)
        images.import_archive(pause.path, client=images.containerd_client(binaries, entry), limit_seconds=60)
    _start_control_plane(launcher, record, binaries=binaries, kubectl=kubectl, progress=progress)
    begun = datetime.now(UTC)
    node.start_node(launcher, binaries, record)
    with progress.step("the real node is Ready"):
        node.wait_for_node(layout, kubectl, since=begun)


def _start_control_plane(
    launcher: Launcher, record: Record, *, binaries: Binaries, kubectl: Kubectl, progress: Progress
) -> None:
    controlplane.start_control_plane(launcher, binaries, record=record, kubectl=kubectl, progress=progress)
    with progress.step("the cluster's own objects are there"):
        kubectl.apply(*cluster_objects(record))
    kwok.start_kwok(launcher, binaries, record)


def _containerd_version(binaries: Binaries) -> str:
    """The content hash of the build, which names its folder."""
    return Path(binaries["containerd"]).parent.name


def _strays(layout: Layout) -> list[Process]:
    """Programs of ours that name this state folder and that no record knows, since a crash came between their start and
    the record; and what entered the node's namespaces with them, which does not end by itself once it was stopped.
    """
    programs, state = f"{layout.bin}/", f"{layout.state}/"
    return [
        process
        for pid in all_pids()
        if (argv := arguments_of(pid))
        and (program := next((argument for argument in argv if argument.startswith(programs)), None))
        and (program == argv[0] or argv[0] == "nsenter")
        and any(state in argument for argument in argv)
        and (process := process_of(Path(program).name, pid, log=layout.logs)) is not None
    ]
