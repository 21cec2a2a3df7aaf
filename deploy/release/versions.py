"""The places that say which version this is, and whether they agree. It changes none of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from deploy.release.errors import ReleaseError

_CODE = "operator/tandem_operator/__init__.py"
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")


def versions_in(repository: Path) -> dict[str, str]:
    """The version by the place that says it: path and key."""
    chart = yaml.safe_load((repository / "charts/tandem/Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = re.search(r'^__version__ = "(.+)"$', (repository / _CODE).read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "pyproject.toml, project.version": project["version"],
        "charts/tandem/Chart.yaml, version": chart["version"],
        "charts/tandem/Chart.yaml, appVersion": chart["appVersion"],  # the operator's image tag, unless a value says so
        f"{_CODE}, __version__": code[1] if code else "missing",
    }


def check_version(version: str, repository: Path) -> None:
    """Raise ReleaseError unless `version` is a semantic one, and the one that every place says."""
    if not _VERSION.fullmatch(version):
        raise ReleaseError(
            f"version {version!r}: must be a semantic version without v and +, such as 1.2.3 or 1.2.3-rc.1"
        )
    others = {place: said for place, said in versions_in(repository).items() if said != version}
    if others:
        told = "; ".join(f"{place} (is {said})" for place, said in others.items())
        raise ReleaseError(f"version {version}: {told}: must be the same everywhere")
