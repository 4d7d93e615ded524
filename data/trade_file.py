"""One file of trades: a time, a price, a size, and where known the side of the aggressor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from . import columns as rule
from .errors import DataError
from .table_file import CsvTable, TableFile, open_table

SIDE_WORDS: Final = {
    "buy": 1, "b": 1, "bid": 1, "buyer": 1, "1": 1, "+1": 1,
    "sell": -1, "s": -1, "ask": -1, "seller": -1, "-1": -1,
    "": 0, "0": 0, "n": 0, "none": 0, "unknown": 0,
}  # fmt: skip


class TradeColumns(NamedTuple):
    """Checked rows of one batch; `row` is the first one's place in the file.

    The caller leaves out the rows whose `size` is no number of lots.
    """

    row: int
    ts_ns: NDArray[np.int64]
    price_ticks: NDArray[np.int32]
    size: NDArray[np.float64]
    size_lots: rule.JudgedLots
    side: NDArray[np.int8]


def has_trades(table: TableFile) -> bool:
    """Tell whether a table's columns are those of trades."""
    types = table.types
    names = (rule.TIME_NAMES, rule.PRICE_NAMES, rule.SIZE_NAMES)
    found = [rule.find_column(types, aliases) for aliases in names]
    if None in found:
        return False
    text = isinstance(table, CsvTable)
    return text or all(rule.is_number(types[name]) for name in found[1:] if name)


class TradeFile:
    """A Parquet or CSV file of trades, read once on opening to find its grids.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path, *, table: TableFile | None = None) -> None:
        self.path = path
        self.table = open_table(path) if table is None else table
        types = self.table.types
        if not has_trades(self.table):
            raise DataError(
                "expected columns of a time (ts_ns, ts_ms, timestamp, ...), price and size, "
                f"was {', '.join(f'{name}: {kind}' for name, kind in types.items())}",
                path=path,
            )
        time_name = rule.find_column(types, rule.TIME_NAMES) or ""
        self._price = rule.find_column(types, rule.PRICE_NAMES) or ""
        self._size = rule.find_column(types, rule.SIZE_NAMES) or ""
        self._side = rule.find_column(types, rule.SIDE_NAMES)
        self.text = isinstance(self.table, CsvTable)
        self._time = rule.time_column(
            time_name,
            types[time_name],
            first=rule.first_stored(self.table, time_name),
            text=self.text,
            path=path,
        )
        increments, lot_sizes = set(), set()
        for row, batch in self._stored({self._price: pa.float64(), self._size: pa.float64()}, 1 << 16):
            price, size = (
                rule.numbers_of(batch.column(place), name=name, path=path, row=row)
                for place, name in ((0, "price"), (1, "size"))
            )
            increments.add(rule.infer_increment(price, path=path))
            lot_sizes.add(rule.infer_lot_size(size, most=rule.DOUBLE_LOTS_MAX))
        self.price_increment, self.lot_size = min(increments), min(lot_sizes)

    def batches(self, *, price_increment: float, lot_size: float, batch_rows: int) -> Iterator[TradeColumns]:
        """Yield checked columns in order of time."""
        path, previous_ns = self.path, None
        wanted = {self._time.name: self._time.read_as, self._price: pa.float64(), self._size: pa.float64()}
        if self._side:
            wanted[self._side] = pa.string()
        for row, batch in self._stored(wanted, batch_rows):
            ts_ns = self._time.to_ns(batch.column(0), path=path, row=row)
            rule.require_ascending(ts_ns, previous_ns, path=path, row=row)
            previous_ns = int(ts_ns[-1])
            price, size = (
                rule.numbers_of(batch.column(place), name=name, path=path, row=row).astype(np.float64)
                for place, name in ((1, "price"), (2, "size"))
            )
            yield TradeColumns(
                row,
                ts_ns,
                rule.to_ticks(price, price_increment, name="price", path=path, row=row),
                size,
                rule.JudgedLots(size, lot_size, most=rule.DOUBLE_LOTS_MAX),
                self._sides(batch.column(3), row) if self._side else np.zeros(len(ts_ns), np.int8),
            )

    def _stored(self, wanted: dict[str, Any], batch_rows: int) -> Iterator[tuple[int, Any]]:
        for section in self.table.sections:
            for row, batch in self.table.batches(section, wanted, batch_rows=batch_rows):
                if batch.num_rows:
                    yield row, batch

    def _sides(self, array: Any, row: int) -> NDArray[np.int8]:
        words = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(array.cast(pa.string()), "")))
        place = pc.index_in(words, pa.array(list(SIDE_WORDS)))
        if place.null_count:
            at = int(np.argmax(pc.is_null(place).to_numpy(zero_copy_only=False)))
            raise DataError(
                f"{self._side} must be buy, sell, 1, -1 or empty, was {array[at]}",
                path=self.path,
                row=row + at,
            )
        codes = np.array(list(SIDE_WORDS.values()), np.int8)
        sides: NDArray[np.int8] = codes[place.to_numpy(zero_copy_only=False)]
        return sides
