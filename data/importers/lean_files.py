"""LEAN zips: headerless CSV, read in blocks of checked columns; `lean_layouts` has their forms."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from ..columns import (
    DOUBLE_LOTS_MAX,
    LOT_RULE,
    SINGLE_LOTS_MAX,
    SIZE_RULE,
    JudgedLots,
    decimal_units,
    infer_increment,
    infer_lot_size,
    numbers_of,
    to_ticks,
)
from ..errors import DataError
from ..input_file import require_file
from ..lobster import EXCHANGE_TIME_ZONE
from ..table_file import READ_BUFFER_BYTES, library_errors
from .compressed import chunks
from .lean_layouts import PERIODS_NS, TIME_ZONES, Layout, is_scaled, market_of, named, security_of

EQUITY_INCREMENT: Final = 0.0001
SUSPICIOUS_RULE: Final = "a row must not be marked suspicious"
VOLUME_RULE: Final = "a trade must have a size"
RULES: Final = ("", SUSPICIOUS_RULE, SIZE_RULE, LOT_RULE, VOLUME_RULE)
"""What a row can break without ending the reading; `broken` counts from here."""

_MEMBERS_MAX: Final = 1_000
_DAY_NS: Final = 86_400 * 10**9
_EQUITY_SIZE_MAX: Final = (1 << 31) - 1
_MILLISECONDS: Final = pa.decimal128(19, 6)


class QuoteRows(NamedTuple):
    """Rows of a quote file; a side with size 0 is not told by its row."""

    row: int
    ts_ns: NDArray[np.int64]
    bid_ticks: NDArray[np.int32]
    bid_size: NDArray[np.int64]
    ask_ticks: NDArray[np.int32]
    ask_size: NDArray[np.int64]
    broken: NDArray[np.int8]

    def part(self, start: int, stop: int) -> QuoteRows:
        """Return rows `start` to `stop`."""
        columns: list[Any] = [column[start:stop] for column in self[1:]]
        return QuoteRows(self.row + start, *columns)


class TradeRows(NamedTuple):
    """Rows of a trade file; `off_exchange` marks prints reported to FINRA (exchange D)."""

    row: int
    ts_ns: NDArray[np.int64]
    ticks: NDArray[np.int32]
    size: NDArray[np.int64]
    off_exchange: NDArray[np.bool_]
    broken: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeanFile:
    """One member of a zip: a symbol, quotes or trades, of a day or of many.

    Parameters
    ----------
    path : Path
    member : str
        Name of the file in the zip.
    symbol : str
        In capitals, of futures with the month or day of expiry.
    day : date
        The first, where there are many.
    is_quote : bool
    resolution : str
        tick, second, minute, hour or daily.
    layout : Layout
    security : str
        Kind by the folders, "" where they name none.
    market : str
        ``usa`` for equities; a market whose clock is known, or ``""``.
    is_scaled : bool
        Prices count `EQUITY_INCREMENT`.
    increment : float
        Price grid: given by the format for equities, told from all rows for others.
    lot_size : float
        The same for sizes.
    has_sizes : bool
        A row states one.
    """

    path: Path
    member: str
    symbol: str
    day: date
    is_quote: bool
    resolution: str
    layout: Layout
    security: str
    market: str
    is_scaled: bool
    increment: float = EQUITY_INCREMENT
    lot_size: float = 1.0
    has_sizes: bool = True

    @property
    def time_zone(self) -> str:
        """Of the clock that the file is written by."""
        return EXCHANGE_TIME_ZONE if self.market == "usa" else TIME_ZONES.get(self.market, "UTC")

    @property
    def midnight_ns(self) -> int:
        """The first day's midnight, ns since the Unix epoch."""
        # polars carries its own time zone tables; zoneinfo's may be missing from a bare machine.
        local = pl.Series([self.day]).cast(pl.Datetime("ns")).dt.replace_time_zone(self.time_zone)
        return int(local.dt.timestamp("ns")[0])

    def quotes(
        self, increment: float, lot_size: float = 1.0, *, block_rows: int = 65_536
    ) -> Iterator[QuoteRows]:
        """Yield the rows of a quote file, prices on a grid of `increment`."""
        for row, ts_ns, columns in self._blocks(block_rows):
            broken = self._flagged(columns, len(ts_ns))
            sides: list[Any] = []
            for at, name in enumerate(("bid", "ask")):
                price = columns[self.layout.prices[at]]
                if not self.layout.sizes:
                    ticks = to_ticks(price, increment, name=name, path=self.path, row=row)
                    sides += [ticks, np.ones(len(price), np.int64)]
                    continue
                size = columns[self.layout.sizes[at]] if self.has_sizes else (price > 0).astype(np.float64)
                self._require((price == 0) | (size > 0) | self.layout.is_bar,
                              f"{'an ask' if at else 'a bid'} must have a size", size, row)  # fmt: skip
                ticks = self._optional(price, increment, name, row)
                lots = self._lots(size, lot_size, SINGLE_LOTS_MAX, broken, row)
                sides += [ticks, lots * (ticks > 0)]
            yield QuoteRows(row, ts_ns, sides[0], sides[1], sides[2], sides[3], broken)

    def trades(
        self, increment: float, lot_size: float = 1.0, *, block_rows: int = 65_536
    ) -> Iterator[TradeRows]:
        """Yield the rows of a trade file."""
        for row, ts_ns, columns in self._blocks(block_rows):
            broken = self._flagged(columns, len(ts_ns))
            price, size = columns[self.layout.prices[0]], columns[self.layout.sizes[0]]
            if self.layout.is_bar:
                broken[(broken == 0) & (size == 0)] = RULES.index(VOLUME_RULE)
            else:
                self._require(size > 0, VOLUME_RULE, size, row)
            unit = 1.0 if self.is_scaled else increment
            ticks = to_ticks(price, unit, name="price", path=self.path, row=row)
            lots = self._lots(size, lot_size, DOUBLE_LOTS_MAX, broken, row)
            exchange = self.layout.exchange
            off = np.zeros(len(ts_ns), bool) if exchange is None else columns[exchange] == "D"
            yield TradeRows(row, ts_ns, ticks, lots, off & self.is_scaled, broken)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yield (row of the first, record batch) as stored."""
        is_long = self.resolution in ("hour", "daily")
        whole = self.is_scaled and not self.layout.is_bar
        types = self.layout.types(
            pa.string() if is_long else _MILLISECONDS, pa.int64() if whole else pa.float64()
        )
        row = 0
        for batch in _batches(self.path, self.member, types):
            yield row, batch
            row += batch.num_rows

    def _blocks(self, block_rows: int) -> Iterator[tuple[int, NDArray[np.int64], dict[int, NDArray[Any]]]]:
        """Yield row, times, and the other columns by place."""
        midnight_ns = self.midnight_ns
        previous_ns: int | None = None
        for first, batch in self.batches():
            for start in range(0, batch.num_rows, block_rows):
                row, part = first + start, batch.slice(start, block_rows)
                columns = {place: self.column(part, place, row) for place in range(1, self.layout.width)}
                ts_ns = self._times(part.column(0), midnight_ns, row)
                earliest = ts_ns[0] if previous_ns is None else previous_ns
                before = np.concatenate(([earliest], ts_ns[:-1]))
                self._require(ts_ns >= before, "time must not run backwards", part.column(0), row)
                previous_ns = int(ts_ns[-1])
                yield row, ts_ns, columns
        if previous_ns is None:
            raise DataError("expected at least one row, was 0", path=self.path)

    def column(self, part: Any, place: int, row: int) -> NDArray[Any]:
        """Return a column of a batch, checked to hold numbers."""
        column = part.column(place)
        if place in self.layout.texts:
            texts: NDArray[Any] = column.to_numpy(zero_copy_only=False)
            return texts
        if self.layout.is_bar and self.is_quote:
            # A side without a quote all bar long is empty.
            column = column.fill_null(0.0)
        return numbers_of(column, name=f"column {place + 1}", path=self.path, row=row)

    def _times(self, column: Any, midnight_ns: int, row: int) -> NDArray[np.int64]:
        """Return when a row was known: of a bar, its end."""
        period_ns = PERIODS_NS[self.resolution]
        if not pa.types.is_string(column.type):
            clock_ns = decimal_units(column, name="column 1", path=self.path, row=row)
            self._require(
                (clock_ns >= 0) & (clock_ns < _DAY_NS), "time must be ms within the day", column, row
            )
            return midnight_ns + clock_ns + period_ns
        texts = pl.Series(column.to_pylist(), dtype=pl.String)
        local = texts.str.to_datetime("%Y%m%d %H:%M", time_unit="ns", strict=False)
        # On the clock of the market: a day ends at the next midnight, however long it is.
        ends = local.dt.offset_by(f"{period_ns}ns")
        placed = ends.dt.replace_time_zone(self.time_zone, ambiguous="earliest", non_existent="null")
        self._require(placed.is_not_null().to_numpy(), "time must read like 20131004 09:00", column, row)
        return placed.dt.timestamp("ns").to_numpy()

    def _flagged(self, columns: dict[int, NDArray[Any]], count: int) -> NDArray[np.int8]:
        flag = self.layout.flag
        if flag is None:
            return np.zeros(count, np.int8)
        return np.where(columns[flag] != 0, RULES.index(SUSPICIOUS_RULE), 0).astype(np.int8)

    def _optional(self, column: NDArray[Any], increment: float, name: str, row: int) -> NDArray[np.int32]:
        """Return prices as ticks, 0 where a one-sided row has none."""
        unit = 1.0 if self.is_scaled else increment
        self._require(column >= 0, f"{name} must not be negative", column, row)
        told = np.where(column > 0, column, column.dtype.type(unit))
        ticks = to_ticks(told, unit, name=name, path=self.path, row=row)
        return np.where(column > 0, ticks, 0).astype(np.int32)

    def _lots(
        self, column: NDArray[Any], lot_size: float, most: int, broken: NDArray[np.int8], row: int
    ) -> NDArray[np.int64]:
        """Return sizes in lots, and note in `broken` which are none."""
        if self.is_scaled and not self.layout.is_bar:
            within = (column >= 0) & (column <= _EQUITY_SIZE_MAX)
            self._require(within, f"size must be 0 to {_EQUITY_SIZE_MAX}", column, row)
        found = JudgedLots(column, lot_size, most=most)
        for at, rule in found.bad():
            broken[at] = broken[at] or RULES.index(rule)
        return found.lots

    def _require(self, passed: NDArray[np.bool_], rule: str, values: Any, row: int) -> None:
        if not passed.all():
            at = int(np.argmin(passed))
            raise DataError(f"{rule}, was {values[at]}", path=self.path, row=row + at)


def lean_files(path: Path, *, symbol: str | None = None) -> list[LeanFile]:
    """Describe the members of a zip by their names and first rows.

    Parameters
    ----------
    path : Path
    symbol : str, optional
        Leaves out members of others; futures have one for each expiry.

    Raises
    ------
    DataError
        No zip, or of members that are none of LEAN's.
    """
    require_file(path)
    with library_errors(path, "a whole zip archive"), zipfile.ZipFile(path) as archive:
        members = [entry.filename for entry in archive.infolist() if not entry.filename.endswith("/")]
    if not members or len(members) > _MEMBERS_MAX:
        raise DataError(f"expected a zip of 1 to {_MEMBERS_MAX} files, was {len(members)}", path=path)
    found = [_lean_file(path, member, symbol) for member in members]
    return [file for file in found if file is not None]


def _lean_file(path: Path, member: str, wanted: str | None) -> LeanFile | None:
    first_row = next(chunks(path, member=member), b"").partition(b"\n")[0]
    name = named(path, PurePosixPath(member).name, first_row)
    if name is None:
        raise DataError(
            f"expected a file like 20131007_ibm_quote_tick.csv in the zip, was {member[:80]!r}", path=path
        )
    if wanted is not None and name.symbol != wanted.upper():
        return None
    try:
        day = datetime.strptime(name.day, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise DataError(f"expected a calendar date, was {name.day}", path=path) from error
    if name.layout is None:
        raise DataError(
            f"expected columns of ticks or bars as LEAN has them, was {name.columns} of "
            f"{'quotes' if name.is_quote else 'trades'}",
            path=path,
            row=0,
        )
    security, market = security_of(path), market_of(path)
    scaled = is_scaled(security, name, first_row)
    file = LeanFile(
        path=path, member=member, symbol=name.symbol, day=day, is_quote=name.is_quote,
        resolution=name.resolution, layout=name.layout, security=security,
        market=market or ("usa" if scaled else ""), is_scaled=scaled,
    )  # fmt: skip
    return _on_its_grid(file)


def _on_its_grid(file: LeanFile) -> LeanFile:
    """Return a file with the grids that all its prices and sizes need: finer ones may come at any time."""
    if file.is_scaled and not file.layout.is_bar:
        return file
    increments: set[float] = set()
    lot_sizes: set[float] = set()
    sized = False
    most = SINGLE_LOTS_MAX if file.is_quote else DOUBLE_LOTS_MAX
    for row, batch in file.batches():
        prices = np.concatenate([file.column(batch, place, row) for place in file.layout.prices])
        if (prices > 0).any():
            increments.add(infer_increment(prices[prices > 0], path=file.path))
        for place in file.layout.sizes:
            sizes = file.column(batch, place, row)
            sized = sized or bool((sizes > 0).any())
            lot_sizes.add(infer_lot_size(sizes[sizes >= 0], most=most))
    if not increments:
        raise DataError("expected at least one row with a price, was none", path=file.path)
    increment = EQUITY_INCREMENT if file.is_scaled else min(increments)
    lot_size = min(lot_sizes, default=1.0) if sized else 1.0
    return replace(file, increment=increment, lot_size=lot_size, has_sizes=sized)


def _batches(path: Path, member: str, types: tuple[Any, ...]) -> Iterator[Any]:
    """Yield a member's rows; blocks of whole lines are parsed from memory.

    Arrow's own streaming reads ahead on a thread, where an error of a damaged zip would end the process.
    """
    names = [str(place) for place in range(len(types))]
    row = 0
    for block in _whole_lines(path, member):
        # A row's number in a message of Arrow is that in its block.
        with library_errors(path, "a readable LEAN file", header_lines=-row):
            table = pc.read_csv(
                pa.BufferReader(block),
                read_options=pc.ReadOptions(
                    column_names=names, use_threads=False, block_size=2 * READ_BUFFER_BYTES
                ),
                convert_options=pc.ConvertOptions(
                    column_types=dict(zip(names, types, strict=True)), strings_can_be_null=False
                ),
            )
        row += table.num_rows
        yield from table.to_batches()


def _whole_lines(path: Path, member: str) -> Iterator[bytes]:
    """Yield a member in blocks that end with a line, leaving out blank ones."""
    rest = b""
    for chunk in chunks(path, member=member, chunk_bytes=READ_BUFFER_BYTES):
        block, end, rest = (rest + chunk).rpartition(b"\n")
        if len(rest) > READ_BUFFER_BYTES:
            raise DataError(f"expected lines of at most {READ_BUFFER_BYTES} bytes, was more", path=path)
        if block.strip():
            yield block + end
    if rest.strip():
        yield rest
