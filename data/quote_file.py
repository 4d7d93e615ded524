"""One file of quotes: which columns it has, how they become ticks, and which rows it must not hold.

Three dialects are known, told apart by column names and types:

- integer spread: a time, ``bid`` and ``spread`` as integers in grid ticks;
- integer sides: a time, ``bid`` and ``ask`` as integers in grid ticks (what ``anytick data generate``
  writes, with ``pressure`` beside them and the instrument in the Parquet metadata);
- decimal sides: a time, bid and ask as decimals, with optional sizes in units of the instrument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import columns as rule
from .errors import DataError
from .table_file import CsvTable, Section, TableFile, open_table

METADATA_PREFIX: Final = "anytick."
"""Parquet metadata keys: symbol, price_increment, recorded, and for generated files parameters."""

_CURRENCIES: Final = "AUD|CAD|CHF|CNH|CZK|DKK|EUR|GBP|HKD|HUF|JPY|MXN|NOK|NZD|PLN|SEK|SGD|TRY|USD|ZAR"
_PAIR: Final = re.compile(rf"(?:^|[^A-Z])((?:XAG|XAU|XPD|XPT|BTC|ETH|{_CURRENCIES})({_CURRENCIES}))(?![A-Z])")
_SAMPLE_ROWS: Final = 8_192


class QuoteColumns(NamedTuple):
    """Checked rows of one batch; `row` is the first one's place in the file."""

    row: int
    ts_ns: NDArray[np.int64]
    bid_ticks: NDArray[np.int32]
    ask_ticks: NDArray[np.int32]
    pressure: NDArray[np.int8] | None
    bid_size: NDArray[Any] | None
    ask_size: NDArray[Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """Which column plays which part.

    Parameters
    ----------
    spread : bool
        `far` is ask minus bid rather than the ask.
    integer : bool
        Prices are grid ticks already.
    """

    time: str
    bid: str
    far: str
    spread: bool
    integer: bool
    bid_size: str | None
    ask_size: str | None
    pressure: str | None


def find_dialect(table: TableFile) -> Dialect | None:
    """Return how quotes stand in a table, or None where it holds none."""
    types = table.types
    time, bid = rule.find_column(types, rule.TIME_NAMES), rule.find_column(types, rule.BID_NAMES)
    ask, spread = rule.find_column(types, rule.ASK_NAMES), rule.find_column(types, ("spread",))
    far = ask or spread
    if time is None or bid is None or far is None:
        return None
    # One bad word makes a whole CSV column text: reading it as numbers names the row instead.
    text = isinstance(table, CsvTable)
    if not text and not (rule.is_number(types[bid]) and rule.is_number(types[far])):
        return None
    integer = pa.types.is_integer(types[bid]) and pa.types.is_integer(types[far])
    # Whole-number sides in a CSV are decimals that happen to lack a point.
    integer = integer and (ask is None or not text)
    sizes = [rule.find_column(types, names) for names in (rule.BID_SIZE_NAMES, rule.ASK_SIZE_NAMES)]
    if None in sizes or not all(_may_hold_numbers(types[name], text=text) for name in sizes if name):
        sizes = [None, None]
    pressure = "pressure" if pa.types.is_int8(types.get("pressure", pa.null())) else None
    return Dialect(
        time=time, bid=bid, far=far, spread=ask is None, integer=bool(integer),
        bid_size=sizes[0], ask_size=sizes[1], pressure=pressure,
    )  # fmt: skip


def names_quotes(names: Iterable[str]) -> bool:
    """Tell whether column names could be those of quotes."""
    known = dict.fromkeys(names)
    sides = (rule.TIME_NAMES, rule.BID_NAMES, (*rule.ASK_NAMES, "spread"))
    return all(rule.find_column(known, aliases) is not None for aliases in sides)


def _may_hold_numbers(kind: Any, *, text: bool) -> bool:
    return rule.is_number(kind) or (text and bool(pa.types.is_string(kind)))


def symbol_in(name: str) -> str | None:
    """Return the currency or metal pair that a file or folder name carries.

    >>> symbol_in("xagusd_ticks_2012H1.parquet")
    'XAGUSD'
    """
    found = _PAIR.search(name.upper())
    return found[1] if found else None


def usual_increment(symbol: str) -> float:
    """Return the grid on which retail feeds of currency pairs and metals quote integers."""
    if symbol.startswith(("XAU", "XAG", "XPD", "XPT")) or symbol.endswith(("JPY", "HUF")):
        return 0.001
    return 0.00001


class QuoteFile:
    """One Parquet or CSV file of quotes.

    Opening reads what the recording must know before the first row is decoded: rows, first and last
    time, and for decimal prices the grid. Of Parquet the first rows of each row group are decoded, a CSV is
    read once.
    """

    def __init__(self, path: Path, *, table: TableFile | None = None) -> None:
        self.path = path
        self.table = open_table(path) if table is None else table
        dialect = find_dialect(self.table)
        if dialect is None:
            raise DataError(
                "expected columns of a time (ts_ns, ts_ms, timestamp, ...), bid, and ask or spread, "
                f"was {', '.join(f'{name}: {kind}' for name, kind in self.table.types.items())}",
                path=path,
            )
        text = isinstance(self.table, CsvTable)
        self.dialect = dialect
        self.sections: tuple[Section, ...] = self.table.sections
        kind = self.table.types[dialect.time]
        first = rule.first_stored(self.table, dialect.time)
        self.time = rule.time_column(dialect.time, kind, first=first, text=text, path=path)
        self.rows, self.first_ns, self.last_ns = 0, 0, 0
        self.extents: tuple[tuple[int, int], ...] = ()
        self._increments: set[float] = set()
        self._lot_sizes: set[float] = set()
        if text:
            self._read_csv_ends()
        else:
            self._read_parquet_ends()

    @property
    def symbol(self) -> str | None:
        named = self.table.metadata.get(METADATA_PREFIX + "symbol")
        return named or symbol_in(self.path.name) or symbol_in(self.path.parent.name)

    def increment(self) -> float:
        """Return the price increment that the file states or, for decimals, needs."""
        stated = self.table.metadata.get(METADATA_PREFIX + "price_increment")
        if stated is not None:
            try:
                value = float(stated)
            except ValueError:
                value = 0.0
            if not 0 < value < float("inf"):
                raise DataError(f"price_increment must be a positive number, was {stated!r}", path=self.path)
            return value
        if not self.dialect.integer:
            return min(self._increments)
        return usual_increment(self.symbol or "XAGUSD")

    def lot_size(self) -> float:
        """Return the quantity of one lot that the sizes need; 1 where there are none."""
        return min(self._lot_sizes, default=1.0)

    def batches(
        self, section: Section, *, increment: float, batch_rows: int, sizes: bool = False
    ) -> Iterator[QuoteColumns]:
        """Yield checked columns; order of time across batches is the caller's to check."""
        dialect, path = self.dialect, self.path
        wanted: dict[str, Any] = {dialect.time: self.time.read_as}
        price_type = None if dialect.integer else pa.float64()
        wanted |= {dialect.bid: price_type, dialect.far: price_type}
        if dialect.pressure:
            wanted[dialect.pressure] = pa.int8()
        if sizes and dialect.bid_size and dialect.ask_size:
            wanted |= {dialect.bid_size: pa.float64(), dialect.ask_size: pa.float64()}
        else:
            sizes = False
        for row, batch in self.table.batches(section, wanted, batch_rows=batch_rows):
            if batch.num_rows == 0:
                continue
            stored = {name: batch.column(index) for index, name in enumerate(wanted)}

            def values(name: str, stored: dict[str, Any] = stored, row: int = row) -> NDArray[Any]:
                return rule.numbers_of(stored[name], name=name, path=path, row=row)

            bid, far = values(dialect.bid), values(dialect.far)
            if dialect.spread:
                far = bid.astype(np.int64) + far if dialect.integer else bid + far
            yield QuoteColumns(
                row=row,
                ts_ns=self.time.to_ns(stored[dialect.time], path=path, row=row),
                bid_ticks=rule.to_ticks(bid, increment, name="bid", path=path, row=row),
                ask_ticks=rule.to_ticks(far, increment, name="ask", path=path, row=row),
                pressure=values(dialect.pressure) if dialect.pressure else None,
                bid_size=values(dialect.bid_size) if sizes and dialect.bid_size else None,
                ask_size=values(dialect.ask_size) if sizes and dialect.ask_size else None,
            )

    def times(self, section: Section) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield (row, ts_ns) of a section's batches without decoding prices."""
        wanted = {self.dialect.time: self.time.read_as}
        for row, batch in self.table.batches(section, wanted, batch_rows=1 << 16):
            yield row, self.time.to_ns(batch.column(0), path=self.path, row=row)

    def _read_parquet_ends(self) -> None:
        """Look at the first row of every row group and at the last row of all."""
        self.rows = sum(section.rows or 0 for section in self.sections)
        self.sections = tuple(section for section in self.sections if section.rows)
        wanted = {self.dialect.time: self.time.read_as, **self._sampled()}
        starts: list[int] = []
        for section in self.sections:
            row, batch = next(self.table.batches(section, wanted, batch_rows=self._sample_rows(wanted)))
            ts_ns = self.time.to_ns(batch.column(0), path=self.path, row=row)
            rule.require_ascending(ts_ns[:1], starts[-1] if starts else None, path=self.path, row=row)
            starts.append(int(ts_ns[0]))
            # The head of every row group is a fair sample of decimals, and a price off the grid found
            # later is refused by row, never rounded away.
            self._sample(row, dict(zip(wanted, batch.columns, strict=True)))
        for _, ts_ns in self.times(self.sections[-1]):
            self.last_ns = int(ts_ns[-1])
        self.first_ns = starts[0]
        # In ascending time a row group ends no later than the next one starts.
        self.extents = tuple(zip(starts, [*starts[1:], self.last_ns], strict=True))

    @staticmethod
    def _sample_rows(wanted: dict[str, Any]) -> int:
        return _SAMPLE_ROWS if len(wanted) > 1 else 1

    def _read_csv_ends(self) -> None:
        wanted = {self.dialect.time: self.time.read_as, **self._sampled()}
        for row, batch in self.table.batches(self.sections[0], wanted, batch_rows=1 << 16):
            ts_ns = self.time.to_ns(batch.column(0), path=self.path, row=row)
            if ts_ns.size == 0:
                continue
            if self.rows == 0:
                self.first_ns = int(ts_ns[0])
            self.rows, self.last_ns = row + len(ts_ns), int(ts_ns[-1])
            self._sample(row, dict(zip(wanted, batch.columns, strict=True)))
        self.extents = ((self.first_ns, self.last_ns),)

    def _sampled(self) -> dict[str, Any]:
        """Return the columns whose grid must be found, and the types to read them as."""
        dialect = self.dialect
        prices = () if dialect.integer else (dialect.bid, dialect.far)
        sizes = tuple(name for name in (dialect.bid_size, dialect.ask_size) if name)
        as_read = pa.float64() if isinstance(self.table, CsvTable) else None
        return dict.fromkeys(prices + sizes, as_read)

    def _sample(self, row: int, stored: dict[str, Any]) -> None:
        dialect = self.dialect
        for name, array in stored.items():
            if name == dialect.time:
                continue
            values = rule.numbers_of(array, name=name, path=self.path, row=row)
            if name in (dialect.bid_size, dialect.ask_size):
                self._lot_sizes.add(rule.infer_lot_size(values))
            else:
                self._increments.add(rule.infer_increment(values, path=self.path))
