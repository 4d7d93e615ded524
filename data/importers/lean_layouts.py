"""What the files of LEAN look like: names, columns, clocks and scales.

=================  ============================================================================
columns            meaning
=================  ============================================================================
tick quotes, 8     time, bid, size, ask, size, exchange, condition, suspicious (equities)
tick quotes, 7     time, bid, size, ask, size, exchange, suspicious (futures, options)
tick quotes, 5, 6  time, bid, size, ask, size, perhaps suspicious (crypto)
tick quotes, 3     time, bid, ask (currencies, contracts for difference)
tick trades, 6     time, price, size, exchange, condition, suspicious (equities, futures, options)
tick trades, 3, 4  time, price, size, perhaps suspicious (crypto)
quote bars, 11     time, bid open, high, low, close, size, ask open, high, low, close, size
trade bars, 6      time, open, high, low, close, volume
=================  ============================================================================

Times of ticks, seconds and minutes are ms since midnight, perhaps with a fraction; those of hours and days
read 20131004 09:00. Prices of equities and options count 0.0001, all others are decimals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

PERIODS_NS: Final = {
    "tick": 0, "second": 10**9, "minute": 60 * 10**9, "hour": 3_600 * 10**9, "daily": 86_400 * 10**9,
}  # fmt: skip

TIME_ZONES: Final = {
    "oanda": "UTC", "dukascopy": "UTC", "fxcm": "Etc/GMT+5", "india": "Asia/Kolkata",
}  # fmt: skip
"""Of the midnight of a market's files; Etc/GMT+5 is five hours behind UTC all year."""

_SECURITIES: Final = ("equity", "option", "forex", "cfd", "cryptofuture", "crypto", "future", "index")
_SCALED: Final = ("equity", "option")
_SYMBOL: Final = r"(?P<symbol>[A-Za-z0-9.\-]+)"
_DAILY_NAME: Final = re.compile(
    rf"(?P<day>\d{{8}})_{_SYMBOL}_(?:(?P<left>quote|trade)_(?P<early>tick|second|minute)"
    r"|(?P<late>tick|second|minute)_(?P<right>quote|trade))(?:_(?P<expiry>\d{6}(?:\d\d)?)(?:_\d{8})?)?\.csv",
    re.IGNORECASE | re.ASCII,
)
_LONG_NAME: Final = re.compile(
    rf"{_SYMBOL}(?:_(?P<kind>quote|trade)(?:_(?P<expiry>\d{{6}}(?:\d\d)?)(?:_\d{{8}})?)?)?\.csv",
    re.IGNORECASE | re.ASCII,
)
_LONG_TIME: Final = re.compile(rb"(\d{8}) (\d\d):(\d\d)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Columns by place.

    Parameters
    ----------
    prices, sizes : tuple of int
        Of bid and ask, or of a trade.
    width : int
    texts : tuple of int
        Columns that are no numbers.
    exchange, flag : int or None
        Where the row was made; whether it is suspicious.
    is_bar : bool
    """

    prices: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    width: int
    texts: tuple[int, ...] = ()
    exchange: int | None = None
    flag: int | None = None
    is_bar: bool = False

    def types(self, time: Any, number: Any) -> tuple[Any, ...]:
        """Return an Arrow type for each column."""
        return tuple(
            time if place == 0
            else pa.string() if place in self.texts
            else pa.int8() if place == self.flag
            else number
            for place in range(self.width)
        )  # fmt: skip


_TICKS: Final = {
    (True, 8): Layout(prices=(1, 3), sizes=(2, 4), width=8, texts=(5, 6), exchange=5, flag=7),
    (True, 7): Layout(prices=(1, 3), sizes=(2, 4), width=7, texts=(5,), exchange=5, flag=6),
    (True, 6): Layout(prices=(1, 3), sizes=(2, 4), width=6, flag=5),
    (True, 5): Layout(prices=(1, 3), sizes=(2, 4), width=5),
    (True, 3): Layout(prices=(1, 2), width=3),
    (False, 6): Layout(prices=(1,), sizes=(2,), width=6, texts=(3, 4), exchange=3, flag=5),
    (False, 4): Layout(prices=(1,), sizes=(2,), width=4, flag=3),
    (False, 3): Layout(prices=(1,), sizes=(2,), width=3),
}
_BARS: Final = {
    (True, 11): Layout(prices=(4, 9), sizes=(5, 10), width=11, is_bar=True),
    (False, 6): Layout(prices=(4,), sizes=(5,), width=6, is_bar=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """What a member's name and its first row say.

    Parameters
    ----------
    day : str
        Eight digits: of the name, or of the first row where it holds many days.
    resolution : str
        One of PERIODS_NS.
    """

    symbol: str
    day: str
    resolution: str
    is_quote: bool
    columns: int
    expires: bool

    @property
    def layout(self) -> Layout | None:
        layouts = _TICKS if self.resolution == "tick" else _BARS
        return layouts.get((self.is_quote, self.columns))


def named(path: Path, member: str, first_row: bytes) -> Named | None:
    """Describe a member, None where it is none of LEAN's."""
    columns = first_row.count(b",") + 1
    if (match := _DAILY_NAME.fullmatch(member)) is not None:
        is_quote = (match["left"] or match["right"]).lower() == "quote"
        resolution, day = (match["early"] or match["late"]).lower(), match["day"]
    else:
        match, time = _LONG_NAME.fullmatch(member), _LONG_TIME.match(first_row)
        if match is None or time is None:
            return None
        is_quote, day = columns == 11, time[1].decode()
        words = [part.lower() for part in path.absolute().parts]
        resolution = "hour" if "hour" in words or ("daily" not in words and time[2] != b"00") else "daily"
    return Named(
        symbol=(match["symbol"] + (match["expiry"] or "")).upper(), day=day, resolution=resolution,
        is_quote=is_quote, columns=columns, expires=match["expiry"] is not None,
    )  # fmt: skip


def security_of(path: Path) -> str:
    """Return the kind of security that the path names, as LEAN lays out its folders; "" for none."""
    parts = [part.lower() for part in path.absolute().parts]
    return next((part for part in reversed(parts) if part in _SECURITIES), "")


def market_of(path: Path) -> str:
    """Return the market whose clock is known, if a word of the path names one."""
    words = {word for part in path.absolute().parts for word in re.split(r"[^a-z0-9]+", part.lower())}
    found = sorted(words & TIME_ZONES.keys())
    return found[0] if len(found) == 1 else ""


def is_scaled(security: str, name: Named, first_row: bytes) -> bool:
    """Tell whether prices count 0.0001."""
    if security:
        return security in _SCALED
    if name.resolution == "tick":
        return name.columns == 8 if name.is_quote else name.columns == 6 and not name.expires
    return b"." not in first_row
