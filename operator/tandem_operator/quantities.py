"""Kubernetes quantities: just enough arithmetic to multiply and to weigh one, in the API server's own form.

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
    match = _parsed(quantity)
    suffixes, base = (_BINARY, 1024) if match["suffix"] in _BINARY else (_DECIMAL, 1000)
    number, rank = int(match["number"]) * factor, suffixes.index(match["suffix"])
    if number == 0:
        return "0"
    while rank + 1 < len(suffixes) and number % base == 0:
        number, rank = number // base, rank + 1
    return f"{number}{suffixes[rank]}"


def in_bytes(quantity: str) -> float:
    """What a quantity of memory stands for: `4Gi` is 4 × 2^30. Raises ValueError as `multiplied` does."""
    match = _parsed(quantity)
    if match["suffix"] in _BINARY:
        return float(int(match["number"]) * 1024 ** (1 + _BINARY.index(match["suffix"])))
    return int(match["number"]) * 1000.0 ** (_DECIMAL.index(match["suffix"]) - 1)


def _parsed(quantity: str) -> re.Match[str]:
    match = PATTERN.fullmatch(quantity)
    if match is None:
        allowed = ", ".join(suffix for suffix in (*_DECIMAL, *_BINARY) if suffix)
        raise ValueError(f"quantity {quantity!r}: allowed are whole numbers with no suffix or one of {allowed}")
    return match
