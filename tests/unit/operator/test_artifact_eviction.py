"""Which artifacts make room on a volume: compared with a model that tries every way."""

from __future__ import annotations

import random

import pytest

from tandem_operator.api.artifact import ArtifactFiles
from tandem_operator.artifact_eviction import Stored, Watermarks, leaving
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest

MARKS = Watermarks(0.8, 0.7)


def files(size: int, *, free: int = 0, shared: int = 0, at: str = "") -> ArtifactFiles:
    capacity = 100 if at else 0
    return ArtifactFiles(
        path="v1-x", bytes=size, manifest="", seconds=1.0,
        free_bytes=free, capacity_bytes=capacity, shared_bytes=shared, published_at=at,
    )  # fmt: skip


def stored(name: str, size: int, unused: str = "", **more: int | str) -> Stored:
    return Stored(name, files(size, **more), unused)  # type: ignore[arg-type]


def full(beside: int) -> Stored:
    """One whose Job has found the volume full, beside so many bytes of others."""
    return Stored("full", full_beside_bytes=beside)


NEWEST = {"free": 10, "shared": 60, "at": "2030-01-02"}


@pytest.mark.parametrize(
    ("there", "goes"),
    [
        ([], ()),
        ([stored("a", 30, "2030-01-01"), stored("b", 30, **NEWEST)], ("a",)),
        ([stored("a", 30), stored("b", 30, **NEWEST)], ()),
        ([stored("a", 30, "2030-01-01"), stored("b", 30)], ()),
        ([stored("a", 10, "2030-01-03"), stored("c", 15, "2030-01-01"), stored("b", 35, **NEWEST)], ("c", "a")),
        ([stored("a", 10, "2030-01-03"), stored("c", 25, "2030-01-01"), stored("b", 25, **NEWEST)], ("c",)),
        # What has gone since the newest report has made its room already.
        ([stored("a", 20, "2030-01-01"), stored("b", 25, **NEWEST)], ()),
        ([stored("a", 20, "2030-01-01"), stored("b", 40, free=25, shared=60, at="2030-01-02")], ()),
        ([stored("a", 20, "2030-01-01", free=5, shared=20, at="2030-01-01"),
          stored("b", 40, free=25, shared=60, at="2030-01-02")], ()),
        ([stored("a", 20, "2030-01-02"), stored("c", 20, "2030-01-01"), full(40)], ("c",)),
        ([stored("a", 20, "2030-01-02"), stored("c", 20, "2030-01-01"), full(30)], ("c",)),
        # It has gone: whose Job it is has not tried again yet.
        ([stored("a", 20, "2030-01-02"), full(40)], ()),
        # It is going: its bytes count no more, and are still there.
        ([stored("a", 20, "2030-01-02"), Stored("c", is_leaving=True), full(20)], ()),
        ([stored("a", 20), full(20)], ()),
        ([Stored("unfinished", None, "2030-01-01"), full(0)], ()),
    ],
)  # fmt: skip
def test_what_has_been_unused_for_longest_goes_until_the_low_mark(there: list[Stored], goes: tuple[str, ...]) -> None:
    assert leaving(there, MARKS) == goes
    assert leaving(reversed(there), MARKS) == goes


@pytest.mark.parametrize("seed", range(200))
def test_no_smaller_number_of_them_in_their_order_would_do(seed: int) -> None:
    """And nothing that is in use, in flight or without need ever goes."""
    chance = random.Random(seed)
    there = [
        stored(f"a{n}", chance.randint(1, 20), f"2030-01-{n + 1:02}" if chance.random() < 0.6 else "")
        for n in range(chance.randint(1, 8))
    ]
    total = sum(each.files.bytes for each in there if each.files)
    others, size = chance.randint(0, 30), chance.randint(1, 20)
    used = min(total + size + others, 100)
    there.append(stored("newest", size, free=100 - used, shared=total + size, at="2030-02-01"))
    goes = leaving(there, MARKS)
    idle = [each for each in sorted(there, key=lambda each: each.unused_since) if each.unused_since]
    sizes = [each.files.bytes for each in idle if each.files]
    enough = [count for count in range(len(idle) + 1) if used - sum(sizes[:count]) <= 70]
    expected = (min(enough) if enough else len(idle)) if used > 80 else 0
    assert goes == tuple(each.name for each in idle[:expected])


def test_an_artifact_of_the_store_is_read_as_it_is_and_a_spoilt_one_counts_for_nothing() -> None:
    manifest: Manifest = {"metadata": {"name": "v1-a"}, "status": {
        "files": files(7).model_dump(mode="json", by_alias=True), "unusedSince": "2030-01-01T00:00:00Z",
        "fullBesideBytes": 9, "job": "v1-a-evict",
    }}  # fmt: skip
    assert Stored.of(manifest) == Stored("v1-a", files(7), "2030-01-01T00:00:00Z", 9, is_leaving=True)
    assert Stored.of({"metadata": {"name": "b"}, "status": {"files": {"path": 3}}}) == Stored("b")


def test_the_low_mark_is_not_above_the_high_one() -> None:
    with pytest.raises(ValueError, match=r"cacheLowPercent .is 90.: must not be above cacheHighPercent, 80"):
        OperatorConfig.model_validate({"cacheLowPercent": 90})
