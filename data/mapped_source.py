"""Anybody's CSV, Parquet or Arrow table as events, following a mapping; rows without sense are set aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from .arrow_file import SUFFIXES as ARROW_SUFFIXES
from .arrow_file import arrow_batches
from .columns import (
    DOUBLE_LOTS_MAX,
    LOT_RULE,
    PRICE_TICKS_MAX,
    SINGLE_LOTS_MAX,
    SIZE_RULE,
    TS_NS_MAX,
    JudgedLots,
    on_grid,
)
from .errors import DataError
from .importers.damage import SHARE_MAX
from .input_file import require_file
from .instrument import Instrument
from .mapping import Mapping
from .quarantine import Quarantine
from .quote_file import symbol_in
from .ragged_rows import COLUMNS_RULE, RaggedRows
from .resumable import Place
from .schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from .table_file import (
    CSV_SUFFIXES,
    PARQUET_SUFFIXES,
    READ_BUFFER_BYTES,
    ParquetTable,
    csv_parts,
    files_sha256,
    library_errors,
)
from .table_texts import plain_numbers, times_of
from .text_stream import TextStream, is_quoted

TIME_RULE: Final = "time must be readable and lie between 1970 and 2200"
NUMBER_RULE: Final = "prices and sizes must be numbers"
GRID_RULE: Final = "prices must be multiples of the price increment that fit 30 bits"
SIDE_RULE: Final = "side must be a word of the mapping"
SYMBOL_RULE: Final = "a row must be of the first row's symbol"
CROSSED_RULE: Final = "bid must not exceed ask"


class MappedSource:
    """Events of a table.

    Parameters
    ----------
    paths : sequence of Path
        In order of time.
    mapping : Mapping
    instrument : Instrument, optional
        Instead of what the mapping says of symbol and grid.
    strict : bool
        Make a bad row an error instead of setting it aside.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        mapping: Mapping,
        *,
        instrument: Instrument | None = None,
        strict: bool = False,
    ) -> None:
        self.paths, self.mapping, self._strict = tuple(paths), mapping, strict
        self.instrument = instrument or Instrument(
            symbol=mapping.symbol,
            currency=mapping.symbol[3:] if symbol_in(mapping.symbol) == mapping.symbol else "USD",
            price_increment=mapping.price_increment,
            lot_size=mapping.lot_size,
        )
        self.quarantine: Quarantine | None = None
        self._rejected = 0
        self._first_symbol: str | None = None

    @property
    def source(self) -> str:
        names = ", ".join(path.name for path in self.paths)
        return f"{self.mapping.kind} of {self.instrument.symbol} in {names} (mapped)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(self.paths)

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"{self._rejected:,} rows were set aside",) if self._rejected else ()

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield one event a row."""
        return (block for block, _ in self.marked_blocks(block_events=block_events))

    def marked_blocks(
        self, place: Place | None = None, *, block_events: int = 65_536
    ) -> Iterator[tuple[NDArray[np.void], Place]]:
        """Yield events from a row on, each block with the row behind it, not converting those before."""
        begin = place or {"file": 0, "row": 0, "sequence": 0, "symbol": None, "rejected": 0}
        sequence, self._first_symbol, self._rejected = begin["sequence"], begin["symbol"], begin["rejected"]
        for number in range(begin["file"], len(self.paths)):
            path, first_row = self.paths[number], begin["row"] if number == begin["file"] else 0
            ragged = self._ragged(path, first_row)
            for row, frame in read_rows(path, self.mapping, block_rows=block_events, ragged=ragged):
                first = max(first_row - row, 0)
                if first >= frame.height:
                    continue
                events = self._events(frame.slice(first), path, row + first)
                events["seq"] = (sequence + np.arange(len(events))) & 0xFFFFFFFF
                sequence += len(events)
                if len(events):
                    yield events, {
                        "file": number, "row": row + frame.height, "sequence": sequence,
                        "symbol": self._first_symbol, "rejected": self._rejected,
                    }  # fmt: skip

    def _ragged(self, path: Path, first_row: int) -> RaggedRows:
        return RaggedRows(
            path,
            header_lines=int(self.mapping.header),
            reject=lambda row, text: self._reject(COLUMNS_RULE, path, row, {"line": text}),
            share_max=SHARE_MAX if self.quarantine is None else self.quarantine.damaged_share_max,
            first_row=first_row,
        )

    def _reject(self, rule: str, path: Path, row: int, raw: dict[str, Any]) -> None:
        if self._strict:
            raise DataError(f"{rule}, was {raw}", path=path, row=row)
        if self.quarantine is not None:
            self.quarantine.add(file=path, row=row, rule=rule, raw=raw)
        self._rejected += 1

    def _events(self, frame: pl.DataFrame, path: Path, row: int) -> NDArray[np.void]:
        """Turn rows into events, leaving out the bad ones."""
        mapping = self.mapping
        ts_ns, known = times_of(frame, mapping.time)
        judged = _Judged(frame, path, row)
        judged.require(known & (ts_ns >= 0) & (ts_ns <= TS_NS_MAX), TIME_RULE)
        if "symbol" in mapping.columns and frame.height:
            named = frame[mapping.columns["symbol"]].cast(pl.String).fill_null("").str.strip_chars()
            if self._first_symbol is None:
                self._first_symbol = named[0]
            judged.require((named == self._first_symbol).to_numpy(), SYMBOL_RULE)
        events = np.zeros(frame.height, EVENT_DTYPE)
        events["ts_ns"], events["recv_ns"] = ts_ns, RECV_NOT_RECORDED
        if mapping.receive is not None:
            recv_ns, known = times_of(frame, mapping.receive)
            events["recv_ns"] = np.where(known, recv_ns, RECV_NOT_RECORDED)
        events["instrument_id"] = self.instrument.instrument_id
        events["flags"] = EventFlag.LAST_IN_PACKET
        fill = {"quotes": self._fill_quotes, "trades": self._fill_trades, "levels": self._fill_levels}
        fill[mapping.kind](events, frame, judged)
        for at in np.flatnonzero(~judged.good).tolist():
            self._reject(judged.rules[judged.broken[at]], path, row + at, frame.row(at, named=True))
        return events[judged.good]

    def _fill_quotes(self, events: NDArray[np.void], frame: pl.DataFrame, judged: _Judged) -> None:
        quotes = events.view(QUOTE_DTYPE)
        quotes["kind"] = EventKind.QUOTE
        for name in ("bid", "ask"):
            quotes[f"{name}_price_ticks"] = self._ticks(frame, name, judged)
            has_sizes = f"{name}_size" in self.mapping.columns
            quotes[f"{name}_size_lots"] = self._lots(frame, f"{name}_size", judged) if has_sizes else 1
        bid, ask = quotes["bid_price_ticks"], quotes["ask_price_ticks"]
        judged.require(bid <= ask, CROSSED_RULE)
        quotes["flags"][bid == ask] |= np.uint8(EventFlag.CROSSED)

    def _fill_trades(self, events: NDArray[np.void], frame: pl.DataFrame, judged: _Judged) -> None:
        events["kind"] = EventKind.TRADE
        events["price_ticks"] = self._ticks(frame, "price", judged)
        events["size_lots"] = self._lots(frame, "size", judged)
        if "side" in self.mapping.columns:
            events["side"] = self._sides(frame, judged, needed=False)

    def _fill_levels(self, events: NDArray[np.void], frame: pl.DataFrame, judged: _Judged) -> None:
        events["kind"] = EventKind.LEVEL
        events["price_ticks"] = self._ticks(frame, "price", judged)
        events["size_lots"] = self._lots(frame, "size", judged)
        events["side"] = self._sides(frame, judged, needed=True)

    def _ticks(self, frame: pl.DataFrame, part: str, judged: _Judged) -> NDArray[np.int64]:
        ticks, whole = on_grid(
            _numbers(frame[self.mapping.columns[part]], self.mapping, judged), self.instrument.price_increment
        )
        judged.require(whole & (np.abs(ticks) <= PRICE_TICKS_MAX), GRID_RULE)
        return np.where(judged.good, ticks, 0).astype(np.int64)

    def _lots(self, frame: pl.DataFrame, part: str, judged: _Judged) -> NDArray[np.int64]:
        most = SINGLE_LOTS_MAX if self.mapping.kind == "quotes" else DOUBLE_LOTS_MAX
        found = JudgedLots(
            _numbers(frame[self.mapping.columns[part]], self.mapping, judged),
            self.instrument.lot_size,
            most=most,
        )
        judged.require(found.within, SIZE_RULE)
        judged.require(found.good, LOT_RULE)
        return np.where(judged.good, found.lots, 0)

    def _sides(self, frame: pl.DataFrame, judged: _Judged, *, needed: bool) -> NDArray[np.int8]:
        words = frame[self.mapping.columns["side"]].cast(pl.String).str.strip_chars().str.to_lowercase()
        side = np.zeros(len(words), np.int8)
        side[words.is_in(list(self.mapping.side.buy)).fill_null(False).to_numpy()] = 1
        side[words.is_in(list(self.mapping.side.sell)).fill_null(False).to_numpy()] = -1
        empty = (words.is_null() | (words == "").fill_null(True)).to_numpy()
        judged.require((side != 0) | (empty & (not needed)), SIDE_RULE)
        return side


class _Judged:
    """Which rows are good so far, and the first rule that each bad one broke."""

    def __init__(self, frame: pl.DataFrame, path: Path, row: int) -> None:
        self.path, self.row = path, row
        self.good = np.ones(frame.height, bool)
        self.broken = np.zeros(frame.height, np.int64)
        self.rules: list[str] = []

    def require(self, holds: NDArray[np.bool_], rule: str) -> None:
        newly_bad = self.good & ~holds
        if newly_bad.any():
            self.broken[newly_bad] = len(self.rules)
            self.rules.append(rule)
            self.good &= holds


def _numbers(column: pl.Series, mapping: Mapping, judged: _Judged) -> NDArray[Any]:
    """Return doubles, and singles as they are: they tell fewer digits."""
    if column.dtype == pl.String:
        column = plain_numbers(column.str.strip_chars(), mapping.decimal, mapping.thousands)
    wide = column if column.dtype == pl.Float32 else column.cast(pl.Float64, strict=False)
    values = wide.to_numpy()
    known = np.isfinite(values)
    judged.require(known, NUMBER_RULE)
    return np.where(known, values, values.dtype.type(0))


def read_rows(
    path: Path, mapping: Mapping, *, block_rows: int, ragged: RaggedRows
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (row of the first record, the mapped columns as stored); a CSV's as text."""
    require_file(path)
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        table = ParquetTable(path)
        _require_columns(mapping, list(table.types), path)
        wanted: dict[str, Any] = dict.fromkeys(mapping.used_columns())
        for section in table.sections:
            for row, batch in table.batches(section, wanted, batch_rows=block_rows):
                yield row, _frame(batch)
        return
    if path.name.lower().endswith(ARROW_SUFFIXES):
        yield from _arrow_rows(path, mapping, block_rows)
        return
    if not path.name.lower().endswith(CSV_SUFFIXES):
        raise DataError(f"expected CSV, Parquet or Arrow, was {path.name}", path=path)
    names = csv_names(path, mapping)
    _require_columns(mapping, names, path)
    with library_errors(path, "a CSV file", header_lines=mapping.header):
        reader = _csv(path, mapping, names, ragged)
    with reader:
        parts = csv_parts(reader, path, ragged, batch_rows=block_rows, header_lines=mapping.header)
        yield from ((row, _frame(part)) for row, part in parts)


def _arrow_rows(path: Path, mapping: Mapping, block_rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    row = 0
    for batch in arrow_batches(path):
        _require_columns(mapping, batch.schema.names, path)
        chosen = batch.select(list(mapping.used_columns()))
        for first in range(0, chosen.num_rows, block_rows):
            yield row + first, _frame(chosen.slice(first, block_rows))
        row += chosen.num_rows


def csv_names(path: Path, mapping: Mapping) -> list[str]:
    """Return the columns of a CSV by its header, or by place where it has none."""
    with (
        library_errors(path, "a readable text file"),
        pa.input_stream(str(path), compression="detect") as stream,
    ):
        first = stream.read(1 << 16).partition(b"\n")[0].decode("utf-8-sig").strip()
    cells = [cell.strip().strip('"') for cell in first.split(mapping.delimiter)]
    return cells if mapping.header else [str(place) for place in range(len(cells))]


def _csv(path: Path, mapping: Mapping, names: list[str], ragged: RaggedRows) -> Any:
    return pc.open_csv(
        TextStream(path),
        read_options=pc.ReadOptions(
            column_names=names,
            skip_rows=int(mapping.header),
            use_threads=False,
            block_size=READ_BUFFER_BYTES,
        ),
        parse_options=pc.ParseOptions(
            delimiter=mapping.delimiter,
            quote_char='"' if is_quoted(path) else False,
            invalid_row_handler=ragged.skip,
        ),
        convert_options=pc.ConvertOptions(
            # Text, so that a bad word costs its row and not the file, and is quarantined as it stands.
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(mapping.used_columns()),
            strings_can_be_null=False,
        ),
    )


def _frame(batch: Any) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _require_columns(mapping: Mapping, names: Sequence[str], path: Path) -> None:
    missing = [name for name in mapping.used_columns() if name not in names]
    if missing:
        raise DataError(f"expected the columns {', '.join(missing)}, was {', '.join(names)}", path=path)
