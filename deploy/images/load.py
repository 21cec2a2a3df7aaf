"""Brings stored images to the local cluster's containerd or to a registry."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Sequence

from deploy.images.archive import missing_layers, write_archive
from deploy.images.errors import ImageError
from deploy.images.programs import output_of
from deploy.images.storage import Storage
from deploy.local.processes import tail_of

IMPORT_LIMIT_SECONDS = 900
PUSH_LIMIT_SECONDS = 3600
SHORT_LIMIT_SECONDS = 60


def load(references: Iterable[str], storage: Storage, *, client: Sequence[str]) -> None:
    """Import those of the built images that containerd lacks. Raises ImageError."""
    for reference in references:
        if reference in _answer([*client, "images", "list", "--quiet"]):
            storage.progress.say(f"{reference} is loaded")
            continue
        _import(reference, storage, client=client)
        _forget_outdated(reference, client=client)


def reference_in(registry: str, reference: str) -> str:
    """An image's reference in `registry` (HOST/PATH), for one as it is built here."""
    return f"{registry}/{reference.rpartition('/')[2]}"


def push(reference: str, storage: Storage, *, registry: str) -> str:
    """Push a built image to `registry` (HOST/PATH); returns its reference there. Raises ImageError."""
    target = reference_in(registry, reference)
    with storage.progress.step(f"pushed {target}"):
        storage.buildah(
            "push",
            reference,
            f"docker://{target}",
            what=f"pushing {target}",
            limit_seconds=PUSH_LIMIT_SECONDS,
            log=storage.log_of("push"),
        )
    return target


def _forget_outdated(reference: str, *, client: Sequence[str]) -> None:
    """Remove other versions of the image that no container uses: an engine takes 13 GB in the node."""
    repository = reference.rpartition(":")[0]
    used = set(_answer([*client, "containers", "list"]))
    listing = output_of([*client, "images", "list"], "containerd", limit_seconds=SHORT_LIMIT_SECONDS)
    known = [line.split() for line in listing.splitlines()]
    targets = {fields[0]: fields[2] for fields in known[1:] if len(fields) > 2}
    outdated = {
        target
        for name, target in targets.items()
        if name.startswith(f"{repository}:") and name != reference and name not in used
    }
    names = [name for name, target in targets.items() if target in outdated - {targets.get(reference)}]
    if names:
        _answer([*client, "images", "remove", "--sync", *names])


def _import(reference: str, storage: Storage, *, client: Sequence[str]) -> None:
    stored = storage.image(reference)
    layers = missing_layers(stored, _answer([*client, "content", "list", "--quiet"]))
    megabytes = sum(layer.size for layer in layers) / 1e6
    log = storage.log_of("load")
    argv = [*client, "images", "import", "--digests=false", "-"]
    what = f"loaded {reference} ({len(layers)} of {len(stored.layers)} layers, {megabytes:.1f} MB)"
    with storage.progress.step(what), log.open("w") as output:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        # A client that hangs would leave the writer waiting at a full pipe for ever.
        alarm = threading.Timer(IMPORT_LIMIT_SECONDS, _kill, [process])
        alarm.start()
        try:
            write_archive(stored, reference, layers=layers, storage=storage, output=process.stdin)
            process.stdin.close()
            process.wait()
        except BrokenPipeError:
            process.wait()
        finally:
            alarm.cancel()
            _kill(process)
        if process.returncode != 0:
            raise ImageError(
                f"importing {reference}: status {process.returncode}, limit {IMPORT_LIMIT_SECONDS} s; {tail_of(log)}"
            )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole session: what entered the node's namespaces may be a child, and it holds the pipe."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answer(argv: Sequence[str]) -> list[str]:
    return output_of(argv, "containerd", limit_seconds=SHORT_LIMIT_SECONDS).split()
