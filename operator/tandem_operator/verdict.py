"""The outcome of one check of status: what becomes a condition. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tandem_contracts.termination import Reason as Cause
from tandem_operator.names import Reason


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check."""

    holds: bool
    reason: Reason | Cause
    message: str
    is_known: bool = True
    """False: neither true nor false can be said."""
