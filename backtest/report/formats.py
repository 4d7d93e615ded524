"""How numbers are written, once for the page and the terminal.

Plain ASCII, fixed digits, ``n/a`` for what is not finite: the same value gives the same bytes.
"""

from __future__ import annotations

import math
from typing import Final

from ..result import Interval

NOT_AVAILABLE: Final = "n/a"
HASH_CHARACTERS: Final = 12
_NS_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
_BYTE_UNITS: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_LARGE_UNITS: Final = ((1e9, "billion"), (1e6, "million"))


def decimal(value: float, digits: int = 3) -> str:
    """Return `value` with a thousands separator and a fixed number of digits.

    Examples
    --------
    >>> decimal(-1234.5, 1), decimal(-0.0001, 2), decimal(float("nan"))
    ('-1,234.5', '0.00', 'n/a')
    """
    if not math.isfinite(value):
        return NOT_AVAILABLE
    text = f"{value:,.{digits}f}"
    # A rounded zero has no sign: "-0.00" would read as a direction.
    return text.lstrip("-") if not text.strip("-0.,") else text


def signed(value: float, digits: int = 3) -> str:
    """Return `value` with its sign, for differences.

    Examples
    --------
    >>> signed(0.25, 2), signed(-0.25, 2), signed(0.0, 2)
    ('+0.25', '-0.25', '0.00')
    """
    text = decimal(value, digits)
    positive = math.isfinite(value) and value > 0 and text.strip("0.,")
    return f"+{text}" if positive else text


def bounds(interval: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """Return the interval's bounds as ``[low, high]``."""
    write = signed if sign else decimal
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return NOT_AVAILABLE
    return f"[{write(interval.low, digits)}, {write(interval.high, digits)}]"


def estimate(interval: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """Return the point estimate followed by its bounds."""
    write = signed if sign else decimal
    return f"{write(interval.mean, digits)} {bounds(interval, digits, sign=sign)}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share of one as a percentage.

    Examples
    --------
    >>> percent(0.1234)
    '12.3%'
    """
    return f"{100.0 * share:.{digits}f}%" if math.isfinite(share) else NOT_AVAILABLE


def count(value: float) -> str:
    """Return a whole number with a thousands separator."""
    return f"{value:,.0f}" if math.isfinite(value) else NOT_AVAILABLE


def large_count(value: float) -> str:
    """Return a count the way it is spoken.

    Examples
    --------
    >>> large_count(1_058_400_000), large_count(7_300_000), large_count(9_000)
    ('1.06 billion', '7.30 million', '9,000')
    """
    for size, unit in _LARGE_UNITS:
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return count(value)


def nanoseconds(value_ns: float) -> str:
    """Return a duration with three significant digits in the unit that suits it.

    Examples
    --------
    >>> nanoseconds(742.0), nanoseconds(18_432.0), nanoseconds(2.5e6)
    ('742 ns', '18.4 µs', '2.50 ms')
    """
    if not math.isfinite(value_ns):
        return NOT_AVAILABLE
    for size, unit in _NS_UNITS:
        if value_ns >= size:
            return f"{_three_digits(value_ns / size)} {unit}"
    return f"{value_ns:.0f} ns"


def _three_digits(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{digits}f}"


def seconds(value: float) -> str:
    """Return a duration in seconds, from a minute on as minutes and seconds.

    Examples
    --------
    >>> seconds(12.34), seconds(247.6), seconds(3_725.0)
    ('12.3 s', '4 min 08 s', '1 h 02 min')
    """
    if not math.isfinite(value):
        return NOT_AVAILABLE
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(value_bytes: float) -> str:
    """Return a number of bytes in binary units.

    Examples
    --------
    >>> memory(1_181_116_006)
    '1.10 GiB'
    """
    for size, unit in _BYTE_UNITS:
        if value_bytes >= size:
            return f"{value_bytes / size:.2f} {unit}"
    return f"{value_bytes:.0f} B"


def short_hash(digest: str) -> str:
    """Return enough of a hash to tell two runs apart by eye."""
    return digest[:HASH_CHARACTERS]


def confidence(interval: Interval) -> str:
    """Return the name of an interval's level, such as ``95% CI``."""
    return f"{100.0 * interval.confidence:g}% CI"
