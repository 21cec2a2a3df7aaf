"""Kubernetes quantities: just enough arithmetic to multiply one, in the form in which the API server gives it back.

Pure. The forms that the accelerator table uses: plain and milli decimals (`1`, `500m`) and binary sizes (`4Gi`).
"""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"^(?P<number>[0-9]{1,15})(?P<suffix>|m|Ki|Mi|Gi|Ti)$")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti")


def multiplied(quantity: str, factor: int) -> str:
    """`factor` times `quantity`, canonical.

    Raises ValueError for a form that is not supported; `500m` times 2 is `1`, `512Mi` times 2 is `1Gi`.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"quantity {quantity!r}: allowed are whole numbers with no suffix, m, Ki, Mi, Gi or Ti")
    number, suffix = int(match["number"]) * factor, match["suffix"]
    if suffix == "m":
        return str(number // 1000) if number % 1000 == 0 else f"{number}m"
    rank = _BINARY.index(suffix)
    while suffix and rank + 1 < len(_BINARY) and number and number % 1024 == 0:
        number, rank = number // 1024, rank + 1
    return f"{number}{_BINARY[rank]}"
