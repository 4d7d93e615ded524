"""Propose a mapping for a table that nobody described."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from . import columns as rule
from .arrow_file import SUFFIXES as ARROW_SUFFIXES
from .arrow_file import arrow_batches
from .errors import DataError
from .mapping import Mapping, SideWords, TimeMapping
from .quote_file import symbol_in
from .table_file import PARQUET_SUFFIXES, ParquetTable, library_errors

_SAMPLE_ROWS: Final = 4_096
_SAMPLE_BYTES: Final = 1 << 18
_RECEIVE_NAMES: Final = ("local_timestamp", "recv_ns", "receive_time", "ts_recv", "received_at", "local_ts")
_MORE_TIMES: Final = (
    *rule.TIME_NAMES, "exchange_timestamp", "ts_event", "date", "gmt time", "local time",
    "transact_time", "trade_time", "created_at", "open time",
    "origin_time", "event_time", "unix", "unix_time", "ts_exchange",
)  # fmt: skip
_FORMATS: Final = (
    "%Y%m%d %H%M%S%3f", "%Y%m%d %H:%M:%S%.f", "%Y%m%d-%H:%M:%S%.f", "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f GMT%z", "%Y.%m.%d %H:%M:%S%.f", "%m/%d/%Y %H:%M:%S%.f", "%d/%m/%Y %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f", "%Y%m%d%H%M%S%3f", "%Y%m%d %H%M%S",
)  # fmt: skip
_SYMBOL_NAMES: Final = ("symbol", "instrument", "ticker", "pair")
_NUMBER: Final = re.compile(r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")


def sniff_mapping(path: Path) -> Mapping:
    """Return the mapping that a table's names and first rows suggest.

    Raises
    ------
    DataError
        No time or no prices can be told.
    """
    if not path.is_file():
        raise DataError("expected an existing file", path=path)
    sample, delimiter, header = _sample(path)
    names = list(sample.columns)
    time = _time_of(sample, path)
    receive_name = _named(names, _RECEIVE_NAMES)
    receive = None
    if receive_name is not None and receive_name != time.column:
        unit = _unit_of(sample[receive_name])
        receive = TimeMapping(column=receive_name, unit=unit) if unit else None
    symbol_name = _named(names, _SYMBOL_NAMES)
    named_symbol = _symbol_in(sample[symbol_name], path) if symbol_name is not None else None
    spoken_for = (time.column, receive_name, symbol_name)
    kind, parts = _parts_of(sample, [name for name in names if name not in spoken_for], path)
    prices = [_floats(sample[parts[part]]) for part in ("bid", "ask", "price") if part in parts]
    sizes = [_floats(sample[parts[part]]) for part in ("bid_size", "ask_size", "size") if part in parts]
    if not any(len(values) for values in prices):
        raise DataError("expected prices with a decimal point, was none in the first rows", path=path)
    increment = min(rule.infer_increment(values, path=path) for values in prices if len(values))
    most = rule.SINGLE_LOTS_MAX if kind == "quotes" else rule.DOUBLE_LOTS_MAX
    lot_size = min((rule.infer_lot_size(values, most=most) for values in sizes if len(values)), default=1.0)
    if symbol_name is not None and symbol_name != time.column:
        parts["symbol"] = symbol_name
    symbol = symbol_in(path.name) or named_symbol or path.name.partition(".")[0].upper()
    return Mapping(
        kind=kind, symbol=re.sub(r"[^A-Za-z0-9._-]", "-", symbol).lstrip("-._")[:64] or "UNKNOWN",
        price_increment=increment, lot_size=lot_size, time=time, receive=receive, columns=parts,
        side=SideWords(), delimiter=delimiter, header=header,
    )  # fmt: skip


def _sample(path: Path) -> tuple[pl.DataFrame, str, bool]:
    """Return the first rows, the delimiter and whether there is a header."""
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        table = ParquetTable(path)
        for section in table.sections:
            for _, batch in table.batches(section, dict.fromkeys(table.types), batch_rows=_SAMPLE_ROWS):
                if batch.num_rows:
                    frame = pl.from_arrow(batch)
                    assert isinstance(frame, pl.DataFrame)
                    return frame, ",", True
        raise DataError("expected at least one row, was 0", path=path)
    if path.name.lower().endswith(ARROW_SUFFIXES):
        found = next((batch for batch in arrow_batches(path) if batch.num_rows), None)
        if found is None:
            raise DataError("expected at least one row, was 0", path=path)
        frame = pl.from_arrow(found.slice(0, _SAMPLE_ROWS))
        assert isinstance(frame, pl.DataFrame)
        return frame, ",", True
    with library_errors(path, "a readable text file"), _opened(path) as stream:
        text = stream.read(_SAMPLE_BYTES).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    # The last line may be cut off.
    lines = (lines if len(text) < _SAMPLE_BYTES else lines[:-1])[: _SAMPLE_ROWS + 1]
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError("expected at least one row, was 0", path=path)
    delimiter = max(",;\t|", key=lambda mark: lines[0].count(mark))
    cells = [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines]
    width = len(cells[0])
    header = not any(_NUMBER.match(cell) for cell in cells[0])
    names = cells[0] if header else [str(place) for place in range(width)]
    if width < 2 or len(set(names)) != width:
        raise DataError(f"expected at least two columns, each named once, was {lines[0][:80]!r}", path=path)
    rows = [row for row in cells[int(header) :] if len(row) == width]
    if not rows:
        raise DataError("expected at least one row under the header, was 0", path=path)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row"), delimiter, header


def _opened(path: Path) -> Any:
    return pa.input_stream(str(path), compression="detect")


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    return rule.find_column(dict.fromkeys(names), known)


def _time_of(sample: pl.DataFrame, path: Path) -> TimeMapping:
    named = _named(sample.columns, _MORE_TIMES)
    candidates = ([named] if named else []) + [name for name in sample.columns if name != named]
    for name in candidates:
        unit = _unit_of(sample[name])
        if unit is not None:
            return TimeMapping(column=name, unit=unit)
    raise DataError(f"expected a column of times, was {', '.join(sample.columns)}", path=path)


def _unit_of(column: pl.Series) -> str | None:
    """Return how a column tells the time, None where it does not."""
    if column.dtype == pl.Datetime:
        return "iso"
    named = column.name.lower().rpartition("_")[2]
    numbers = _floats(column)
    if len(numbers) == len(column):
        size = float(np.abs(numbers).max(initial=0.0))
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
        digits = {"s": 9, "ms": 6, "us": 3, "ns": 0}[unit]
        plausible = float(numbers.min()) * 10**digits >= rule.GUESSED_SECONDS_MIN * 1e9
        if plausible and size * 10**digits <= rule.TS_NS_MAX:
            return unit
        return named if named in ("s", "ms", "us", "ns") and "ts" in column.name.lower() else None
    if column.dtype != pl.String:
        return None
    text = column.str.strip_chars()
    try:
        if text.str.to_datetime(time_unit="ns", strict=False, time_zone="UTC").null_count() < len(text) / 2:
            return "iso"
    except pl.exceptions.PolarsError:
        pass
    for form in _FORMATS:
        if text.str.to_datetime(form, time_unit="ns", strict=False).null_count() < len(text) / 2:
            return form
    return None


def _parts_of(sample: pl.DataFrame, names: Sequence[str], path: Path) -> tuple[str, dict[str, str]]:
    """Return the kind of table and which column plays which part."""
    bid, ask = _named(names, rule.BID_NAMES), _named(names, rule.ASK_NAMES)
    if bid and ask:
        parts = {"bid": bid, "ask": ask}
        sizes = (_named(names, rule.BID_SIZE_NAMES), _named(names, rule.ASK_SIZE_NAMES))
        if sizes[0] and sizes[1]:
            parts |= {"bid_size": sizes[0], "ask_size": sizes[1]}
        return "quotes", parts
    price, size = _named(names, rule.PRICE_NAMES), _named(names, rule.SIZE_NAMES)
    side = _named(names, rule.SIDE_NAMES) or _side_column(sample, names)
    if price and size:
        parts = {"price": price, "size": size} | ({"side": side} if side else {})
        # A size of nothing removes a level; nobody trades nothing.
        is_levels = side is not None and bool((_floats(sample[size]) == 0).any())
        return ("levels" if is_levels else "trades"), parts
    return _parts_by_value(sample, [name for name in names if name != side], side, path)


def _parts_by_value(
    sample: pl.DataFrame, names: Sequence[str], side: str | None, path: Path
) -> tuple[str, dict[str, str]]:
    """Guess where names say nothing: two columns within 5 % of each other are bid and ask."""
    numeric = [name for name in names if len(_floats(sample[name])) == sample.height]
    for left, right in pairwise(numeric):
        low, high = _floats(sample[left]), _floats(sample[right])
        close = (low > 0) & (np.abs(high - low) <= 0.05 * low)
        if close.mean() > 0.99 and (low != high).any():
            bid, ask = (left, right) if (low <= high).mean() > 0.5 else (right, left)
            return "quotes", {"bid": bid, "ask": ask}
    if len(numeric) >= 2:
        return "trades", {"price": numeric[0], "size": numeric[1]} | ({"side": side} if side else {})
    raise DataError(
        f"expected columns of bid and ask, or of price and size, was {', '.join(sample.columns)}", path=path
    )


def _side_column(sample: pl.DataFrame, names: Sequence[str]) -> str | None:
    words = {*SideWords().buy, *SideWords().sell}
    for name in names:
        if sample[name].dtype == pl.String:
            found = set(sample[name].str.strip_chars().str.to_lowercase().unique().to_list()) - {""}
            if found and found <= words and not found <= {"1"}:
                return name
    return None


def _symbol_in(column: pl.Series, path: Path) -> str | None:
    """Return the one symbol that a column holds; a table of several is not one instrument's."""
    found = sorted(column.cast(pl.String).fill_null("").str.strip_chars().unique().to_list())
    if len(found) > 1:
        raise DataError(
            f"expected one instrument in a table, so a file each, was {', '.join(found[:8])} "
            f"in column {column.name}", path=path,
        )  # fmt: skip
    return found[0] if found and found[0] else None


def _floats(column: pl.Series) -> NDArray[Any]:
    """Return the values of a column that are finite numbers."""
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    if not (column.dtype == pl.String or column.dtype.is_numeric()):
        return np.empty(0)
    wide = column if column.dtype == pl.Float32 else column.cast(pl.Float64, strict=False)
    values: NDArray[Any] = wide.drop_nulls().to_numpy()
    finite: NDArray[Any] = values[np.isfinite(values)]
    return finite
