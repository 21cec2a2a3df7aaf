"""Quantities are multiplied into the very form in which the API server gives them back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tandem_operator.quantities import in_bytes, multiplied

BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
DECIMAL = ["m", "", "k", "M", "G", "T", "P", "E"]


def value_of(quantity: str) -> Fraction:
    """What a quantity is worth, by the definition of its suffix."""
    number = quantity.rstrip("mkKMGTPEi")
    suffix = quantity[len(number) :]
    if suffix in BINARY:
        return Fraction(number) * 1024 ** BINARY.index(suffix)
    return Fraction(number) * Fraction(1000) ** (DECIMAL.index(suffix) - 1)


def canonical(value: Fraction, *, is_binary: bool) -> str:
    """The API server's form: the largest suffix that leaves a whole number; below 1024 bytes there is no suffix."""
    if value == 0:
        return "0"
    suffixes, base, first = (BINARY, 1024, Fraction(1)) if is_binary else (DECIMAL, 1000, Fraction(1, 1000))
    rank = max(r for r in range(len(suffixes)) if (value / (first * base**r)).denominator == 1)
    return f"{value / (first * base**rank)}{suffixes[rank]}"


@pytest.mark.parametrize(
    ("quantity", "factor", "expected"),
    [
        ("1", 1, "1"),
        ("1", 16, "16"),
        ("500m", 1, "500m"),
        ("500m", 2, "1"),
        ("500m", 3, "1500m"),
        ("4Gi", 1, "4Gi"),
        ("16Gi", 2, "32Gi"),
        ("512Mi", 2, "1Gi"),
        ("512Mi", 3, "1536Mi"),
        ("1024Mi", 1, "1Gi"),
        ("1048576Ki", 4, "4Gi"),
        ("0", 3, "0"),
        ("0Gi", 3, "0"),
        ("1000", 1, "1k"),
        ("16G", 2, "32G"),
    ],
)
def test_a_quantity_is_multiplied(quantity: str, factor: int, expected: str) -> None:
    assert multiplied(quantity, factor) == expected


@pytest.mark.parametrize("quantity", ["", "1.5", "-1", "1 Gi", "Gi", "1GB", "1e3", "1Gi\n", "٣", "1" * 13])
def test_a_form_that_is_not_supported_is_refused_with_those_that_are(quantity: str) -> None:
    with pytest.raises(
        ValueError, match=r"allowed are whole numbers with no suffix or one of m, k, M, G, T, P, Ki, Mi, Gi, Ti, Pi"
    ):
        multiplied(quantity, 1)


@given(st.integers(0, 10**4), st.sampled_from(["Ki", "Mi", "Gi", "Ti"]), st.integers(1, 16))
@example(0, "Gi", 1)
@example(1024, "Ti", 1)
def test_a_binary_size_comes_out_as_the_api_server_gives_it_back(number: int, suffix: str, factor: int) -> None:
    quantity = f"{number}{suffix}"
    assert multiplied(quantity, factor) == canonical(value_of(quantity) * factor, is_binary=True)


@given(st.integers(0, 10**7), st.sampled_from(["", "m", "k", "M", "G"]), st.integers(1, 16))
@example(1000, "", 1)
@example(16_000_000_000, "", 2)
@example(1_000_000, "m", 1)
def test_a_decimal_quantity_comes_out_as_the_api_server_gives_it_back(number: int, suffix: str, factor: int) -> None:
    quantity = f"{number}{suffix}"
    assert multiplied(quantity, factor) == canonical(value_of(quantity) * factor, is_binary=False)


@given(st.integers(1, 10**6), st.sampled_from(["", "m", "Ki", "Mi", "Gi"]), st.integers(1, 16))
def test_multiplying_by_one_again_changes_nothing(number: int, suffix: str, factor: int) -> None:
    once = multiplied(f"{number}{suffix}", factor)
    assert multiplied(once, 1) == once


@given(st.integers(0, 10**9), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]))
def test_a_quantity_of_memory_is_so_many_bytes(number: int, suffix: str) -> None:
    assert in_bytes(f"{number}{suffix}") == float(value_of(f"{number}{suffix}"))


def test_what_is_no_quantity_has_no_bytes() -> None:
    with pytest.raises(ValueError, match="quantity '4 GB'"):
        in_bytes("4 GB")
