"""Which artifacts leave a volume that is getting full, before their time is over. Pure.

Only what nothing refers to, and of that what has been unused for longest. How full a volume is, its Jobs say when they
publish; what has been published or has gone since then is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tandem_operator.api.artifact import ArtifactFiles
from tandem_operator.artifact_steps import is_evicting
from tandem_operator.facts import Manifest


@dataclass(frozen=True)
class Watermarks:
    """Shares of a volume: above `high` artifacts go until no more than `low` is used."""

    high: float
    low: float


@dataclass(frozen=True)
class Stored:
    """An artifact on a volume."""

    name: str
    files: ArtifactFiles | None = None
    unused_since: str = ""
    """As the status has it, which sorts as time does; empty while something refers to it."""
    full_beside_bytes: int | None = None
    """Of the others, when a Job of it found the volume full; None: none did."""
    is_leaving: bool = False
    """Its files are about to go, or going."""

    @classmethod
    def of(cls, artifact: Manifest) -> Stored:
        """One of those in the store."""
        status: Mapping[str, Any] = artifact.get("status") or {}
        try:
            files = ArtifactFiles.model_validate(status["files"]) if status.get("files") else None
        except ValidationError:
            files = None
        unused, beside, name = status.get("unusedSince"), status.get("fullBesideBytes"), artifact["metadata"]["name"]
        return cls(
            name,
            files,
            unused if isinstance(unused, str) else "",
            beside if isinstance(beside, int) else None,
            is_leaving=is_evicting(status, name),
        )


def leaving(stored: Iterable[Stored], watermarks: Watermarks) -> tuple[str, ...]:
    """Names of the artifacts of one volume that go now, in their order; the same for the same ones in any order."""
    there = sorted(stored, key=lambda each: each.name)
    idle = sorted(
        (each for each in there if each.unused_since and each.files is not None),
        key=lambda each: (each.unused_since, each.name),
    )
    excess = _excess_bytes(there, watermarks)
    if excess <= 0 and _lacks_room(there):
        return tuple(each.name for each in idle[:1])  # whose Job it is tries again, and says so again if it must
    going: list[str] = []
    for each in idle:
        if excess <= 0 or each.files is None:
            break
        going.append(each.name)
        excess -= each.files.bytes
    return tuple(going)


def shared_bytes(stored: Iterable[Stored]) -> int:
    """Of all artifacts on a volume."""
    return sum(each.files.bytes for each in stored if each.files is not None)


def is_making_room(stored: Iterable[Stored]) -> bool:
    """Whether files of a volume are going already."""
    return any(each.is_leaving for each in stored)


def _lacks_room(there: Iterable[Stored]) -> bool:
    """Whether a Job has found the volume full, and nothing has gone since then, or is going."""
    there = tuple(there)
    total = shared_bytes(there)
    lacking = (
        each
        for each in there
        if each.full_beside_bytes is not None
        and total - (each.files.bytes if each.files else 0) >= each.full_beside_bytes
    )
    return any(lacking) and not is_making_room(there)


def _excess_bytes(there: Iterable[Stored], watermarks: Watermarks) -> float:
    """That have to go until no more than the low mark is used; 0 below the high one, and where nobody knows."""
    there = tuple(there)
    told = [each.files for each in there if each.files is not None and each.files.capacity_bytes]
    if not told:
        return 0.0
    newest = max(told, key=lambda files: files.published_at)
    used = newest.capacity_bytes - newest.free_bytes + shared_bytes(there) - newest.shared_bytes
    if used <= watermarks.high * newest.capacity_bytes:
        return 0.0
    return used - watermarks.low * newest.capacity_bytes
