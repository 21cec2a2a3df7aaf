"""What the pods of a deployment cost, as a line for people. Pure."""

from __future__ import annotations

from typing import Any

from tandem_operator.masking import one_line


def cost_in(scaling: Any) -> str:
    """By `status.scaling`; empty where it is not known."""
    cost = scaling.get("cost") if isinstance(scaling, dict) else None
    if not isinstance(cost, dict) or not cost.get("perHour"):
        return ""
    line = f"costs {cost['perHour']} dollars an hour"
    if cost.get("perMillionTokens") and cost.get("perMillionOutputTokens"):
        line += f", {cost['perMillionTokens']} a million tokens, {cost['perMillionOutputTokens']} a million of answers"
    return one_line(line)
