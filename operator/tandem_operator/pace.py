"""When something is to be read anew, by a clock that may be set back. Pure."""

from __future__ import annotations


def is_due(due: float, *, now: float, every_seconds: float) -> bool:
    """After its time, or so long before it that the clock was set back meanwhile: it would wait for as long as that."""
    return now >= due or due - now > every_seconds
