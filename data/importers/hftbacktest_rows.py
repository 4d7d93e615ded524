"""hftbacktest's rows: their layout, how they are read, and how events become them."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..instrument import Instrument
from ..schema import QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind

ROW_DTYPE: Final = np.dtype(
    [
        ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"),
        ("order_id", "<u8"), ("ival", "<i8"), ("fval", "<f8"),
    ]
)  # fmt: skip

DEPTH: Final = 1
TRADE: Final = 2
DEPTH_CLEAR: Final = 3
DEPTH_SNAPSHOT: Final = 4
DEPTH_BBO: Final = 5
ADD_ORDER: Final = 10
CANCEL_ORDER: Final = 11
MODIFY_ORDER: Final = 12
FILL: Final = 13

KIND_MASK: Final = 0xFF
SELL: Final = 1 << 28
BUY: Final = 1 << 29
LOCAL: Final = 1 << 30
EXCHANGE: Final = 1 << 31

_ROWS: Final = 65_536
_ERRORS: Final = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    NotImplementedError,
    KeyError,
    RuntimeError,  # an encrypted member
    SyntaxError,  # an npy header, which numpy reads as Python
    tokenize.TokenError,
)

_Row = tuple[int, int, int, int, int]


def read_rows(path: Path, *, first_row: int = 0) -> Iterator[tuple[int, NDArray[np.void]]]:
    """Yield (row of the first, rows as stored), a block at a time, from a row on that begins a block.

    Raises
    ------
    DataError
        The file is no such archive, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "data.npy" not in names:
                raise DataError(f"expected an array named data, was {', '.join(names[:5])}", path=path)
            with archive.open("data.npy") as stream:
                yield from _read_member(stream, path, first_row)
    except _ERRORS as error:
        raise DataError(f"expected a whole npz archive, was: {error}", path=path) from error


def _read_member(stream: IO[bytes], path: Path, first_row: int) -> Iterator[tuple[int, NDArray[np.void]]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"expected npy version 1 or 2, was {version}", path=path)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype != ROW_DTYPE or len(shape) != 1:
        raise DataError(
            f"expected one dimension of {ROW_DTYPE.names}, was {dtype} of shape {shape}", path=path
        )
    row, count = 0, int(shape[0])
    while row < count:
        wanted = min(_ROWS, count - row)
        data = stream.read(wanted * ROW_DTYPE.itemsize)
        if len(data) < wanted * ROW_DTYPE.itemsize:
            raise DataError(f"expected {count:,} rows, was fewer", path=path, row=row)
        if row >= first_row:
            yield row, np.frombuffer(data, ROW_DTYPE)
        row += wanted


class RowWriter:
    """Turns events into rows; knows the orders, since a modification tells what is left.

    Parameters
    ----------
    instrument : Instrument
    latency_ns : int
        Given to events whose receipt was not recorded.
    """

    def __init__(self, instrument: Instrument, *, latency_ns: int) -> None:
        self._instrument, self._latency_ns = instrument, latency_ns
        self._orders: dict[int, tuple[int, int, int]] = {}

    def rows(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """Return the rows of events, each for both orders."""
        found: list[tuple[int, int, int, int, int]] = []
        sides: list[int] = []
        quotes = events.view(QUOTE_DTYPE)
        names = ("kind", "side", "price_ticks", "size_lots", "order_id", "flags")
        columns = zip(*(events[name].tolist() for name in names), strict=True)
        for place, (kind, side, price, size, order_id, flags) in enumerate(columns):
            before = len(found)
            if kind == EventKind.QUOTE:
                quote = quotes[place]
                found.append((place, DEPTH_BBO, price, size, 0))
                found.append(
                    (place, DEPTH_BBO, int(quote["ask_price_ticks"]), int(quote["ask_size_lots"]), 0)
                )
                sides += [1, -1]
                continue
            found += self._one(place, kind, side, price, size, order_id, flags)
            # An execution names the resting side, its trade the aggressor's.
            printed = kind == EventKind.EXECUTE
            sides += [-side if printed and row[1] == TRADE else side for row in found[before:]]
        return self._table(events, found, sides)

    def _one(
        self, place: int, kind: int, side: int, price: int, size: int, order_id: int, flags: int
    ) -> list[_Row]:
        if kind == EventKind.LEVEL:
            return [(place, DEPTH_SNAPSHOT if flags & EventFlag.SNAPSHOT else DEPTH, price, size, 0)]
        if kind == EventKind.TRADE:
            return [(place, TRADE, price, size, 0)]
        if kind == EventKind.CLEAR:
            self._orders.clear()
            return [(place, DEPTH_CLEAR, 0, 0, 0)]
        if kind == EventKind.ADD:
            self._orders[order_id] = (price, size, side)
            return [(place, ADD_ORDER, price, size, order_id)]
        if kind not in (EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE):
            return []
        print_rows = [(place, TRADE, price, size, 0)] if kind == EventKind.EXECUTE else []
        known = self._orders.get(order_id)
        if known is None:
            return print_rows
        if print_rows:
            print_rows.append((place, FILL, price, size, order_id))
        left = 0 if kind == EventKind.CANCEL else known[1] - size
        if left > 0:
            self._orders[order_id] = (known[0], left, known[2])
            return [*print_rows, (place, MODIFY_ORDER, known[0], left, order_id)]
        del self._orders[order_id]
        return [*print_rows, (place, CANCEL_ORDER, known[0], 0, order_id)]

    def _table(self, events: NDArray[np.void], found: list[_Row], sides: list[int]) -> NDArray[np.void]:
        table = np.zeros(len(found), ROW_DTYPE)
        if not found:
            return table
        place, kind, price, size, order_id = (np.array(column) for column in zip(*found, strict=True))
        side = np.array(sides)
        marks = np.where(side > 0, BUY, np.where(side < 0, SELL, 0)) | (EXCHANGE | LOCAL)
        table["ev"] = (kind | marks).astype(np.uint64)
        table["exch_ts"] = events["ts_ns"][place]
        received = events["recv_ns"][place]
        table["local_ts"] = np.where(
            received == RECV_NOT_RECORDED, events["ts_ns"][place] + self._latency_ns, received
        )
        table["px"] = self._value(price, self._instrument.price_increment)
        table["qty"] = self._value(size, self._instrument.lot_size)
        table["order_id"] = order_id.astype(np.uint64)
        return table

    @staticmethod
    def _value(units: NDArray[np.int64], unit: float) -> NDArray[np.float64]:
        """Return units as doubles; dividing by the inverse gives the double nearest to the decimal."""
        inverse = round(1 / unit)
        if inverse >= 1 and abs(unit * inverse - 1) < 1e-12:
            return np.asarray(units / inverse, np.float64)
        return np.asarray(units * unit, np.float64)

    @staticmethod
    def in_both_orders(rows: NDArray[np.void]) -> NDArray[np.void]:
        """Return rows of which the exchange's are in order of its time, and the local ones of theirs.

        A row that stands at the same place in both is one row; else it is two, one for each.
        """
        by_receipt = np.argsort(rows["local_ts"], kind="stable")
        by_time = np.arange(len(rows))
        split = by_receipt != by_time
        at = np.arange(len(rows)) + np.concatenate(([0], np.cumsum(split)[:-1])) if len(rows) else by_time
        result = np.zeros(len(rows) + int(split.sum()), ROW_DTYPE)
        exchange = rows.copy()
        exchange["ev"][split] &= np.uint64(~LOCAL & (2**64 - 1))
        result[at] = exchange
        local = rows[by_receipt[split]]
        local["ev"] &= np.uint64(~EXCHANGE & (2**64 - 1))
        result[at[split] + 1] = local
        return result
