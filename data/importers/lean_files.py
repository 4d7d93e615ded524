"""LEAN tick zips: headerless CSV of one symbol and day, read in blocks of checked columns.

=============  ==========================================================  ===================
columns        meaning                                                     prices
=============  ==========================================================  ===================
equity, 8      ms, bid, size, ask, size, exchange, condition, suspicious   units of 0.0001 USD
equity, 6      ms, price, size, exchange, condition, suspicious            units of 0.0001 USD
currency, 3    ms, bid, ask                                                decimals
crypto, 5      ms, bid, size, ask, size                                    decimals
crypto, 3      ms, price, size (trades)                                    decimals
=============  ==========================================================  ===================

``ms`` counts from midnight where the market keeps its files: New York for equities; UTC for OANDA and
Dukascopy; UTC−5 all year for FXCM.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from ..columns import SINGLE_LOTS_MAX, JudgedLots, infer_increment, infer_lot_size, numbers_of, to_ticks
from ..errors import DataError
from ..lobster import exchange_midnight_ns
from ..table_file import READ_BUFFER_BYTES, library_errors
from .compressed import chunks, only_member

EQUITY_INCREMENT: Final = 0.0001
DAY_MS: Final = 86_400_000
HOURS_BEHIND_UTC: Final = {"oanda": 0, "dukascopy": 0, "fxcm": 5}
"""Hours by which a currency venue's midnight comes after UTC's."""

_NAME: Final = re.compile(
    r"(?P<day>\d{8})_(?P<symbol>[A-Za-z0-9.]+)_(?:(?P<left>quote|trade)_tick|tick_(?P<right>quote|trade))\.csv",
    re.IGNORECASE | re.ASCII,
)
_SIZE_MAX: Final = (1 << 31) - 1
_EQUITY_QUOTE: Final = (pa.int64(),) * 5 + (pa.string(), pa.string(), pa.int8())
_EQUITY_TRADE: Final = (pa.int64(),) * 3 + (pa.string(), pa.string(), pa.int8())
_CURRENCY_QUOTE: Final = (pa.int64(), pa.float64(), pa.float64())
_CRYPTO_QUOTE: Final = (pa.int64(),) + (pa.float64(),) * 4
_CRYPTO_TRADE: Final = (pa.int64(), pa.float64(), pa.float64())
_TYPES: Final = {
    (True, 8): _EQUITY_QUOTE, (False, 6): _EQUITY_TRADE, (True, 3): _CURRENCY_QUOTE, (True, 5): _CRYPTO_QUOTE,
    (False, 3): _CRYPTO_TRADE,
}  # fmt: skip
_PRICES: Final = {(True, 3): (1, 2), (True, 5): (1, 3), (False, 3): (1,)}
_SIZES: Final = {(True, 5): (2, 4), (False, 3): (2,)}
"""Columns of decimals, whose grids the rows tell."""


class QuoteRows(NamedTuple):
    """Rows of a quote file; a side with size 0 is not told by its row."""

    row: int
    ts_ns: NDArray[np.int64]
    bid_ticks: NDArray[np.int32]
    bid_size: NDArray[np.int64]
    ask_ticks: NDArray[np.int32]
    ask_size: NDArray[np.int64]
    suspicious: NDArray[np.bool_]

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
    suspicious: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeanFile:
    """One zip: a symbol, a day, quotes or trades.

    Parameters
    ----------
    path : Path
    member : str
        Name of the file in the zip.
    symbol : str
        In capitals.
    day : date
    is_quote : bool
    columns : int
    market : str
        ``usa`` for equities; a currency venue, or ``""`` where the path names none that is known.
    increment : float
        Price grid: given by the format for equities, told from all rows for others.
    lot_size : float
        The same for sizes.
    """

    path: Path
    member: str
    symbol: str
    day: date
    is_quote: bool
    columns: int
    market: str
    increment: float
    lot_size: float = 1.0

    @property
    def is_equity(self) -> bool:
        return (self.is_quote, self.columns) not in _PRICES

    @property
    def has_sizes(self) -> bool:
        return self.is_equity or (self.is_quote, self.columns) in _SIZES

    @property
    def midnight_ns(self) -> int:
        """The file's midnight, ns since the Unix epoch."""
        if self.is_equity:
            return exchange_midnight_ns(self.day)
        start = datetime.combine(self.day, datetime.min.time(), UTC)
        return (int(start.timestamp()) + HOURS_BEHIND_UTC.get(self.market, 0) * 3_600) * 10**9

    def quotes(
        self, increment: float, lot_size: float = 1.0, *, block_rows: int = 65_536
    ) -> Iterator[QuoteRows]:
        """Yield the rows of a quote file, prices on a grid of `increment`."""
        for row, ts_ns, columns in self._blocks(block_rows):
            if self.is_equity:
                bid, bid_size, ask, ask_size, _, _, flag = columns
                self._require((bid == 0) | (bid_size > 0), "a bid must have a size", bid_size, row)
                self._require((ask == 0) | (ask_size > 0), "an ask must have a size", ask_size, row)
                prices = [self._optional(side, name, row) for side, name in ((bid, "bid"), (ask, "ask"))]
                sizes = [
                    self._sizes(size, row) * (side > 0) for size, side in ((bid_size, bid), (ask_size, ask))
                ]
                yield QuoteRows(row, ts_ns, prices[0], sizes[0], prices[1], sizes[1], flag != 0)
            else:
                bid, ask = (
                    to_ticks(column, increment, name=name, path=self.path, row=row)
                    for column, name in zip(columns[:: len(columns) // 2], ("bid", "ask"), strict=True)
                )
                one = np.ones(len(bid), np.int64)
                bid_size, ask_size = (
                    (self._lots(columns[at], lot_size, row) for at in (1, 3))
                    if self.has_sizes
                    else (one, one)
                )
                yield QuoteRows(row, ts_ns, bid, bid_size, ask, ask_size, np.zeros(len(bid), bool))

    def trades(
        self, increment: float, lot_size: float = 1.0, *, block_rows: int = 65_536
    ) -> Iterator[TradeRows]:
        """Yield the rows of a trade file."""
        for row, ts_ns, columns in self._blocks(block_rows):
            if not self.is_equity:
                price, size = columns
                self._require(size > 0, "a trade must have a size", size, row)
                ticks = to_ticks(price, increment, name="price", path=self.path, row=row)
                none = np.zeros(len(ticks), bool)
                yield TradeRows(row, ts_ns, ticks, self._lots(size, lot_size, row), none, none)
                continue
            price, size, exchange, _, flag = columns
            self._require(size > 0, "a trade must have a size", size, row)
            ticks = to_ticks(price, EQUITY_INCREMENT, name="price", path=self.path, row=row)
            yield TradeRows(row, ts_ns, ticks, self._sizes(size, row), exchange == "D", flag != 0)

    def _blocks(self, block_rows: int) -> Iterator[tuple[int, NDArray[np.int64], list[NDArray[Any]]]]:
        """Yield row, times, and the other columns."""
        row, previous, midnight_ns = 0, 0, self.midnight_ns
        types = _TYPES[self.is_quote, self.columns]
        for batch in _batches(self.path, self.member, types):
            for start in range(0, batch.num_rows, block_rows):
                part = batch.slice(start, block_rows)
                columns = [
                    part.column(place).to_numpy(zero_copy_only=False)
                    if types[place] == pa.string()
                    else numbers_of(part.column(place), name=f"column {place + 1}", path=self.path, row=row)
                    for place in range(len(types))
                ]
                clock_ms = columns[0]
                before = np.concatenate(([previous], clock_ms[:-1]))
                self._require((clock_ms >= 0) & (clock_ms < DAY_MS), "time must be ms within the day",
                              clock_ms, row)  # fmt: skip
                self._require(clock_ms >= before, "time must not run backwards", clock_ms, row)
                previous = int(clock_ms[-1])
                yield row, midnight_ns + clock_ms * 10**6, columns[1:]
                row += part.num_rows
        if row == 0:
            raise DataError("expected at least one row, was 0", path=self.path)

    def _optional(self, column: NDArray[np.int64], name: str, row: int) -> NDArray[np.int32]:
        """Return prices as ticks, 0 where a one-sided row has none."""
        self._require(column >= 0, f"{name} must not be negative", column, row)
        told = np.maximum(column, 1)
        ticks = to_ticks(told, EQUITY_INCREMENT, name=name, path=self.path, row=row)
        return np.where(column > 0, ticks, 0).astype(np.int32)

    def _lots(self, column: NDArray[np.float64], lot_size: float, row: int) -> NDArray[np.int64]:
        found = JudgedLots(column, lot_size, most=SINGLE_LOTS_MAX)
        for at, rule in found.bad():
            raise DataError(f"{rule}, was {column[at]}", path=self.path, row=row + at)
        return found.lots

    def _sizes(self, column: NDArray[np.int64], row: int) -> NDArray[np.int64]:
        self._require((column >= 0) & (column <= _SIZE_MAX), f"size must be 0 to {_SIZE_MAX}", column, row)
        return column

    def _require(self, passed: NDArray[np.bool_], rule: str, values: NDArray[Any], row: int) -> None:
        if not passed.all():
            at = int(np.argmin(passed))
            raise DataError(f"{rule}, was {values[at]}", path=self.path, row=row + at)


def lean_file(path: Path) -> LeanFile:
    """Describe a zip by its member's name and first row.

    Raises
    ------
    DataError
        No zip of one file with a name like 20131007_ibm_quote_tick.csv, or of another number of columns.
    """
    if not path.is_file():
        raise DataError("expected an existing file", path=path)
    with library_errors(path, "a whole zip archive"), zipfile.ZipFile(path) as archive:
        member = only_member(archive, path)
    match = _NAME.fullmatch(PurePosixPath(member).name)
    if match is None:
        raise DataError(
            f"expected a file like 20131007_ibm_quote_tick.csv in the zip, was {member!r}", path=path
        )
    try:
        day = datetime.strptime(match["day"], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise DataError(f"expected a calendar date in the name, was {match['day']}", path=path) from error
    is_quote = (match["left"] or match["right"]).lower() == "quote"
    columns = next(chunks(path, member=member), b"").partition(b"\n")[0].count(b",") + 1
    if (is_quote, columns) not in _TYPES:
        raise DataError(
            f"expected 8, 5 or 3 columns of quotes or 6 or 3 of trades, was {columns} of "
            f"{'quotes' if is_quote else 'trades'}",
            path=path,
            row=0,
        )
    words = {word for part in path.absolute().parts for word in re.split(r"[^a-z0-9]+", part.lower())}
    known = sorted(words & HOURS_BEHIND_UTC.keys())
    increment, lot_size = EQUITY_INCREMENT, 1.0
    if (is_quote, columns) in _PRICES:
        increment, lot_size = _grids(path, member, (is_quote, columns))
    return LeanFile(
        path=path,
        member=member,
        symbol=match["symbol"].upper(),
        day=day,
        is_quote=is_quote,
        columns=columns,
        market="usa" if (is_quote, columns) not in _PRICES else known[0] if len(known) == 1 else "",
        increment=increment,
        lot_size=lot_size,
    )


def _grids(path: Path, member: str, shape: tuple[bool, int]) -> tuple[float, float]:
    """Return the grids that all prices and sizes of a file need: finer ones may come at any time of day."""
    increments: set[float] = set()
    lot_sizes = {1.0}
    row = 0
    for batch in _batches(path, member, _TYPES[shape]):
        prices, sizes = (
            [numbers_of(batch.column(at), name=f"column {at + 1}", path=path, row=row) for at in places]
            for places in (_PRICES[shape], _SIZES.get(shape, ()))
        )
        increments.add(infer_increment(np.concatenate(prices), path=path))
        lot_sizes |= {infer_lot_size(values) for values in sizes}
        row += batch.num_rows
    if not increments:
        raise DataError("expected at least one row, was 0", path=path)
    return min(increments), min(lot_sizes)


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
