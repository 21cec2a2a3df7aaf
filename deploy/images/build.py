"""Builds images that are missing: the base by mmdebstrap, everything else by buildah from the Containerfiles."""

import os
from collections.abc import Iterable
from pathlib import Path

from deploy.images.catalogue import BASE_NAME, BASE_RECIPE, BASE_REFERENCE, BASE_SECONDS, PREFIX, Image
from deploy.images.index import certificates, index_settings, shell_lines
from deploy.images.programs import run
from deploy.images.storage import Storage, superfluous

BASE_LIMIT_SECONDS = 900
BUILD_LIMIT_SECONDS = 2400
CLEAN_LIMIT_SECONDS = 300
KEPT_TAGS = 2
_UV_CACHE_INSIDE = "/var/cache/uv-of-the-machine"


def build(images: Iterable[Image], storage: Storage) -> dict[str, str]:
    """Build those of `images` that the storage lacks, and forget old ones. Raises ImageError.

    Returns each one's reference by its name, as of the files that went into it: somebody may edit them meanwhile.
    """
    return {image.name: _provide(image, storage) for image in images}


def _provide(image: Image, storage: Storage) -> str:
    with storage.work_folder() as folder:
        context = folder / "context"
        image.stage(context)
        staged = Image(image.name, context)
        if staged.reference in storage.references():
            storage.progress.say(f"{staged.reference} is built")
            return staged.reference
        if staged.is_on_our_base:
            _provide_base(storage)
        with storage.progress.step(f"built {staged.reference}"):
            _build(staged, storage, secrets=folder)
        _forget_old(f"{PREFIX}/{image.name}", storage)
        return staged.reference


def _provide_base(storage: Storage) -> None:
    """Give `BASE_REFERENCE` to an image made by the recipe of today, so that FROM finds it without a registry."""
    log = storage.log_of("base")
    if BASE_NAME not in storage.references():
        with storage.progress.step(f"made {BASE_NAME} with mmdebstrap"), storage.work_folder() as folder:
            archive = folder / "base.tar"
            argv = ["mmdebstrap", *BASE_RECIPE, str(archive)]
            run(argv, "the base", limit_seconds=BASE_LIMIT_SECONDS, log=log, progress=storage.progress)
            containerfile = folder / "Containerfile"
            containerfile.write_text('FROM scratch\nADD base.tar /\nCMD ["bash"]\n')
            options = (
                "--isolation=chroot",
                f"--timestamp={BASE_SECONDS}",
                f"--file={containerfile}",
                f"--tag={BASE_NAME}",
            )
            storage.buildah("build", *options, str(folder), what="the base", limit_seconds=BASE_LIMIT_SECONDS, log=log)
        _forget_old(f"{PREFIX}/base", storage)
    storage.answer_of_buildah("tag", BASE_NAME, BASE_REFERENCE)


def _build(staged: Image, storage: Storage, *, secrets: Path) -> None:
    options = [
        "--isolation=chroot",
        "--layers",
        *(["--pull=false"] if staged.is_on_our_base else []),  # our base is in no registry
        f"--file={staged.repository / staged.containerfile}",
        f"--tag={staged.reference}",
        *([f"--timestamp={staged.seconds}"] if staged.seconds is not None else []),
        # The builder's own cache would be a second copy of gigabytes that uv has here already. Another path than that
        # of the Containerfile's cache mount: which of two mounts on one path wins differs from build to build.
        f"--volume={_uv_cache()}:{_UV_CACHE_INSIDE}",
        *_secrets(secrets),
    ]
    log = storage.log_of(staged.name)
    context = str(staged.repository)
    storage.buildah("build", *options, context, what=staged.name, limit_seconds=BUILD_LIMIT_SECONDS, log=log)


def _secrets(folder: Path) -> list[str]:
    options: list[str] = []
    if settings := index_settings(os.environ):
        file = folder / "index"
        file.touch(mode=0o600)
        file.write_text(shell_lines(settings))
        options.append(f"--secret=id=index,src={file}")
    if authorities := certificates(os.environ):
        options.append(f"--secret=id=certificates,src={authorities}")
    return options


def _uv_cache() -> Path:
    chosen = os.environ.get("UV_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(chosen) if chosen else Path(base) / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    return cache.absolute()


def _forget_old(name: str, storage: Storage) -> None:
    for reference in superfluous(storage.references(), name, keep=KEPT_TAGS):
        storage.progress.say(f"removing {reference}: {KEPT_TAGS} newer ones are there")
        storage.buildah(
            "rmi",
            reference,
            what=f"removing {reference}",
            limit_seconds=CLEAN_LIMIT_SECONDS,
            log=storage.log_of("clean"),
        )
    # The containers of builds that were killed, and steps that lead to no image any more.
    for command in (("rm", "--all"), ("rmi", "--prune")):
        storage.buildah(
            *command, what="removing remains", limit_seconds=CLEAN_LIMIT_SECONDS, log=storage.log_of("clean")
        )
