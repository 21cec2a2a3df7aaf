"""The command line: `python -m deploy.release VERSION`. It strings the parts of a release together."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from cyclonedx.model.component import ComponentType

from deploy.images.catalogue import BUILT_WITHOUT_REGISTRY, NAMES
from deploy.images.errors import ImageError
from deploy.local.errors import ClusterError
from deploy.local.layout import REPOSITORY
from deploy.release.chart import pack_chart
from deploy.release.errors import ReleaseError
from deploy.release.images import release_images
from deploy.release.krew import FILE, manifest_of, text_of
from deploy.release.packing import checksums_of, epoch, sha256_of
from deploy.release.plugin import LOCK, NAME, PLATFORMS, PYTHONS, pack_plugin
from deploy.release.sbom import environment_of, python_packages_in, sbom_of
from deploy.release.versions import check_version

FOLDER = REPOSITORY / "build/release"
HOME = "https://forge.example/tandem"
"""Where nothing is: whoever publishes says where the releases will be."""
CHECKSUMS = "checksums.txt"
_SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def release(version: str, folder: Path, *, home: str, images: Collection[str]) -> None:
    """Build everything into `folder`, which is emptied first.

    Raises ReleaseError, and of images ImageError or ClusterError.
    """
    check_version(version, REPOSITORY)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    release_images(version, folder, names=images)
    pack_chart(folder)
    digests = {platform: sha256_of(pack_plugin(platform, folder)) for platform in PLATFORMS}
    (folder / FILE).write_text(text_of(manifest_of(version, home=home, digests=digests)), encoding="utf-8")
    (folder / f"{NAME}.cdx.json").write_text(plugin_sbom(version), encoding="utf-8")
    (folder / CHECKSUMS).write_text(checksums_of(folder), encoding="utf-8")


def plugin_sbom(version: str) -> str:
    """What is in the plugin's files, on any platform and for any Python."""
    environments = [
        environment_of(python=python, system=_SYSTEMS[platform.os], machine=_MACHINES[platform.arch])
        for platform in PLATFORMS
        for python in PYTHONS
    ]
    packages = python_packages_in(LOCK.read_text(encoding="utf-8"), environments)
    return sbom_of(NAME, version, packages, kind=ComponentType.APPLICATION, made=epoch())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1: something cannot be built, and standard error says what."""
    parsed = _parser().parse_args(arguments)
    folder = FOLDER / parsed.version
    try:
        release(parsed.version, folder, home=parsed.home, images=parsed.images)
    except (ReleaseError, ImageError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{folder.relative_to(REPOSITORY)}:\n{(folder / CHECKSUMS).read_text(encoding='utf-8')}", end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.release", description="Build a release into build/release/VERSION. It publishes nothing."
    )
    parser.add_argument("version", metavar="VERSION", help="what pyproject.toml, the chart and the code say")
    parser.add_argument(
        "--home", default=HOME, metavar="URL", help="where its releases will be, for krew (%(default)s)"
    )
    parser.add_argument(
        "--images",
        nargs="*",
        default=BUILT_WITHOUT_REGISTRY,
        choices=NAMES,
        metavar="NAME",
        help=f"images to build, as root: {', '.join(NAMES)}; nothing after it: none (default: all but engine-gpu)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
