"""What one decision leaves to the next. It survives a restart of the operator as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Empty at first."""
