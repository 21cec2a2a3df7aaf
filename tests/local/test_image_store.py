"""What containerd has unpacked goes from one cluster to the next, and never to two at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import image_store
from deploy.local.layout import Layout


@pytest.fixture
def first(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "first", tmp_path / "cache")


@pytest.fixture
def second(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "second", tmp_path / "cache")


def _fill(layout: Layout, size_bytes: int) -> None:
    folder = layout.node / "containerd" / image_store.CONTENT / "sha256"
    folder.mkdir(parents=True)
    (folder / "blob").write_bytes(b"x" * size_bytes)


def _size(layout: Layout) -> int:
    blob = layout.node / "containerd" / image_store.CONTENT / "sha256" / "blob"
    return blob.stat().st_size if blob.exists() else 0


def test_the_next_cluster_finds_the_images_of_the_last_one(first: Layout, second: Layout) -> None:
    _fill(first, 10)
    image_store.keep(first, version="v")
    second.node.mkdir(parents=True)
    image_store.take(second, version="v")
    assert _size(second) == 10
    assert _size(first) == 0


def test_a_store_that_runs_is_not_given_to_another_cluster(first: Layout, second: Layout) -> None:
    _fill(first, 10)
    image_store.keep(first, version="v")
    for layout in (second, first):
        layout.node.mkdir(parents=True, exist_ok=True)
        image_store.take(layout, version="v")
    assert (_size(second), _size(first)) == (10, 0)


def test_a_small_store_does_not_replace_a_large_one_but_a_large_one_does(first: Layout, second: Layout) -> None:
    _fill(first, 10)
    _fill(second, 3)
    image_store.keep(first, version="v")
    image_store.keep(second, version="v")
    assert _size(second) == 3
    (second.node / "containerd" / image_store.CONTENT / "sha256" / "blob").write_bytes(b"x" * 30)
    image_store.keep(second, version="v")
    image_store.take(first, version="v")
    assert _size(first) == 30


def test_what_another_version_of_containerd_has_written_is_not_taken(first: Layout, second: Layout) -> None:
    _fill(first, 10)
    image_store.keep(first, version="old")
    second.node.mkdir(parents=True)
    image_store.take(second, version="new")
    assert _size(second) == 0
