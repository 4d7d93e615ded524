"""Texts of tables as numbers and instants: exactly, and null for what is not so written."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .columns import TS_NS_MAX
from .mapping import UNITS, TimeMapping

_MINUTE_NS: Final = 60 * 10**9
_ISO_TEXT: Final = (
    r"^(?<day>\d{4}-\d\d-\d\d)(?:[T ](?<clock>\d\d:\d\d(?::\d\d)?)(?:[.,](?<fraction>\d+))?)?"
    r" ?(?<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?$"
)


def plain_numbers(texts: pl.Series, decimal: str, thousands: str) -> pl.Series:
    """Return numbers with a point and without marks between thousands; null for what is not so written."""
    if thousands:
        mark = re.escape(thousands)
        grouped = rf"^[+-]?(\d{{1,3}}({mark}\d{{3}})+|\d+)({re.escape(decimal)}\d*)?$"
        texts = texts.set(~texts.str.contains(grouped), None).str.replace_all(thousands, "", literal=True)
    elif decimal != ".":
        texts = texts.set(texts.str.contains(".", literal=True), None)
    return texts if decimal == "." else texts.str.replace(decimal, ".", literal=True)


def times_of(frame: pl.DataFrame, time: TimeMapping) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return nanoseconds since the epoch, and which of them could be read."""
    column = frame[time.column]
    if column.dtype == pl.Datetime and not time.date:
        found = column if column.dtype.time_zone else _placed(column, time.time_zone)  # type: ignore[attr-defined]
        ns = found.dt.timestamp("ns")
    elif time.unit in UNITS:
        ns = _counted(column, UNITS[time.unit])
    else:
        read = read_times(time_texts(frame, time), time.unit, time_zone=time.time_zone)
        ns = read.dt.timestamp("ns")
    known = ns.is_not_null().to_numpy()
    return ns.fill_null(0).to_numpy(), known


def time_texts(frame: pl.DataFrame, time: TimeMapping) -> pl.Series:
    """Return times as text, behind their dates, with a point before the fraction of a second."""
    text = frame[time.column].cast(pl.String).str.strip_chars()
    if time.date:
        text = frame[time.date].cast(pl.String).str.strip_chars() + " " + text
    return text.str.replace(r"(:\d\d),(\d+)", "${1}.${2}")


def read_times(texts: pl.Series, form: str, *, time_zone: str = "UTC") -> pl.Series:
    """Return instants, null for what is not so written; those without a zone of their own are in `time_zone`.

    Parameters
    ----------
    texts : series of strings
    form : str
        ``iso`` or a strftime format.
    """
    if form == "iso":
        return _read_iso(texts, time_zone)
    try:
        read = texts.str.to_datetime(form, time_unit="ns", strict=False, ambiguous="earliest")
    except pl.exceptions.PolarsError:
        read = pl.Series([None] * len(texts), dtype=pl.Datetime("ns"))
    return read if getattr(read.dtype, "time_zone", None) else _placed(read, time_zone)


def _read_iso(texts: pl.Series, time_zone: str) -> pl.Series:
    """Read ISO 8601 by its parts: inference takes other forms too, and ends the process over some texts."""
    digits = pl.col("zone").str.replace(":", "").str.extract(r"(\d{4})$")
    minutes = digits.str.slice(0, 2).cast(pl.Int64) * 60 + digits.str.slice(2, 2).cast(pl.Int64)
    clock = pl.col("clock").fill_null("00:00:00")
    parts = (
        pl.DataFrame({"text": texts})
        .select(pl.col("text").str.extract_groups(_ISO_TEXT))
        .unnest("text")
        .select(
            whole=(
                pl.col("day") + " " + pl.when(clock.str.len_bytes() == 5).then(clock + ":00").otherwise(clock)
            ).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ns", strict=False),
            fraction=pl.col("fraction").fill_null("0").str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64),
            named=pl.col("zone").is_not_null(),
            ahead=pl.when(pl.col("zone").str.starts_with("-")).then(-minutes).otherwise(minutes).fill_null(0),
        )
    )
    local = parts["whole"] + parts["fraction"].cast(pl.Duration("ns"))
    told = local.dt.replace_time_zone("UTC") - (parts["ahead"] * _MINUTE_NS).cast(pl.Duration("ns"))
    placed = _placed(local, time_zone).dt.convert_time_zone("UTC")
    return pl.select(pl.when(parts["named"]).then(told).otherwise(placed)).to_series()


def _placed(column: pl.Series, time_zone: str) -> pl.Series:
    return column.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")


def _counted(column: pl.Series, digits: int) -> pl.Series:
    """Return a count of units, perhaps with a fraction, in nanoseconds: text exactly, doubles as they are."""
    if column.dtype.is_integer():
        return pl.Series(column.cast(pl.Int64, strict=False) * 10**digits)
    if column.dtype.is_float():
        # A double holds an instant of our time to about 0.2 µs.
        fine = (column * 10 ** max(digits - 3, 0)).round().cast(pl.Int64, strict=False)
        return pl.Series(fine * 10 ** min(digits, 3))
    parts = pl.DataFrame({"text": column.cast(pl.String).str.strip_chars()}).select(
        whole=pl.col("text").str.extract(r"^(\d{1,19})(?:\.\d*)?$").cast(pl.Int64, strict=False),
        fraction=pl.col("text").str.extract(r"^\d+\.(\d*)$").fill_null(""),
    )
    fraction = parts["fraction"].str.slice(0, digits).str.pad_end(digits, "0") if digits else None
    below = fraction.cast(pl.Int64, strict=False).fill_null(0) if fraction is not None else 0
    limit = TS_NS_MAX // 10**digits
    fits = parts.select(pl.when(pl.col("whole") <= limit).then("whole")).to_series()
    return pl.Series(fits * 10**digits + below)
