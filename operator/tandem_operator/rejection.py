"""How a spec is refused that is well formed, but that this operator cannot act on. Pure."""

from __future__ import annotations

from tandem_operator.names import Reason


class RejectedSpecError(ValueError):
    """The message names path, value and what is allowed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
