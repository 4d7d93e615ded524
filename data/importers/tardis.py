"""Tardis CSV files: incremental_book_L2, trades and quotes, plain or gz.

``docs/importers/TARDIS.md`` says what becomes of each column. Files of several kinds are merged by venue
time. Numbers are read as text and become integers exactly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ext.order_book import OrderBook

from ..columns import PRICE_TICKS_MAX, TS_NS_MAX
from ..errors import DataError
from ..event_merge import merge_feeds
from ..instrument import Instrument
from ..quarantine import LeftOut, Quarantine
from ..ragged_rows import COLUMNS_RULE, RaggedRows
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind
from ..table_file import CsvTable, files_sha256
from . import Verification
from .event_columns import QUOTE_SIZE_LOTS_MAX, SEQ_MASK
from .feed_source import Head, chosen_symbol, in_order_of_name
from .grid import SAMPLED_MAX, SIZE_LOTS_MAX, Grid, instrument_of, is_plain

_TEXT: Final = pa.string()
_COMMON: Final = {"symbol": _TEXT, "timestamp": _TEXT, "local_timestamp": _TEXT}
_COLUMNS: Final = {
    "book": {**_COMMON, "is_snapshot": _TEXT, "side": _TEXT, "price": _TEXT, "amount": _TEXT},
    "trades": {**_COMMON, "id": _TEXT, "side": _TEXT, "price": _TEXT, "amount": _TEXT},
    "quotes": {
        **_COMMON, "bid_price": _TEXT, "bid_amount": _TEXT, "ask_price": _TEXT, "ask_amount": _TEXT,
    },
}  # fmt: skip
_SIDES: Final = {
    "book": {"bid": 1, "ask": -1},
    "trades": {"buy": 1, "sell": -1, "unknown": 0, "": 0},
}
TIME_RULE: Final = "times must lie between 1970 and 2200 in µs"
PRICE_RULE: Final = f"prices must be multiples of the price increment, at most {PRICE_TICKS_MAX} of it"
SIZE_RULE: Final = "sizes must be multiples of the lot size, from 0 up"
SIDE_RULE: Final = "side must be bid, ask, buy, sell, unknown or empty, as the file's kind has it"
SNAPSHOT_RULE: Final = "is_snapshot must be true or false"
_BATCH_ROWS: Final = 65_536
_STATE_EVENTS_MAX: Final = 4_096
_US: Final = 1_000
_MICROS: Final = re.compile(r"\d{1,18}", re.ASCII)
_BOOK_KINDS: Final = (EventKind.LEVEL, EventKind.CLEAR)


class TardisFile:
    """One CSV file of one kind, told by its columns.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path, self._table = path, CsvTable(path, is_ragged=True)
        names = set(self._table.types)
        kinds = [kind for kind, columns in _COLUMNS.items() if columns.keys() <= names]
        if len(kinds) != 1:
            raise DataError(
                "expected the columns of incremental_book_L2, trades or quotes, "
                f"was {', '.join(sorted(names))}",
                path=path,
            )
        self.kind = kinds[0]

    def batches(self, ragged: RaggedRows | None = None) -> Iterator[tuple[int, Any]]:
        """Yield (row of the first, record batch of the kind's columns)."""
        return self._table.batches(
            self._table.sections[0], _COLUMNS[self.kind], batch_rows=_BATCH_ROWS, ragged=ragged
        )

    def symbols(self) -> set[str]:
        """Return every symbol that a row has."""
        found: set[str] = set()
        for _, batch in self._table.batches(
            self._table.sections[0], {"symbol": _TEXT}, batch_rows=_BATCH_ROWS
        ):
            # Of files joined end to end, the header comes again.
            found.update(name for name in batch.column(0).unique().to_pylist() if name not in ("", "symbol"))
        return found

    def prices_and_sizes(self) -> list[tuple[str, str]]:
        """Return the columns that hold numbers, in pairs."""
        if self.kind == "quotes":
            return [("bid_price", "bid_amount"), ("ask_price", "ask_amount")]
        return [("price", "amount")]


class TardisEvents(PiecewiseSource):
    """The events of one symbol's files."""

    def __init__(
        self, files: Sequence[TardisFile], *, symbol: str, instrument: Instrument, strict: bool
    ) -> None:
        self.files, self.symbol, self.instrument, self._strict = tuple(files), symbol, instrument, strict
        self.notes: tuple[str, ...] = ()
        self.quarantine: Quarantine | None = None

    @property
    def source(self) -> str:
        return f"Tardis {self.symbol} in {', '.join(file.path.name for file in self.files)} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(tuple(file.path for file in self.files))

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield events in order of venue time; at one instant the book comes first."""
        left = LeftOut(self.quarantine)
        kinds = [kind for kind in _COLUMNS if any(file.kind == kind for file in self.files)]
        feeds = [_Feed(kind, self.symbol, self.instrument, left=left, strict=self._strict) for kind in kinds]
        if len(feeds) == 1:
            yield from feeds[0].marked(self.files, place)
        else:
            files = ([file for file in self.files if file.kind == kind] for kind in kinds)
            merged = merge_feeds([feed.events(own) for feed, own in zip(feeds, files, strict=True)])
            yield from ((events, None) for events in merged)
        self.notes = left.notes()


class _Feed:
    """The files of one kind, one after another."""

    def __init__(
        self, kind: str, symbol: str, instrument: Instrument, *, left: LeftOut, strict: bool
    ) -> None:
        self._kind, self._symbol, self._instrument = kind, symbol, instrument
        self._grid, self._left, self._strict = Grid.of(instrument), left, strict
        self._reached_ns = 0
        self._in_snapshot = False
        self._held = np.empty(0, EVENT_DTYPE)
        self._path = Path()

    def events(self, files: Sequence[TardisFile]) -> Iterator[NDArray[np.void]]:
        return (events for events, _ in self.marked(files, None) if len(events))

    def marked(self, files: Sequence[TardisFile], place: Place | None) -> Iterator[Marked]:
        """Yield events from a row on, each array with the row behind it."""
        begin = place or {"file": 0, "row": 0}
        if place is not None:
            self._go_on(place)
        for number in range(begin["file"], len(files)):
            self._path, first_row = files[number].path, begin["row"] if number == begin["file"] else 0
            for row, batch in files[number].batches(self._ragged(first_row)):
                # Rows are found, but not converted again.
                if row < first_row:
                    continue
                stop = row + batch.num_rows
                mine = np.flatnonzero(
                    np.array([name == self._symbol for name in batch.column("symbol").to_pylist()])
                )
                self._left.pass_over("rows of other symbols", batch.num_rows - len(mine))
                if len(mine) < batch.num_rows:
                    batch = batch.take(pa.array(mine))
                if batch.num_rows:
                    yield self._packets(self._convert(batch, mine + row)), self._place(number, stop)
        held, self._held = self._held, np.empty(0, EVENT_DTYPE)
        held["flags"][-1:] |= np.uint8(EventFlag.LAST_IN_PACKET)
        yield held, None

    def _place(self, file: int, row: int) -> Place | None:
        if len(self._held) > _STATE_EVENTS_MAX:
            return None
        return {
            "file": file, "row": row, "reached_ns": self._reached_ns, "in_snapshot": self._in_snapshot,
            "held": self._held.tolist(), "left": self._left.state(),
        }  # fmt: skip

    def _go_on(self, place: Place) -> None:
        self._reached_ns, self._in_snapshot = place["reached_ns"], place["in_snapshot"]
        self._held = np.array([tuple(event) for event in place["held"]], EVENT_DTYPE)
        self._left.go_on(place["left"])

    def _packets(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """Mark where the receive time changes: rows of one message share it. The last packet may go on."""
        joined = np.concatenate((self._held, events))
        ends = np.flatnonzero(joined["recv_ns"][1:] != joined["recv_ns"][:-1])
        joined["flags"][ends] |= np.uint8(EventFlag.LAST_IN_PACKET)
        cut = int(ends[-1]) + 1 if len(ends) else 0
        self._held = joined[cut:].copy()
        return joined[:cut]

    def _convert(self, batch: Any, rows: NDArray[np.int64]) -> NDArray[np.void]:
        judged = _Judged(batch, rows)
        ts_ns = self._stamps(batch, "timestamp", judged)
        recv_ns = self._stamps(batch, "local_timestamp", judged)
        if self._kind == "quotes":
            events = self._quotes(batch, judged)
        else:
            events = np.zeros(len(rows), EVENT_DTYPE)
            events["kind"] = EventKind.LEVEL if self._kind == "book" else EventKind.TRADE
            events["side"] = self._sides(batch, judged)
            events["price_ticks"] = self._ticks(batch, "price", judged)
            events["size_lots"] = self._lots(batch, "amount", judged, limit=SIZE_LOTS_MAX)
        snapshot = self._snapshot_rows(batch, judged) if self._kind == "book" else None
        events["seq"] = rows & SEQ_MASK
        events["instrument_id"] = self._instrument.instrument_id
        good = judged.good
        if not good.all():
            for at in np.flatnonzero(~good).tolist():
                raw = {name: batch.column(name)[at].as_py() for name in batch.schema.names}
                self._reject(judged.rules[judged.broken[at]], int(judged.rows[at]), raw)
            events, ts_ns, recv_ns = events[good], ts_ns[good], recv_ns[good]
        events["ts_ns"], events["recv_ns"] = self._ascending(ts_ns, rows[good]), recv_ns
        return events if snapshot is None else self._with_clears(events, snapshot[good])

    def _ragged(self, first_row: int) -> RaggedRows:
        return RaggedRows(
            self._path,
            reject=lambda row, text: self._reject(COLUMNS_RULE, row, {"line": text}),
            share_max=self._left.damaged_share_max,
            first_row=first_row,
        )

    def _reject(self, rule: str, row: int, raw: dict[str, Any]) -> None:
        if self._strict:
            raise DataError(f"{rule}, was {raw}", path=self._path, row=row)
        self._left.reject(rule, file=self._path, row=row, raw=raw)

    def _snapshot_rows(self, batch: Any, judged: _Judged) -> NDArray[np.bool_]:
        words = [text.lower() for text in _texts(batch, "is_snapshot")]
        judged.require(np.array([word in ("true", "false") for word in words], bool), SNAPSHOT_RULE)
        return np.array([word == "true" for word in words], bool)

    def _with_clears(self, events: NDArray[np.void], snapshot: NDArray[np.bool_]) -> NDArray[np.void]:
        """Empty the book where a snapshot begins."""
        if len(events) == 0:
            return events
        events["flags"][snapshot] |= np.uint8(EventFlag.SNAPSHOT)
        place = np.flatnonzero(snapshot & ~np.concatenate(([self._in_snapshot], snapshot[:-1])))
        self._in_snapshot = bool(snapshot[-1])
        clears = events[place].copy()
        clears["kind"], clears["side"], clears["price_ticks"], clears["size_lots"] = EventKind.CLEAR, 0, 0, 0
        joined: NDArray[np.void] = np.insert(events, place, clears)
        return joined

    def _quotes(self, batch: Any, judged: _Judged) -> NDArray[np.void]:
        quotes = np.zeros(len(judged.rows), QUOTE_DTYPE)
        for side in ("bid", "ask"):
            quotes[f"{side}_price_ticks"] = self._ticks(batch, f"{side}_price", judged)
            quotes[f"{side}_size_lots"] = self._lots(
                batch, f"{side}_amount", judged, limit=QUOTE_SIZE_LOTS_MAX
            )
        quotes["kind"] = EventKind.QUOTE
        both = (quotes["bid_size_lots"] > 0) & (quotes["ask_size_lots"] > 0)
        touching = both & (quotes["bid_price_ticks"] >= quotes["ask_price_ticks"])
        quotes["flags"][touching] = EventFlag.CROSSED
        return quotes.view(EVENT_DTYPE)

    def _ticks(self, batch: Any, name: str, judged: _Judged) -> NDArray[np.int64]:
        ticks, known = self._grid.price.judged_units(self._numbers(batch, name), limit=PRICE_TICKS_MAX)
        judged.require(known, PRICE_RULE)
        return ticks

    def _lots(self, batch: Any, name: str, judged: _Judged, *, limit: int) -> NDArray[np.int64]:
        lots, known = self._grid.size.judged_units(self._numbers(batch, name), limit=limit)
        judged.require(known & (lots >= 0), SIZE_RULE)
        return lots

    def _numbers(self, batch: Any, name: str) -> list[str]:
        """Return a column's texts; a side of a quote may be empty."""
        texts = _texts(batch, name)
        return [text or "0" for text in texts] if self._kind == "quotes" else texts

    def _sides(self, batch: Any, judged: _Judged) -> NDArray[np.int8]:
        known, texts = _SIDES[self._kind], _texts(batch, "side")
        judged.require(np.array([text in known for text in texts], bool), SIDE_RULE)
        return np.array([known.get(text, 0) for text in texts], np.int8)

    def _stamps(self, batch: Any, name: str, judged: _Judged) -> NDArray[np.int64]:
        micros = _whole_numbers(batch.column(name))
        known = (micros >= 0) & (micros <= TS_NS_MAX // _US)
        judged.require(known, TIME_RULE)
        return np.where(known, micros, 0) * _US

    def _ascending(self, ts_ns: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        reached = np.maximum.accumulate(np.concatenate(([self._reached_ns], ts_ns)))
        late = ts_ns < reached[:-1]
        if late.any() and self._strict:
            at = int(np.argmax(late))
            raise DataError(
                f"time must not run backwards: expected at least {reached[at]} ns, was {ts_ns[at]}",
                path=self._path,
                row=int(rows[at]),
            )
        self._left.pass_over(
            f"{self._kind} times that ran backwards, raised to the time before", int(late.sum())
        )
        self._reached_ns = int(reached[-1])
        return reached[1:]


class _Judged:
    """Which rows of a batch are good so far, and the first rule that each bad one broke."""

    def __init__(self, batch: Any, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self.good = np.ones(batch.num_rows, bool)
        self.broken = np.zeros(batch.num_rows, np.int64)
        self.rules = (TIME_RULE, PRICE_RULE, SIZE_RULE, SIDE_RULE, SNAPSHOT_RULE)

    def require(self, holds: NDArray[np.bool_], rule: str) -> None:
        self.broken[self.good & ~holds] = self.rules.index(rule)
        self.good &= holds


def _whole_numbers(column: Any) -> NDArray[np.int64]:
    """Return a column of texts as numbers, -1 for what is none."""
    try:
        found: NDArray[np.int64] = column.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        texts = ((text or "").strip() for text in column.to_pylist())
        return np.array([int(text) if _MICROS.fullmatch(text) else -1 for text in texts], np.int64)
    return found


def _texts(batch: Any, name: str) -> list[str]:
    return [text or "" for text in batch.column(name).to_pylist()]


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> TardisEvents:
    """Open the files of one symbol: any of book, trades and quotes, any number of days."""
    files = [TardisFile(path) for path in in_order_of_name(paths)]
    prices: list[str] = []
    sizes: list[str] = []
    symbols: Counter[str] = Counter()
    for file in files:
        batch, names = None, []
        for _, batch in file.batches():
            batch = batch.slice(0, SAMPLED_MAX)
            names = batch.column("symbol").to_pylist()
            symbols.update(name for name in names if name)
            # Its first row may come late; an unknown symbol is looked for to the end.
            if symbol is None or symbol in names:
                break
        if batch is None:
            continue
        chosen = np.array([symbol is None or name == symbol for name in names], bool)
        for price, size in file.prices_and_sizes():
            prices += [text for text in _chosen(batch, price, chosen) if text and is_plain(text)]
            sizes += [text for text in _chosen(batch, size, chosen) if text and is_plain(text)]
    heads = {name: Head(messages=count) for name, count in symbols.items() if name != "symbol"}
    symbol = chosen_symbol(heads, symbol, path=files[0].path)
    if instrument is None:
        instrument = instrument_of(symbol, prices, sizes, path=files[0].path)
    return TardisEvents(files, symbol=symbol, instrument=instrument, strict=strict)


def _chosen(batch: Any, name: str, chosen: NDArray[np.bool_]) -> list[str | None]:
    texts: list[str | None] = batch.column(name).filter(pa.array(chosen)).to_pylist()
    return texts


def verify(paths: Sequence[Path]) -> Verification:
    """Count, over all symbols, the messages that break no rule and leave the book uncrossed."""
    files = [TardisFile(path) for path in in_order_of_name(paths)]
    matched = total = 0
    firsts: list[str] = []
    symbols = sorted({name for file in files for name in file.symbols()})
    for symbol in symbols:
        source, book = open_source(paths, symbol=symbol), OrderBook()
        source.quarantine = quarantine = Quarantine()
        for events in source.blocks():
            before = book.crossed
            book.apply(np.ascontiguousarray(events[np.isin(events["kind"], _BOOK_KINDS)]))
            total += int((events["flags"] & EventFlag.LAST_IN_PACKET != 0).sum())
            if book.crossed > before:
                firsts.append(f"{symbol}: crossed within rows {events['seq'][0]} to {events['seq'][-1]}")
        matched, total = matched - book.crossed, total + quarantine.total
        matched -= quarantine.total
        firsts += [f"{symbol}: {note}" for note in source.notes if "rejected" in note]
    return Verification(
        matched=matched + total,
        total=total,
        what="messages that keep the rules, with an uncrossed book",
        first_mismatch=f"{files[0].path}: {firsts[0]}" if firsts else None,
        notes=(f"symbols: {', '.join(symbols)}",),
    )
