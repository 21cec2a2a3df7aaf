"""The local cluster as one value: `up`, `down`, `is_running`.

The command line, the tests and the demo use this and nothing below it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import debian, images, isolation, kwok, lifecycle
from deploy.local.binaries import Binaries, binaries_of, build
from deploy.local.errors import ClusterError
from deploy.local.kubectl import Kubectl
from deploy.local.layout import Layout, layout_of
from deploy.local.locks import locked
from deploy.local.ownership import foreign_because
from deploy.local.processes import Process, is_alive, read_processes
from deploy.local.progress import Progress
from deploy.local.record import Record, read_record

LOCK_LIMIT_SECONDS = 300
PROGRAMS = ("etcd", "apiserver", "controller-manager", "scheduler", "kwok")
NODE_PROGRAMS = ("anchor", "containerd", "kubelet", "kube-proxy", "coredns")


@dataclass(frozen=True)
class Cluster:
    """The cluster whose state lies in `layout.state`, running or not."""

    layout: Layout = field(default_factory=layout_of)
    progress: Progress = field(default_factory=Progress)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it exists while the cluster does."""
        return self.layout.kubeconfig

    @property
    def binaries(self) -> Binaries:
        """The programs, helm3 and helm4 among them."""
        return binaries_of(self.layout)

    @property
    def kubectl(self) -> Kubectl:
        """kubectl on this cluster."""
        return Kubectl(self.layout, self.binaries["kubectl"])

    @property
    def has_real_node(self) -> bool:
        """Whether pods run here. False without root, and when there is no cluster."""
        record = read_record(self.layout)
        return record is not None and record.has_real_node

    def processes(self) -> dict[str, Process | None]:
        """Each program that should run, with its process when it does."""
        names = [*(NODE_PROGRAMS if self.has_real_node else ()), *PROGRAMS]
        known = {p.name: p for p in read_processes(self.layout.processes) if is_alive(p)}
        return {name: known.get(name) for name in names}

    def is_running(self) -> bool:
        """Whether every program runs and the API server is ready and is this cluster's."""
        if read_record(self.layout) is None or None in self.processes().values():
            return False
        return self.kubectl.is_answering() and self.is_ours()

    def is_ours(self) -> bool:
        """Whether the cluster behind our kubeconfig is the one that `up` made from this state folder."""
        return not foreign_because(self.kubectl, self._record())

    def refuse_foreign(self) -> None:
        """Raises ClusterError, with the reason, when the cluster of our kubeconfig is not the one that `up` made."""
        if reason := foreign_because(self.kubectl, self._record()):
            raise ClusterError(f"refusing the cluster of {self.kubeconfig}: {reason}")

    def build(self) -> Binaries:
        """Build the programs that the cache lacks."""
        return build(self.layout, self.progress)

    def up(self) -> None:
        """Bring the cluster up: from nothing, after a crash, or, when it runs already, not at all.

        Raises ClusterError when it cannot; what was started then stays, for its logs, until the next `up` or `down`.
        """
        with self._locked("up"):
            self.build()
            if self.is_running():
                if not lifecycle.outdated_programs(self.layout):
                    self.progress.say(f"the cluster in {self.layout.state} is running")
                    return
                self.progress.say(
                    "the cluster runs other versions than are pinned now: it is started anew, with its data"
                )
            with self.progress.step("the cluster is up"):
                lifecycle.start(self.layout, progress=self.progress, kubectl=self.kubectl)

    def down(self) -> None:
        """End the cluster and remove everything that it made; the cache stays.

        Good after a crash, and when there is none.
        """
        with self._locked("down"):
            if not self.layout.state.is_dir() and not isolation.find_anchors(self.layout):
                self.progress.say(f"no cluster in {self.layout.state}")
                return
            if self.layout.state.is_dir() and not self.layout.record.exists():
                raise ClusterError(
                    f"{self.layout.state} has no cluster.json: it is not a cluster's state folder, it is left alone"
                )
            with self.progress.step("the cluster is down"):
                lifecycle.end_everything(self.layout)
                lifecycle.remove_state(self.layout)

    def load_image(self, archive: Path) -> list[str]:
        """Import an OCI archive into the real node; returns the image names.

        Raises ClusterError when there is no real node.
        """
        with self.progress.step(f"loaded {archive.name} ({_megabytes(archive)})"):
            return images.import_archive(archive, client=self.containerd_client())

    def containerd_client(self) -> list[str]:
        """The command of containerd's client (ctr) in the real node. Raises ClusterError when no real node runs."""
        anchor = self.processes().get("anchor")
        if anchor is None:
            reasons = "; ".join(self.lacks()) or "bring it up first"
            raise ClusterError(f"no real node runs in {self.layout.state}: {reasons}")
        return images.containerd_client(self.binaries, isolation.entry(anchor.pid))

    def image_references(self) -> list[str]:
        """The images that the real node has."""
        return images.image_references(self.containerd_client())

    def load_program(self, source: Path, repository: str) -> str:
        """Build the one-program image of the Go file `source` and load it; returns its reference."""
        archive = images.program_archive(self.layout, source, repository, progress=self.progress)
        self.load_image(archive.path)
        return archive.reference

    def add_nodes(self, class_name: str, *, count: int) -> list[str]:
        """Add fake nodes; returns their names once they are Ready."""
        with self.progress.step(f"added {count} fake nodes of class {class_name}"):
            return kwok.add_nodes(self.kubectl, class_name, count=count)

    def count_fake_nodes(self) -> int:
        """How many fake nodes there are."""
        return len(self.kubectl.get("nodes", "-l", "tandem.dev/node=fake")["items"])

    def lacks(self) -> list[str]:
        """Why there is, or would be, no real node here; empty when nothing is missing."""
        reasons = [] if os.geteuid() == 0 else ["not root: no containers, no network of its own"]
        if packages := debian.missing_packages():
            reasons.append(f"Debian packages {' '.join(packages)} (installed by `up` as root)")
        return reasons

    def _record(self) -> Record:
        record = read_record(self.layout)
        if record is None:
            raise ClusterError(f"no cluster in {self.layout.state}: bring it up first")
        return record

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        with locked(self.layout.lock, what, limit_seconds=LOCK_LIMIT_SECONDS):
            yield


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB" if path.is_file() else "no file"
