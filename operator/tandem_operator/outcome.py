"""What a pass asks of the queue."""

from __future__ import annotations

from dataclasses import dataclass

from tandem_operator.store import Key


@dataclass(frozen=True)
class Outcome:
    """How a pass ended."""

    again_after_seconds: float = 0.0
    """0: no pass is due until an event or the resync."""
    wake: tuple[Key, ...] = ()
    """Other resources that a pass is due for, since this one has written what they read. No watch event would tell:
    the store knows of the write already."""
