"""Decimal text becomes the integer that exact arithmetic says, or nothing."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.decimal_text import DECIMALS_MAX, decimal_units, first_bad_pair

INT64 = np.iinfo(np.int64)
digits = st.text("0123456789", max_size=24)
numbers = st.builds(
    lambda sign, whole, point, fraction, exponent: sign + whole + point + fraction + exponent,
    st.sampled_from(["", "-", "+"]),
    digits,
    st.sampled_from(["", "."]),
    digits,
    st.sampled_from(["", "e0", "e-3", "E+2", "e18", "e-18", "e400"]),
)


def by_decimal(text: str, decimals: int) -> int | None:
    """The slow way; None where the text is no whole int64 of units."""
    number = Decimal(text).scaleb(decimals) if Decimal(text) else Decimal(0)
    sign, mantissa, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    units = int("".join(map(str, mantissa)))
    if exponent < 0:
        units, rest = divmod(units, 10 ** min(-exponent, 60))
        if rest:
            return None
    elif exponent < 60:
        units *= 10**exponent
    elif units:
        return None
    units = -units if sign else units
    # The most negative int64 has no positive twin and is left out.
    return units if abs(units) <= INT64.max else None


@given(numbers, st.integers(0, DECIMALS_MAX))
def test_a_number_is_what_exact_arithmetic_says(text: str, decimals: int) -> None:
    units, good = decimal_units([text], decimals)
    if not any(symbol.isdigit() for symbol in text.split("e")[0].split("E")[0]):
        assert good == 0
        return
    from decimal import localcontext

    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10_000, -10_000
        expected = by_decimal(text, decimals)
    assert (int(units[0]) if good else None) == expected


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    _, good = decimal_units(["1", text], 8)
    assert good in (1, 2)


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "nan", "inf", "1_0", "٣", "0x1", ".", "-", "1e", "1.2.3", "\ud800"]
)
def test_what_is_no_number_is_refused_by_position(text: str) -> None:
    assert decimal_units(["1", text, "2"], 3)[1] == 1


def test_trailing_zeros_cost_nothing_and_a_rest_is_refused() -> None:
    units, good = decimal_units(["61800.20000000000000000000", "61800.25"], 1)
    assert (units[0], good) == (618002, 1)


def test_the_whole_range_fits() -> None:
    assert decimal_units([str(INT64.max), str(-INT64.max)], 0)[0].tolist() == [INT64.max, -INT64.max]
    assert decimal_units([str(INT64.max + 1)], 0)[1] == 0


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="0 to 18, was 19"):
        decimal_units(["1"], 19)
    with pytest.raises(TypeError, match="was float at 1"):
        decimal_units(["1", 1.5], 0)  # type: ignore[list-item]


@given(
    st.lists(st.tuples(numbers, numbers), max_size=8),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 10**6),
)
def test_the_first_bad_pair_is_the_first_that_does_not_convert(
    pairs: list[tuple[str, str]], price_decimals: int, size_decimals: int, most: int
) -> None:
    def is_bad(pair: tuple[str, str]) -> bool:
        (price, good), (size, also) = (
            decimal_units([text], decimals)
            for text, decimals in zip(pair, (price_decimals, size_decimals), strict=True)
        )
        return good == 0 or also == 0 or abs(int(price[0])) > most or not 0 <= int(size[0]) <= most

    expected = next((at for at, pair in enumerate(pairs) if is_bad(pair)), -1)
    assert first_bad_pair(pairs, price_decimals, most, size_decimals, most) == expected


def test_pairs_must_be_text() -> None:
    with pytest.raises(TypeError, match="pairs must hold str, was str and int"):
        first_bad_pair([("1", 2)], 0, 9, 0, 9)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="decimals must be 0 to 18, was 0 and 19"):
        first_bad_pair([], 0, 9, 19, 9)
