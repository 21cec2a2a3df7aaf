"""buildah's storage below the cache: what is in it, and the programs that work on it. What images are it does not know.

Everything lies in one folder, so that removing that folder removes all: each program runs with mounts of its own, which
end with it, and the storage's run-time state lasts as long as one `opened`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.images.errors import ImageError
from deploy.images.programs import output_of, run
from deploy.local import debian
from deploy.local.locks import locked
from deploy.local.progress import Progress

# One file of each package, to see whether it is there.
PACKAGES = {
    "buildah": "/usr/bin/buildah",
    "containers-storage": "/usr/bin/containers-storage",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "util-linux": "/usr/bin/unshare",
}
RUN_PREFIX, WORK_PREFIX = "run-", "work-"
LOCK_LIMIT_SECONDS = 3600
SHORT_LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Layer:
    """One layer of a stored image: its id in the storage, and digest and size (bytes) of its uncompressed tar."""

    identity: str
    digest: str
    size: int


@dataclass(frozen=True)
class StoredImage:
    """What an image consists of, byte for byte as a registry or containerd has to see it."""

    manifest: bytes
    configuration: bytes
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Storage:
    """An opened storage. `run_folder` lasts as long as the programs that use it."""

    folder: Path
    run_folder: Path
    progress: Progress

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """An empty folder for one piece of work."""
        with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=self.folder) as folder:
            yield Path(folder)

    def log_of(self, name: str) -> Path:
        """The log of one piece of work, emptied first."""
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        return log

    def buildah(self, *arguments: str, what: str, limit_seconds: float, log: Path) -> None:
        """Run a long buildah command, output to `log`. Raises ImageError."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(temporary)}
        argv = [*self._program("buildah", "--root", "--runroot"), *arguments]
        run(argv, what, limit_seconds=limit_seconds, log=log, progress=self.progress, environment=environment)

    def answer_of_buildah(self, *arguments: str) -> str:
        """What a short buildah command prints. Raises ImageError."""
        argv = [*self._program("buildah", "--root", "--runroot"), *arguments]
        return output_of(argv, "image storage", limit_seconds=SHORT_LIMIT_SECONDS)

    def references(self) -> list[str]:
        """The names of all images, those that came into the storage last first.

        When they were created says nothing: of images that are the same for whoever builds them it is a fixed time.
        """
        images = json.loads(self.answer_of_buildah("images", "--no-trunc", "--json") or "[]")
        kept = self.folder / "storage/overlay-images"
        images.sort(key=lambda image: (kept / image["id"].removeprefix("sha256:")).stat().st_mtime_ns, reverse=True)
        return [name for image in images for name in image.get("names") or []]

    def image(self, reference: str) -> StoredImage:
        """An image that is there. Raises ImageError when it is not."""
        found = json.loads(self.answer_of_buildah("inspect", "--type", "image", reference))
        manifest = found["Manifest"].encode()
        known = json.loads(
            output_of([*self._storage(), "layers", "--json"], "image storage", limit_seconds=SHORT_LIMIT_SECONDS)
        )
        by_digest = {layer["diff-digest"]: layer["id"] for layer in known if "diff-digest" in layer}
        layers = [
            Layer(by_digest[layer["digest"]], layer["digest"], layer["size"])
            for layer in json.loads(manifest)["layers"]
        ]
        return StoredImage(manifest, found["Config"].encode(), tuple(layers))

    def layer_command(self, layer: Layer) -> list[str]:
        """The program that writes a layer's uncompressed tar to its standard output."""
        return [*self._storage(), "diff", "--uncompressed", layer.identity]

    def _storage(self) -> list[str]:
        return self._program("containers-storage", "--graph", "--run")

    def _program(self, name: str, root: str, run_root: str) -> list[str]:
        options = [f"{root}={self.folder / 'storage'}", f"{run_root}={self.run_folder}", "--storage-driver=overlay"]
        return ["unshare", "--mount", name, *options]


@contextmanager
def opened(folder: Path, progress: Progress) -> Iterator[Storage]:
    """The storage in `folder`, for one process at a time; missing Debian packages are installed first.

    Raises ImageError without root, and ClusterError when a package cannot be installed or another process holds it.
    """
    if os.geteuid() != 0:
        raise ImageError("building images needs root: chroot and overlay mounts")
    if packages := debian.missing_packages(PACKAGES):
        debian.install(packages, progress)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        locked(folder / ".lock", "the image storage", limit_seconds=LOCK_LIMIT_SECONDS),
        tempfile.TemporaryDirectory(prefix=RUN_PREFIX, dir=folder) as run_folder,
    ):
        _remove_remains(folder, Path(run_folder))
        yield Storage(folder, Path(run_folder), progress)


def _remove_remains(folder: Path, run_folder: Path) -> None:
    """What a killed process left; nobody else uses it, because we hold the lock."""
    for prefix in (RUN_PREFIX, WORK_PREFIX):
        for old in folder.glob(f"{prefix}*"):
            if old != run_folder:
                shutil.rmtree(old)


def superfluous(references: Sequence[str], name: str, *, keep: int) -> list[str]:
    """Of `references`, newest first, those of the image `name` beyond the newest `keep`."""
    return [r for r in references if r.rpartition(":")[0] == name][keep:]
