"""Which images there are, what goes into each, and the tag that follows from it. It builds nothing.

An image's tag is the hash of its inputs: the Containerfile, every file that it copies, and the recipe of its base. Only
those files reach the build (`stage`), so that nothing unhashed can get into an image.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.images.errors import ImageError

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "tandem.local"
NAMES = ("operator", "engine-cpu", "artifacts", "draft-triton", "draft-lookup", "engine-gpu")
BUILT_WITHOUT_REGISTRY = ("operator", "engine-cpu", "artifacts", "draft-triton", "draft-lookup")

BASE_REFERENCE = "docker.io/library/debian:bookworm-slim"
"""The name that Containerfiles have in FROM; here it is given to what `BASE_RECIPE` makes."""
BASE_RECIPE = (
    "--variant=minbase",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "bookworm",
)

BASE_SECONDS = 315532800
"""The time of all files of the base, seconds since 1970."""

BASE_NAME = f"{PREFIX}/base:{hashlib.sha256(repr(BASE_RECIPE).encode()).hexdigest()[:12]}"
"""The base's own name, by its recipe: what is called `BASE_REFERENCE` in a storage may be an older one."""

_TAG_DIGITS = 12
_EXECUTABLE = 0o100


@dataclass(frozen=True)
class Image:
    """One image: a folder `deploy/images/<name>` of `repository` that holds a Containerfile."""

    name: str
    repository: Path = REPOSITORY

    @property
    def containerfile(self) -> Path:
        """Relative to the repository."""
        return Path("deploy") / "images" / self.name / "Containerfile"

    @property
    def is_on_our_base(self) -> bool:
        """Whether it starts from `BASE_REFERENCE`, and so needs no registry."""
        return f"FROM {BASE_REFERENCE}" in self._text().splitlines()

    @property
    def seconds(self) -> int | None:
        """The time that all its files get, since 1970, as its Containerfile has it; None: each its own."""
        found = re.search(r"^ARG SOURCE_DATE_EPOCH=(\d+)$", self._text(), re.MULTILINE)
        return int(found[1]) if found else None

    @property
    def tag(self) -> str:
        """12 hex digits over all inputs. Raises ImageError when one is missing."""
        content = hashlib.sha256()
        if self.is_on_our_base:
            content.update(BASE_NAME.encode())
        for path in self.inputs():
            file = self.repository / path
            header = f"{path} {_mode_of(file):o} {file.stat().st_size}"
            content.update(b"\0" + header.encode() + b"\0" + file.read_bytes())
        return tag_of(content.digest())

    @property
    def reference(self) -> str:
        """The name by which pods ask for it."""
        return f"{PREFIX}/{self.name}:{self.tag}"

    def inputs(self) -> list[Path]:
        """The Containerfile and every file that it copies, relative to the repository, sorted. Raises ImageError."""
        found = {self.containerfile}
        for source in copied_paths(self._text()):
            path = self.repository / source
            files = [path] if path.is_file() else [file for file in path.rglob("*") if _is_content(file)]
            if not files:
                raise ImageError(f"{self.containerfile} copies {source}, which is no file and no folder with files")
            found.update(file.relative_to(self.repository) for file in files)
        return sorted(found)

    def stage(self, folder: Path) -> None:
        """Copy the inputs into `folder`, with the same times and rights on every machine."""
        for path in self.inputs():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.repository / path, target)
            target.chmod(_mode_of(self.repository / path))
            os.utime(target, (0, 0))
        for parent, _, _ in os.walk(folder, topdown=False):
            Path(parent).chmod(0o755)
            os.utime(parent, (0, 0))

    def _text(self) -> str:
        try:
            return (self.repository / self.containerfile).read_text()
        except FileNotFoundError:
            raise ImageError(f"no image {self.name}: {self.containerfile} is missing") from None


def images_of(names: Sequence[str]) -> list[Image]:
    """The named images; without a name those that need no registry. Raises ImageError."""
    for name in names:
        if name not in NAMES:
            raise ImageError(f"no image {name}; allowed: {', '.join(NAMES)}")
    return [Image(name) for name in names or BUILT_WITHOUT_REGISTRY]


def tag_of(content: bytes) -> str:
    """12 hex digits, never what YAML takes for a number (`089123456789`, `1234567e8901`) and reads as another tag."""
    tag = content.hex()[:_TAG_DIGITS]
    return tag if set(tag) & set("abcdf") else tag_of(hashlib.sha256(content).digest())


def copied_paths(containerfile: str) -> list[str]:
    """What a Containerfile copies from the repository, in its order. Copies from another stage do not count."""
    found: list[str] = []
    for line in containerfile.replace("\\\n", " ").splitlines():
        word, *rest = line.split() or [""]
        if word.upper() == "COPY" and not any(r.startswith("--from") for r in rest):
            found += [r for r in rest if not r.startswith("--")][:-1]
    return found


def _mode_of(file: Path) -> int:
    """What the user's umask took away must not decide whether the image's user can read a file."""
    return 0o755 if file.stat().st_mode & _EXECUTABLE else 0o644


def _is_content(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"
