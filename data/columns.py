"""Rules that turn table columns into ticks, lots and nanoseconds.

Each rule names the file and the row it refuses. Floats end here: what leaves is integer, on the
instrument's grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from .errors import DataError
from .table_file import TableFile

TIME_NAMES: Final = (
    "ts_ns", "ts_us", "ts_ms", "ts_s", "ts", "timestamp", "time", "datetime", "date_time",
)  # fmt: skip
BID_NAMES: Final = (
    "bid", "bid_price", "bid_px", "bidprice", "best_bid", "best_bid_price", "bid_px_00", "bid_ticks",
)  # fmt: skip
ASK_NAMES: Final = (
    "ask", "ask_price", "ask_px", "askprice", "best_ask", "best_ask_price", "ask_px_00", "ask_ticks",
    "offer",
)  # fmt: skip
BID_SIZE_NAMES: Final = (
    "bid_size", "bid_sz", "bid_qty", "bid_volume", "bid_amount", "bidsize", "bidvolume", "bid_sz_00",
    "bid size", "best_bid_qty",
)  # fmt: skip
ASK_SIZE_NAMES: Final = (
    "ask_size", "ask_sz", "ask_qty", "ask_volume", "ask_amount", "asksize", "askvolume", "ask_sz_00",
    "ask size", "best_ask_qty",
)  # fmt: skip
PRICE_NAMES: Final = ("price", "px", "trade_price", "last_price")
SIZE_NAMES: Final = ("size", "qty", "quantity", "amount", "volume", "trade_size")
SIDE_NAMES: Final = ("side", "aggressor", "aggressor_side", "taker_side", "direction")

# Bid plus ask must still fit 32 bits, because mid prices are carried doubled.
PRICE_TICKS_MAX: Final = (1 << 30) - 1
TS_NS_MAX: Final = 7_258_118_400 * 10**9
"""2200-01-01, beyond which a time stamp is taken for damage."""
GUESSED_SECONDS_MIN: Final = 315_532_800
"""1980-01-01: an undeclared unit below it is more likely a time of day than an instant."""
GRID_DECIMALS_MAX: Final = 12

_UNIT_NS: Final = {"ts_ns": 1, "ts_us": 1_000, "ts_ms": 1_000_000, "ts_s": 1_000_000_000}
_ARROW_UNIT_NS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


SINGLE_LOTS_MAX: Final = (1 << 32) - 1
"""Lots that either side of a QUOTE event can hold."""
DOUBLE_LOTS_MAX: Final = 1 << 53
"""Lots of any other event that a double can count."""
SIZE_RULE: Final = "sizes must not be negative or more lots than an event can hold"
LOT_RULE: Final = "sizes must be multiples of the lot size"

# Of the number of units: an ulp and a few operations of a double, one ulp of a single.
_DOUBLE_SHARE: Final = 1e-12
_SINGLE_SHARE: Final = 1.2e-7
_SHARE_MAX: Final = 0.25
_WIDENED_MAX: Final = 0.01


def find_column(types: dict[str, Any], names: Iterable[str]) -> str | None:
    """Return the file's own spelling of the first name it has, ignoring case."""
    by_lower = {name.lower(): name for name in types}
    return next((by_lower[name] for name in names if name in by_lower), None)


def is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def numbers_of(array: Any, *, name: str, path: Path, row: int) -> NDArray[Any]:
    """Return a column as numpy without copying; a null or a NaN is refused."""
    if array.null_count:
        at = int(np.argmax(pa.compute.is_null(array).to_numpy(zero_copy_only=False)))
        raise DataError(f"{name} must be a number, was null", path=path, row=row + at)
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            at = int(np.argmin(finite))
            raise DataError(f"{name} must be finite, was {values[at]}", path=path, row=row + at)
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeColumn:
    """Where the time stands and in which unit.

    Parameters
    ----------
    name : str
    read_as : Arrow type or None
        Type to ask of a CSV reader.
    unit_ns : int
        Nanoseconds per stored integer.
    """

    name: str
    read_as: Any
    unit_ns: int

    def to_ns(self, array: Any, *, path: Path, row: int) -> NDArray[np.int64]:
        """Return nanoseconds since the Unix epoch and refuse instants outside 1970 to 2200."""
        unit_ns = self.unit_ns
        if pa.types.is_timestamp(array.type):
            unit_ns, array = _ARROW_UNIT_NS[array.type.unit], array.cast(pa.int64())
        if pa.types.is_decimal(array.type):
            stored, unit_ns = decimal_units(array, name=self.name, path=path, row=row), 1
        else:
            stored = numbers_of(array, name=self.name, path=path, row=row)
        if stored.size == 0:
            return np.empty(0, np.int64)
        limit = TS_NS_MAX // unit_ns
        if stored.min() < 0 or stored.max() > limit:
            at = int(np.argmax((stored < 0) | (stored > limit)))
            raise DataError(
                f"{self.name} must lie between 1970 and 2200, was {stored[at]}", path=path, row=row + at
            )
        if stored.dtype.kind == "f":
            # A double holds an instant of our time to about 0.2 µs, so microseconds are all it says.
            whole_us: NDArray[np.int64] = np.rint(stored * (unit_ns / 1_000)).astype(np.int64)
            return whole_us * 1_000
        stored = stored.astype(np.int64, copy=False)
        return stored if unit_ns == 1 else stored * unit_ns


def decimal_units(array: Any, *, name: str, path: Path, row: int) -> NDArray[np.int64]:
    """Return a decimal128 column as integers of its smallest unit; more than 63 bits are refused."""
    if array.null_count:
        at = int(np.argmax(pa.compute.is_null(array).to_numpy(zero_copy_only=False)))
        raise DataError(f"{name} must be a number, was null", path=path, row=row + at)
    words = np.frombuffer(array.buffers()[1], "<i8")[2 * array.offset : 2 * (array.offset + len(array))]
    # The words alternate low, high; compiled readers take arrays without gaps only.
    units: NDArray[np.int64] = np.ascontiguousarray(words[::2])
    # The reader checks digits before it scales, so an overflow shows only in the high word.
    fits = words[1::2] == units >> 63
    if not fits.all():
        at = int(np.argmin(fits))
        raise DataError(
            f"{name} must fit 63 bits of 1e-{array.type.scale}, was {array[at]}", path=path, row=row + at
        )
    return units


def time_column(name: str, kind: Any, *, first: float, text: bool, path: Path) -> TimeColumn:
    """Decide how to read a time column.

    Parameters
    ----------
    name : str
    kind : Arrow type
    first : float
        First stored value, consulted only where neither name nor type tells the unit.
    text : bool
        The file is a CSV: its first block decided `kind`, and later rows may be finer.
    """
    if pa.types.is_timestamp(kind):
        read_as = pa.timestamp("ns", tz=kind.tz) if text else None
        return TimeColumn(name=name, read_as=read_as, unit_ns=_ARROW_UNIT_NS[kind.unit])
    named = name.lower() in _UNIT_NS
    if not is_number(kind) and not (text and named):
        raise DataError(f"{name} must hold numbers or ISO 8601 times, was {kind}", path=path, row=0)
    unit_ns = _UNIT_NS.get(name.lower()) or _guessed_unit_ns(name, first, path=path)
    if text and unit_ns > 1:
        # 19 digits hold any instant in nanoseconds exactly; a double would not.
        read_as = pa.decimal128(19, len(str(unit_ns)) - 1)
        return TimeColumn(name=name, read_as=read_as, unit_ns=unit_ns)
    return TimeColumn(name=name, read_as=pa.int64() if text else None, unit_ns=unit_ns)


def _guessed_unit_ns(name: str, first: float, *, path: Path) -> int:
    size = abs(first)
    unit_ns = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
    if size * unit_ns < GUESSED_SECONDS_MIN * 1e9:
        raise DataError(
            f"{name} must count from the Unix epoch (or be called ts_ns, ts_us, ts_ms or ts_s), was {first}",
            path=path,
            row=0,
        )
    return unit_ns


def _refuse_text(table: TableFile, name: str) -> None:
    """Name the first value of a time column that makes it text: one bad word turns the whole column."""
    for section in table.sections:
        for row, batch in table.batches(section, {name: pa.string()}, batch_rows=65_536):
            for offset, value in enumerate(batch.column(0).to_pylist()):
                if not _is_time(value):
                    raise DataError(
                        f"{name} must be a number or an ISO 8601 time, was {value!r}",
                        path=table.path,
                        row=row + offset,
                    )


def _is_time(text: str | None) -> bool:
    try:
        return text is not None and datetime.fromisoformat(text) is not None
    except ValueError:
        return _is_number_text(text)


def _is_number_text(text: str | None) -> bool:
    """Return whether a text is a finite decimal number."""
    try:
        return text is not None and math.isfinite(float(text))
    except ValueError:
        return False


def first_stored(table: TableFile, name: str) -> float:
    """Return a column's first value as a number; 0 where it is not one."""
    for section in table.sections:
        for row, batch in table.batches(section, {name: None}, batch_rows=1):
            if batch.num_rows == 0:
                continue
            value = batch.column(0)
            if pa.types.is_string(value.type) and name.lower() not in _UNIT_NS:
                _refuse_text(table, name)
            if not is_number(value.type):
                return 0.0
            return float(numbers_of(value, name=name, path=table.path, row=row)[0])
    raise DataError("expected at least one row, was 0", path=table.path)


def on_grid(values: NDArray[Any], unit: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return values in whole units, and which of them are whole as exactly as their own type can tell.

    What is nearer to nothing than to one unit is not whole, unless it is nothing.
    """
    wide = values.astype(np.float64, copy=False)
    exact = wide / unit
    whole = np.rint(exact)
    off, size = np.abs(exact - whole), np.abs(exact)
    if values.dtype.itemsize == 4 and values.dtype.kind == "f":
        share = size * _SINGLE_SHARE
        # A tolerance near half a unit would accept anything.
        good = (off <= share) & (share < _SHARE_MAX)
    else:
        good = off <= size * _DOUBLE_SHARE
        if not good.all():
            # A double that was widened from a single is no more exact than that.
            with np.errstate(over="ignore"):
                widened = wide.astype(np.float32) == wide
            good |= widened & (off <= np.minimum(size * _SINGLE_SHARE, _WIDENED_MAX))
    return whole, good & ((whole != 0) | (wide == 0))


def infer_increment(values: NDArray[Any], *, path: Path) -> float:
    """Return the coarsest power of ten that represents every price of the sample exactly."""
    prices = np.unique(values)
    largest = float(np.abs(prices).max(initial=0.0))
    for decimals in range(GRID_DECIMALS_MAX + 1):
        increment = 10.0**-decimals
        if largest / increment > PRICE_TICKS_MAX:
            break
        if on_grid(prices, increment)[1].all():
            return increment
    raise DataError(
        "prices must lie on a decimal grid that fits 30 bits; state one with --price-increment, "
        f"was {float(prices[0])} to {float(prices[-1])}",
        path=path,
    )


def infer_lot_size(values: NDArray[Any], *, most: int = SINGLE_LOTS_MAX) -> float:
    """Return the coarsest power of ten, at most 1, that represents every size of the sample.

    Parameters
    ----------
    values : array, shape (n,)
    most : int
        Lots that the largest may be. Where no power of ten within it holds all, the finest within it is
        returned, and the sizes between its lots are the reader's to reject.
    """
    sizes = np.unique(values)
    largest = float(np.abs(sizes).max(initial=0.0))
    fitting = 1.0
    for decimals in range(GRID_DECIMALS_MAX + 1):
        if largest * 10.0**decimals > most:
            break
        fitting = 10.0**-decimals
        if on_grid(sizes, fitting)[1].all():
            break
    return fitting


def to_ticks(values: NDArray[Any], increment: float, *, name: str, path: Path, row: int) -> NDArray[np.int32]:
    """Return prices as grid ticks; integers are ticks already."""
    if values.dtype.kind == "f":
        ticks, good = on_grid(values, increment)
        if not good.all():
            at = int(np.argmin(good))
            raise DataError(
                f"{name} must be a multiple of the price increment {increment:g}, was {values[at]}",
                path=path,
                row=row + at,
            )
    else:
        ticks = values
    if ticks.size and (ticks.min() < 1 or ticks.max() > PRICE_TICKS_MAX):
        at = int(np.argmax((ticks < 1) | (ticks > PRICE_TICKS_MAX)))
        raise DataError(
            f"{name} must be between 1 and {PRICE_TICKS_MAX} ticks of {increment:g}, was {values[at]}",
            path=path,
            row=row + at,
        )
    return ticks.astype(np.int32, copy=False)


class JudgedLots:
    """Quantities in lots, never rounded: which of them are none, and why.

    Parameters
    ----------
    values : array, shape (n,)
    lot_size : float
    most : int
        Lots that an event can hold.

    Attributes
    ----------
    lots : array of int64, shape (n,)
        0 where the quantity is none.
    within, good : array of bool, shape (n,)
        Neither negative nor too many; and no fraction of a lot either.
    """

    def __init__(self, values: NDArray[Any], lot_size: float, *, most: int) -> None:
        whole, exact = on_grid(values, lot_size)
        self.within = (values >= 0) & (whole <= most)
        self.good = self.within & exact
        self.lots = np.where(self.good, whole, 0).astype(np.int64)

    def bad(self) -> Iterator[tuple[int, str]]:
        """Yield the place of each quantity that is none, and the rule that it breaks."""
        for at in np.flatnonzero(~self.good).tolist():
            yield at, LOT_RULE if self.within[at] else SIZE_RULE


def require_ascending(ts_ns: NDArray[np.int64], previous_ns: int | None, *, path: Path, row: int) -> None:
    """Refuse a time that runs backwards, within a block or against the row before it.

    Equal times are legal: millisecond stamps of a busy venue repeat, and file order breaks the tie.
    """
    if ts_ns.size == 0:
        return
    if previous_ns is not None and ts_ns[0] < previous_ns:
        raise DataError(
            f"time must not run backwards: expected at least {previous_ns} ns, was {ts_ns[0]}",
            path=path,
            row=row,
        )
    backwards = ts_ns[1:] < ts_ns[:-1]
    if backwards.any():
        at = int(np.argmax(backwards)) + 1
        raise DataError(
            f"time must not run backwards: expected at least {ts_ns[at - 1]} ns, was {ts_ns[at]}",
            path=path,
            row=row + at,
        )
