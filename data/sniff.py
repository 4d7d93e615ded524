"""Propose a mapping for a table that nobody described."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from . import columns as rule
from .arrow_file import SUFFIXES as ARROW_SUFFIXES
from .arrow_file import arrow_batches
from .errors import DataError
from .importers.damage import FREE, SHARE_MAX
from .input_file import require_file
from .mapping import Mapping, SideWords, TimeMapping
from .quote_file import symbol_in
from .table_file import PARQUET_SUFFIXES, ParquetTable, library_errors
from .table_texts import plain_numbers, read_times, time_texts

_SAMPLE_ROWS: Final = 4_096
_SAMPLE_BYTES: Final = 1 << 18
_RECEIVE_NAMES: Final = ("local_timestamp", "recv_ns", "receive_time", "ts_recv", "received_at", "local_ts")
_MORE_TIMES: Final = (
    *rule.TIME_NAMES, "exchange_timestamp", "ts_event", "date", "gmt time", "local time",
    "transact_time", "transaction_time", "trade_time", "created_at", "open time",
    "origin_time", "event_time", "unix", "unix_time", "ts_exchange",
)  # fmt: skip
_FORMATS: Final = (
    "%Y%m%d %H%M%S%3f", "%Y%m%d %H:%M:%S%.f", "%Y%m%d-%H:%M:%S%.f", "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f GMT%z", "%Y.%m.%d %H:%M:%S%.f", "%m/%d/%Y %H:%M:%S%.f", "%d/%m/%Y %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f", "%Y%m%d%H%M%S%3f", "%Y%m%d %H%M%S", "%d-%m-%Y %H:%M:%S%.f",
    "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M", "%Y.%m.%d %H:%M", "%m/%d/%Y %H:%M",
)  # fmt: skip
_DATE: Final = r"^(\d{4}[-./]?\d\d[-./]?\d\d|\d{1,2}[-./]\d{1,2}[-./]\d{4})$"
_CLOCK: Final = r"^\d{1,2}:\d\d(:\d\d([.,]\d{1,9})?)?( ?[AaPp][Mm])?$"
_SYMBOL_NAMES: Final = ("symbol", "instrument", "ticker", "pair")
_BAR_NAMES: Final = {"open", "high", "low", "close"}
_NUMBER: Final = re.compile(r"^[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?$")
_GROUPED: Final = re.compile(r"^[+-]?\d{1,3}([.,'])\d{3}(?:\1\d{3})*(?:([.,])\d+)?$")
_COMMA: Final = re.compile(r"^[+-]?\d+,\d+$")


class _Sample(NamedTuple):
    """The first rows, and how the text around them is written."""

    frame: pl.DataFrame
    delimiter: str = ","
    header: bool = True
    decimal: str = "."
    thousands: str = ""


def sniff_mapping(path: Path) -> Mapping:
    """Return the mapping that a table's names and first rows suggest.

    Raises
    ------
    DataError
        No time or no prices can be told.
    """
    require_file(path)
    sample, delimiter, header, decimal, thousands = _sample(path)
    names = list(sample.columns)
    time = _time_of(sample, path)
    receive_name = _named(names, _RECEIVE_NAMES)
    receive = None
    if receive_name is not None and receive_name != time.column:
        unit = _unit_of(sample, TimeMapping(column=receive_name, unit="iso"))
        receive = TimeMapping(column=receive_name, unit=unit) if unit else None
    symbol_name = _named(names, _SYMBOL_NAMES)
    named_symbol = _symbol_in(sample[symbol_name], path) if symbol_name is not None else None
    spoken_for = (time.column, time.date, receive_name, symbol_name)
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
        side=_side_words(parts.get("side", "")), delimiter=delimiter, header=header, decimal=decimal,
        thousands=thousands,
    )  # fmt: skip


def _sample(path: Path) -> _Sample:
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        table = ParquetTable(path)
        for section in table.sections:
            for _, batch in table.batches(section, dict.fromkeys(table.types), batch_rows=_SAMPLE_ROWS):
                if batch.num_rows:
                    frame = pl.from_arrow(batch)
                    assert isinstance(frame, pl.DataFrame)
                    return _Sample(frame)
        raise DataError("expected at least one row, was 0", path=path)
    if path.name.lower().endswith(ARROW_SUFFIXES):
        found = next((batch for batch in arrow_batches(path) if batch.num_rows), None)
        if found is None:
            raise DataError("expected at least one row, was 0", path=path)
        frame = pl.from_arrow(found.slice(0, _SAMPLE_ROWS))
        assert isinstance(frame, pl.DataFrame)
        return _Sample(frame)
    with library_errors(path, "a readable text file"), _opened(path) as stream:
        text = stream.read(_SAMPLE_BYTES).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    whole = [line for line in lines if "\0" not in line]
    if lines and not _nearly_all(len(whole), len(lines)):
        raise DataError("expected a table as UTF-8 text, Parquet or Arrow, was binary", path=path)
    # The last line may be cut off.
    lines = (whole if len(text) < _SAMPLE_BYTES else whole[:-1])[: _SAMPLE_ROWS + 1]
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError("expected at least one row, was 0", path=path)
    delimiter = max(",;\t|", key=lambda mark: lines[0].count(mark))
    cells = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    width = len(cells[0])
    header = not any(_NUMBER.match(cell) for cell in cells[0])
    names = cells[0] if header else [str(place) for place in range(width)]
    if width < 2 or len(set(names)) != width:
        raise DataError(f"expected at least two columns, each named once, was {lines[0][:80]!r}", path=path)
    rows = [row for row in cells[int(header) :] if len(row) == width]
    if not rows:
        raise DataError("expected at least one row under the header, was 0", path=path)
    decimal, thousands = _marks([cell for row in rows for cell in row], delimiter)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    if (decimal, thousands) != (".", ""):
        # What is no number stays as it is.
        frame = frame.select(
            plain_numbers(column, decimal, thousands).fill_null(column) for column in frame.iter_columns()
        )
    return _Sample(frame, delimiter, header, decimal, thousands)


def _marks(cells: Sequence[str], delimiter: str) -> tuple[str, str]:
    """Return the decimal mark and that between thousands."""
    grouped = [match for cell in cells if (match := _GROUPED.fullmatch(cell))]
    for match in grouped:
        if match[2] and match[2] != match[1]:
            return match[2], match[1]
    with_comma = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not with_comma:
        return ".", ""
    # 1,234 may be either: whoever separates columns by semicolons writes decimals with a comma.
    is_decimal = delimiter == ";" or any(len(cell.partition(",")[2]) != 3 for cell in with_comma)
    return (",", "") if is_decimal else (".", ",")


def _opened(path: Path) -> Any:
    return pa.input_stream(str(path), compression="detect")


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first known name that a column has, whatever its case, blanks and brackets."""
    by_letters = {_letters(name): name for name in reversed(names)}
    return next((by_letters[_letters(name)] for name in known if _letters(name) in by_letters), None)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _time_of(sample: pl.DataFrame, path: Path) -> TimeMapping:
    if (clock := _clock_beside_date(sample)) is not None:
        unit = _unit_of(sample, clock)
        if unit is not None:
            return TimeMapping(column=clock.column, unit=unit, date=clock.date)
    named = _named(sample.columns, _MORE_TIMES)
    candidates = ([named] if named else []) + [name for name in sample.columns if name != named]
    for name in candidates:
        unit = _unit_of(sample, TimeMapping(column=name, unit="iso"))
        if unit is not None:
            return TimeMapping(column=name, unit=unit)
    raise DataError(f"expected a column of times, was {', '.join(sample.columns)}", path=path)


def _clock_beside_date(sample: pl.DataFrame) -> TimeMapping | None:
    """Return the pair of columns of which one has only dates and one only times of day."""
    found = [
        next((name for name in sample.columns if _all_match(sample[name], form)), None)
        for form in (_DATE, _CLOCK)
    ]
    return TimeMapping(column=found[1], date=found[0], unit="iso") if found[0] and found[1] else None


def _all_match(column: pl.Series, form: str) -> bool:
    if column.dtype not in (pl.String, pl.Date, pl.Time):
        return False
    return bool(column.cast(pl.String).str.strip_chars().str.contains(form).fill_null(False).mean() == 1.0)


def _unit_of(sample: pl.DataFrame, time: TimeMapping) -> str | None:
    """Return how a column tells the time, None where it does not."""
    column = sample[time.column]
    if column.dtype == pl.Datetime:
        return "iso"
    named = column.name.lower().rpartition("_")[2]
    numbers = _floats(column)
    if _nearly_all(len(numbers), len(column)):
        strange = len(numbers) // 100
        numbers = np.sort(numbers)[strange : len(numbers) - strange]
        size = float(np.abs(numbers).max(initial=0.0))
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
        digits = {"s": 9, "ms": 6, "us": 3, "ns": 0}[unit]
        plausible = float(numbers.min()) * 10**digits >= rule.GUESSED_SECONDS_MIN * 1e9
        if plausible and size * 10**digits <= rule.TS_NS_MAX:
            return unit
        return named if named in ("s", "ms", "us", "ns") and "ts" in column.name.lower() else None
    if column.dtype != pl.String and not time.date:
        return None
    text = time_texts(sample, time)
    best, best_bad = None, len(text) / 2
    for form in ("iso", *_FORMATS):
        bad = read_times(text, form).null_count()
        if bad < best_bad:
            best, best_bad = form, bad
    return best


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
    if {_letters(name) for name in names} >= _BAR_NAMES:
        raise DataError(f"expected quotes, trades or levels, was bars: {', '.join(names)}", path=path)
    numeric = [name for name in names if len(_floats(sample[name])) == sample.height]
    counters = [name for name in numeric if _counts(_floats(sample[name]))]
    if len(numeric) - len(counters) >= 2:
        numeric = [name for name in numeric if name not in counters]
    for left, right in pairwise(numeric):
        low, high = _floats(sample[left]), _floats(sample[right])
        close = (low > 0) & (np.abs(high - low) <= 0.05 * low)
        if close.mean() > 0.99 and (low != high).any():
            bid, ask = (left, right) if (low <= high).mean() > 0.5 else (right, left)
            return "quotes", {"bid": bid, "ask": ask}
    one_sided = _named(names, (*rule.BID_NAMES, *rule.ASK_NAMES))
    if len(numeric) >= 2 and one_sided is None:
        return "trades", {"price": numeric[0], "size": numeric[1]} | ({"side": side} if side else {})
    raise DataError(
        f"expected columns of bid and ask, or of price and size, was {', '.join(sample.columns)}", path=path
    )


def _side_column(sample: pl.DataFrame, names: Sequence[str]) -> str | None:
    words = {*SideWords().buy, *SideWords().sell}
    for name in names:
        # Whether a trade's buyer was its maker says the side; any other yes or no does not.
        if sample[name].dtype == pl.String:
            found = set(sample[name].str.strip_chars().str.to_lowercase().unique().to_list()) - {""}
            said = found - {"true", "false"} or _is_makers(name)
            if said and found and found <= words and not found <= {"1"}:
                return name
        elif sample[name].dtype == pl.Boolean and _is_makers(name):
            return name
    return None


def _is_makers(name: str) -> bool:
    """Tell whether a column's name says that it is the maker's side, or that the buyer was the maker."""
    letters = _letters(name)
    return letters == "m" or ("maker" in letters and "taker" not in letters)


def _side_words(name: str) -> SideWords:
    """Return the aggressor's words: where a column tells the maker's side, the others."""
    usual = SideWords()
    return SideWords(buy=usual.sell, sell=usual.buy) if _is_makers(name) else usual


def _counts(values: NDArray[Any]) -> bool:
    """Tell whether whole numbers only grow, as ids do."""
    return bool((values == np.rint(values)).all() and (np.diff(values) >= 0).all() and values[-1] > values[0])


def _symbol_in(column: pl.Series, path: Path) -> str | None:
    """Return the one symbol that a column holds; a table of several is not one instrument's."""
    found = sorted(column.cast(pl.String).fill_null("").str.strip_chars().unique().to_list())
    if len(found) > 1:
        raise DataError(
            f"expected one instrument in a table, so a file each, was {', '.join(found[:8])} "
            f"in column {column.name}", path=path,
        )  # fmt: skip
    return found[0] if found and found[0] else None


def _nearly_all(count: int, of: int) -> bool:
    """Tell whether what is missing may be damaged rows."""
    return count >= of - max(FREE, int(SHARE_MAX * of)) and 2 * count > of


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
