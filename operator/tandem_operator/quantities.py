"""Kubernetes quantities: just enough arithmetic to multiply one, in the form in which the API server gives it back.

Pure. Whole numbers with a decimal suffix (`500m`, `1`, `16G`) or a binary one (`4Gi`).
"""

from __future__ import annotations

import re

_DECIMAL = ("m", "", "k", "M", "G", "T", "P")
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi")
PATTERN = re.compile(rf"^(?P<number>[0-9]{{1,12}})(?P<suffix>{'|'.join((*_DECIMAL, *_BINARY))})$")


def multiplied(quantity: str, factor: int) -> str:
    """`factor` times `quantity`, canonical: `500m` times 2 is `1`, `512Mi` times 2 is `1Gi`.

    Raises ValueError for a form that is not supported.
    """
    match = PATTERN.fullmatch(quantity)
    if match is None:
        allowed = ", ".join(suffix for suffix in (*_DECIMAL, *_BINARY) if suffix)
        raise ValueError(f"quantity {quantity!r}: allowed are whole numbers with no suffix or one of {allowed}")
    suffixes, base = (_BINARY, 1024) if match["suffix"] in _BINARY else (_DECIMAL, 1000)
    number, rank = int(match["number"]) * factor, suffixes.index(match["suffix"])
    if number == 0:
        return "0"
    while rank + 1 < len(suffixes) and number % base == 0:
        number, rank = number // base, rank + 1
    return f"{number}{suffixes[rank]}"
