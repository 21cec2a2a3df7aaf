"""Keeps containerd's store from one cluster to the next, since an engine image takes minutes to unpack.

The store moves as a whole, by one rename, between the state folder and the cache: only one cluster can have it, and a
crash leaves it in one of the two places. What runs never shares it.
"""

import shutil
from pathlib import Path

from deploy.local.layout import Layout

CONTENT = "io.containerd.content.v1.content/blobs"


def take(layout: Layout, *, version: str) -> None:
    """Before containerd's first start: the store of an earlier cluster, if nobody else has it."""
    store, kept = _store(layout), _kept(layout, version)
    if store.exists():
        return
    try:
        kept.rename(store)
    except OSError:  # there is none, another cluster was faster, or the cache is on another file system
        return


def keep(layout: Layout, *, version: str) -> None:
    """After everything has ended: leave the store to the next cluster, unless one that holds more is kept already."""
    store, kept = _store(layout), _kept(layout, version)
    if not store.exists() or _content_bytes(store) <= _content_bytes(kept):
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    for other in kept.parent.iterdir():
        shutil.rmtree(other, ignore_errors=True)
    try:
        store.rename(kept)
    except OSError:  # the cache is on another file system: the store goes with the state folder
        return


def _content_bytes(store: Path) -> int:
    """Size of the images in a store; 0 when there is none."""
    return sum(blob.stat().st_size for blob in (store / CONTENT).glob("*/*"))


def _store(layout: Layout) -> Path:
    return layout.node / "containerd"


def _kept(layout: Layout, version: str) -> Path:
    """One containerd does not read what a newer one has written."""
    return layout.cache / "containerd" / version
