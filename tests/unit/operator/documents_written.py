"""What `-o` writes, compared with the keys that its command tells of."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any


def untold(document: Any, told: Collection[str]) -> set[str]:
    """Paths of a document that are not told of; below one that is, by itself or with all it holds, nothing is."""
    return {path for path in paths(document) if not any(_covers(each, path) for each in told)}


def absent(document: Any, told: Collection[str]) -> set[str]:
    """Told paths that the document does not have."""
    there = set(paths(document))
    return {each for each in told if not any(_covers(each, path) for path in there)}


def paths(document: Any, path: str = "") -> Iterator[str]:
    """Of every leaf; items of a list are one."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from paths(value, f"{path}.{key}" if path else key)
    elif isinstance(document, list) and document:
        for value in document:
            yield from paths(value, f"{path}[]")
    else:
        yield path


def _covers(told: str, path: str) -> bool:
    return path == told or path.startswith((f"{told}.", f"{told}["))
