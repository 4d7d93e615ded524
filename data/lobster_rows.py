"""The rows of a LOBSTER pair: message i and the book after it, read in lockstep and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from .columns import PRICE_TICKS_MAX, decimal_units, numbers_of
from .errors import DataError
from .table_file import READ_BUFFER_BYTES, library_errors

PRICE_INCREMENT: Final = 0.0001
EMPTY_PRICE: Final = 9_999_999_999
"""Stands, with its sign, where the book has no such level."""

_SIZE_MAX: Final = 1 << 48
_DAY_NS: Final = 86_400 * 10**9

# Time is read as a decimal, since a double of seconds loses the last nanosecond. Some files were printed
# from doubles ("43002.632812672004"), so 14 decimals are read, which 63 bits hold, and rounded to 9.
_CLOCK_DECIMALS: Final = 14
_CLOCK_UNITS_PER_NS: Final = 10 ** (_CLOCK_DECIMALS - 9)
_CLOCK: Final = pa.decimal128(19, _CLOCK_DECIMALS)
_MESSAGE: Final = (_CLOCK, pa.int8(), pa.int64(), pa.int64(), pa.int64(), pa.int8())

Opener = Callable[[], IO[bytes]]


class LobsterRows(NamedTuple):
    """Consecutive messages and the book after each.

    Parameters
    ----------
    row : int
        Zero-based row of the first.
    clock_ns : array of int64, shape (n,)
        After midnight at the exchange.
    kind, side : array of int8, shape (n,)
        LOBSTER's type 1 to 7; side of the resting order, +1 bid.
    order_id, size, price : array of int64, shape (n,)
    ask_price, ask_size, bid_price, bid_size : array of int64, shape (n, levels)
        Best first; size 0 where there is no level.
    """

    row: int
    clock_ns: NDArray[np.int64]
    kind: NDArray[np.int8]
    order_id: NDArray[np.int64]
    size: NDArray[np.int64]
    price: NDArray[np.int64]
    side: NDArray[np.int8]
    ask_price: NDArray[np.int64]
    ask_size: NDArray[np.int64]
    bid_price: NDArray[np.int64]
    bid_size: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LobsterPair:
    """One ticker, day and depth."""

    ticker: str
    day: date
    levels: int
    message_path: Path
    orderbook_path: Path
    open_message: Opener
    open_orderbook: Opener

    def rows(self, *, block_rows: int = 16_384) -> Iterator[LobsterRows]:
        """Yield the pair in blocks; both files must end together."""
        with ExitStack() as stack:
            message = stack.enter_context(_CsvRows(self.open_message, self.message_path, _MESSAGE))
            book = stack.enter_context(
                _CsvRows(self.open_orderbook, self.orderbook_path, (pa.int64(),) * (4 * self.levels))
            )
            row, previous_ns = 0, 0
            while True:
                left, right = message.read(block_rows), book.read(block_rows)
                if len(left[0]) != len(right[0]):
                    short, long = (self.message_path, self.orderbook_path)
                    if len(left[0]) > len(right[0]):
                        short, long = long, short
                    found = row + min(len(left[0]), len(right[0]))
                    raise DataError(f"expected as many rows as {long.name} has, was {found}", path=short)
                if len(left[0]) == 0:
                    if row == 0:
                        raise DataError("expected at least one message, was 0", path=self.message_path)
                    return
                block = self._checked(row, left, np.stack(right, axis=1), previous_ns)
                previous_ns = int(block.clock_ns[-1])
                yield block
                row += len(block.kind)

    def _checked(
        self, row: int, left: list[NDArray[Any]], book: NDArray[np.int64], previous_ns: int
    ) -> LobsterRows:
        clock_ns, kind, order_id, size, price, side = left
        path = self.message_path

        def require(passed: NDArray[np.bool_], rule: str, values: NDArray[Any], where: Path = path) -> None:
            if not passed.all():
                at = int(np.argmin(passed))
                raise DataError(f"{rule}, was {values[at]}", path=where, row=row + at)

        before = np.concatenate(([previous_ns], clock_ns[:-1]))
        require(clock_ns < _DAY_NS, "time must be within the day, in seconds after midnight", clock_ns)
        require(clock_ns >= before, "time must not run backwards", clock_ns)
        require((kind >= 1) & (kind <= 7), "type must be 1 to 7", kind)
        order = kind <= 4
        require(~order | ((size > 0) & (size <= _SIZE_MAX)), "size must be positive", size)
        require(~order | (np.abs(side) == 1), "direction must be 1 or -1", side)
        require(
            (kind == 7) | ((price > 0) & (price <= PRICE_TICKS_MAX)),
            f"price must be between 1 and {PRICE_TICKS_MAX} units of 0.0001",
            price,
        )
        parts = [book[:, place::4] for place in range(4)]
        for place, name in ((0, "ask"), (2, "bid")):
            at_price, at_size = parts[place], parts[place + 1]
            absent = np.abs(at_price) == EMPTY_PRICE
            legal = absent | ((at_price > 0) & (at_price <= PRICE_TICKS_MAX))
            legal &= np.where(absent, at_size == 0, (at_size > 0) & (at_size <= _SIZE_MAX))
            # Best first, and no price twice: 0 after an absent level may follow anything.
            step = np.diff(at_price, axis=1) * (1 if name == "ask" else -1)
            legal[:, 1:] &= absent[:, 1:] | ((step > 0) & ~absent[:, :-1])
            require(
                legal.all(axis=1),
                f"{name} levels must be best first with positive prices and sizes",
                at_price,
                self.orderbook_path,
            )
        return LobsterRows(row, clock_ns, kind, order_id, size, price, side, *parts)


class _CsvRows:
    """A headerless CSV, read by a given number of rows."""

    def __init__(self, opener: Opener, path: Path, types: tuple[Any, ...]) -> None:
        self._path, self._types = path, types
        self._held: list[Any] = []
        self._held_rows = 0
        self._row = 0
        self._stack = ExitStack()
        with library_errors(path, "a readable LOBSTER file", header_lines=0):
            columns = self._column_count(opener)
            # Later LOBSTER versions append a market participant column to messages.
            if columns not in (len(types), len(types) + (types is _MESSAGE)):
                raise DataError(f"expected {len(types)} columns, was {columns}", path=path, row=0)
            names = [str(place) for place in range(columns)]
            source = self._stack.enter_context(opener())
            self._reader = pc.open_csv(
                pa.PythonFile(source, mode="r"),
                read_options=pc.ReadOptions(
                    column_names=names, use_threads=False, block_size=READ_BUFFER_BYTES
                ),
                convert_options=pc.ConvertOptions(
                    column_types=dict(zip(names, types, strict=False)), include_columns=names[: len(types)]
                ),
            )

    def __enter__(self) -> _CsvRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _column_count(self, opener: Opener) -> int:
        with opener() as stream:
            first = stream.readline(READ_BUFFER_BYTES)
        return first.count(b",") + 1

    def read(self, row_count: int) -> list[NDArray[Any]]:
        """Return the next `row_count` rows as one array per column, fewer at the end."""
        while self._held_rows < row_count:
            with library_errors(self._path, "an undamaged LOBSTER file", header_lines=0):
                try:
                    batch = self._reader.read_next_batch()
                except StopIteration:
                    break
            self._held.append(batch)
            self._held_rows += batch.num_rows
        if not self._held:
            return [np.empty(0, np.int64)] * len(self._types)
        table = pa.Table.from_batches(self._held).combine_chunks()
        taken, rest = table.slice(0, row_count), table.slice(row_count)
        self._held, self._held_rows = rest.to_batches(), rest.num_rows
        columns = [self._numbers(taken.column(place), place) for place in range(len(self._types))]
        self._row += taken.num_rows
        return columns

    def _numbers(self, column: Any, place: int) -> NDArray[Any]:
        array = column.chunk(0) if column.num_chunks else column.combine_chunks()
        name = f"column {place + 1}"
        if pa.types.is_decimal(array.type):
            units = decimal_units(array, name=name, path=self._path, row=self._row)
            return (units + _CLOCK_UNITS_PER_NS // 2) // _CLOCK_UNITS_PER_NS
        return numbers_of(array, name=name, path=self._path, row=self._row)
