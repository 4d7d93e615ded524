"""Any recording as a stream of events: what ``backtest(data=...)`` reads.

=========  ==========================================================  ============================
format     files                                                       events
=========  ==========================================================  ============================
quotes     Parquet or CSV with a time, bid, and ask or spread          QUOTE, two-sided
trades     Parquet or CSV with a time, price, size and perhaps side    TRADE, side of the aggressor
lobster    zip, either CSV of a pair, or a folder of pairs             ADD, EXECUTE, LEVEL, ...
store      a `TickStore` folder                                        as stored
events     ``.npy`` array of EVENT_DTYPE                               as stored
=========  ==========================================================  ============================

Quotes without recorded sizes show one lot on either side.
"""

from __future__ import annotations

import tokenize
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, NoReturn, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ext.event_array import first_illegal, packets_end

from . import columns as rule
from .errors import ConfigError, DataError
from .event_blocks import join_events
from .instrument import Instrument
from .manifest import MANIFEST_NAME
from .quarantine import LeftOut, Quarantine
from .quote_file import QuoteColumns, find_dialect, symbol_in
from .quotes import QuoteFiles, open_quotes
from .schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from .store import TickStore
from .table_file import CSV_SUFFIXES, PARQUET_SUFFIXES, file_sha256, files_sha256, open_table
from .trade_file import TradeFile, has_trades

_SEQ_MASK: Final = (1 << 32) - 1

NPY_ERRORS: Final = (
    ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError,
)  # fmt: skip
"""What numpy raises over a damaged ``.npy`` header, which it reads as Python."""


@runtime_checkable
class EventSource(Protocol):
    """One instrument's events in order of time."""

    @property
    def instrument(self) -> Instrument: ...
    @property
    def source(self) -> str:
        """What this is, for the headline of a report."""

    @property
    def data_hash(self) -> str:
        """SHA-256 of the files."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report should say about the input; complete once the blocks have been read."""

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield arrays of EVENT_DTYPE of about `block_events`; no packet spans two of them."""


def open_events(
    path: Path | str,
    *,
    format: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
    keep_crossed: bool = False,
) -> EventSource:
    """Open any supported recording.

    Parameters
    ----------
    path : path
    format : str, optional
        One of quotes, trades, lobster, store, events; told from names and contents if left out.
    instrument : Instrument, optional
        Instead of what the recording tells.
    strict : bool
        Make a crossed quote, or a size between lots, an error instead of leaving it out and counting it.
    keep_crossed : bool
        Let crossed quotes through, flagged CROSSED.

    Raises
    ------
    DataError
        The format cannot be told, or the files break its rules.
    """
    path = Path(path)
    name = format or sniff_format(path)
    if name not in ("quotes", "trades", *_OPENERS):
        raise ConfigError(f"format must be one of quotes, trades, {', '.join(_OPENERS)}, was {name!r}")
    if name == "quotes":
        quotes = open_quotes(path, strict=strict, instrument=instrument)
        return QuoteEvents(quotes, keep_crossed=keep_crossed)
    if name == "trades":
        return TradeEvents(TradeFile(path), instrument, strict=strict)
    return _OPENERS[name](path, instrument)


def sniff_format(path: Path) -> str:
    """Return the format of a file or folder, told by its name and its columns."""
    if path.is_dir():
        return _sniff_folder(path)
    if not path.is_file():
        raise DataError("expected an existing file or folder", path=path)
    name = path.name.lower()
    if name.endswith(".npy"):
        return "events"
    if name.endswith(".zip") or "_message_" in name or "_orderbook_" in name:
        return "lobster"
    if not name.endswith(PARQUET_SUFFIXES + CSV_SUFFIXES):
        raise DataError(f"expected {_EXPECTED}, was {path.name}", path=path)
    from .lobster_files import part_told_by

    if name.endswith(CSV_SUFFIXES) and part_told_by(path) is not None:
        return "lobster"
    table = open_table(path)
    quotes, trades = find_dialect(table) is not None, has_trades(table)
    if quotes and trades:
        raise DataError("columns fit both quotes and trades: say which with format=", path=path)
    if not quotes and not trades:
        listed = ", ".join(f"{column}: {kind}" for column, kind in table.types.items())
        raise DataError(f"expected {_EXPECTED}, was columns {listed}", path=path)
    return "quotes" if quotes else "trades"


_EXPECTED: Final = (
    "quotes (a time, bid, and ask or spread), trades (a time, price and size), a LOBSTER zip or pair, "
    "a tick store folder, or a .npy of events; import other recordings by the name of their format "
    "(`anytick data import --help`), other tables by a mapping (`anytick data sniff`)"
)


def _sniff_folder(path: Path) -> str:
    if (path / MANIFEST_NAME).is_file():
        return "store"
    if any("_message_" in entry.name for entry in path.glob("*.csv")):
        return "lobster"
    return "quotes"


class QuoteEvents:
    """Recorded quotes as QUOTE events."""

    def __init__(self, quotes: QuoteFiles, *, keep_crossed: bool = False) -> None:
        self.quotes = quotes
        self._keep_crossed = keep_crossed
        self.instrument = quotes.instrument
        self._sized = any(file.dialect.bid_size for file in quotes.files)

    @property
    def quarantine(self) -> Quarantine | None:
        """Where crossed quotes go that are left out."""
        return self.quotes.quarantine

    @quarantine.setter
    def quarantine(self, quarantine: Quarantine | None) -> None:
        self.quotes.quarantine = quarantine

    @property
    def source(self) -> str:
        return self.quotes.source

    @property
    def data_hash(self) -> str:
        return self.quotes.data_hash

    @property
    def notes(self) -> tuple[str, ...]:
        unsized = () if self._sized else ("sizes are not recorded: every quote shows one lot on either side",)
        return self.quotes.notes + unsized

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield one QUOTE event per quote."""
        row = 0
        for columns in self.quotes.columns(
            block_rows=block_events, sizes=True, keep_crossed=self._keep_crossed
        ):
            yield self._events(columns, row)
            row += len(columns.ts_ns)

    def _events(self, columns: QuoteColumns, row: int) -> NDArray[np.void]:
        events = np.zeros(len(columns.ts_ns), QUOTE_DTYPE)
        events["ts_ns"], events["recv_ns"] = columns.ts_ns, RECV_NOT_RECORDED
        events["bid_price_ticks"], events["ask_price_ticks"] = columns.bid_ticks, columns.ask_ticks
        for name, lots in (("bid_size", columns.bid_size), ("ask_size", columns.ask_size)):
            events[name + "_lots"] = 1 if lots is None else lots
        events["seq"] = (row + np.arange(len(events))) & _SEQ_MASK
        events["instrument_id"] = self.instrument.instrument_id
        events["kind"], events["flags"] = EventKind.QUOTE, EventFlag.LAST_IN_PACKET
        touching = columns.bid_ticks >= columns.ask_ticks
        events["flags"][touching] = EventFlag.LAST_IN_PACKET | EventFlag.CROSSED
        return events.view(EVENT_DTYPE)


class TradeEvents:
    """Recorded trades as TRADE events."""

    def __init__(self, file: TradeFile, instrument: Instrument | None, *, strict: bool = False) -> None:
        self.file, self._strict = file, strict
        self._left = LeftOut()
        self.quarantine: Quarantine | None = None
        self.instrument = instrument or Instrument(
            symbol=symbol_in(file.path.name) or file.path.name.partition(".")[0].upper(),
            price_increment=file.price_increment,
            lot_size=file.lot_size,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        return self._left.notes()

    @property
    def source(self) -> str:
        return f"trades of {self.instrument.symbol} in {self.file.path.name} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return file_sha256(self.file.path)

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield one TRADE event per trade."""
        self._left = LeftOut(self.quarantine)
        for columns in self.file.batches(
            price_increment=self.instrument.price_increment,
            lot_size=self.instrument.lot_size,
            batch_rows=block_events,
        ):
            events = np.zeros(len(columns.ts_ns), EVENT_DTYPE)
            events["ts_ns"], events["recv_ns"] = columns.ts_ns, RECV_NOT_RECORDED
            events["price_ticks"], events["size_lots"] = columns.price_ticks, columns.size_lots.lots
            events["side"] = columns.side
            events["seq"] = (columns.row + np.arange(len(events))) & _SEQ_MASK
            events["instrument_id"] = self.instrument.instrument_id
            events["kind"], events["flags"] = EventKind.TRADE, EventFlag.LAST_IN_PACKET
            for at, broken in columns.size_lots.bad():
                row, raw = columns.row + at, {"ts_ns": columns.ts_ns[at], "size": columns.size[at]}
                if self._strict:
                    raise DataError(f"{broken}, was {columns.size[at]}", path=self.file.path, row=row)
                self._left.reject(broken, file=self.file.path, row=row, raw=raw)
            good = columns.size_lots.good
            yield events if good.all() else events[good]


class StoreEvents:
    """The events of one instrument of a tick store, all venues merged."""

    def __init__(self, path: Path, instrument: Instrument | None) -> None:
        self.store = TickStore(path)
        self.instrument = instrument or self.store.instrument()
        self.notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        partitions = self.store.partitions(instrument=self.instrument.symbol)
        venues = ", ".join(sorted({partition.venue for partition in partitions}))
        days = sorted({partition.day for partition in partitions})
        when = f"{days[0]} to {days[-1]}" if days else "empty"
        return f"{self.instrument.symbol} on {venues}, {when}, tick store {self.store.root.name}"

    @property
    def venue_count(self) -> int:
        """One more than the highest number of a venue, of which the first events may show none."""
        numbers = self.store.manifest().venues
        partitions = self.store.partitions(instrument=self.instrument.symbol)
        return 1 + max((numbers[partition.venue] for partition in partitions), default=0)

    @cached_property
    def data_hash(self) -> str:
        partitions = self.store.partitions(instrument=self.instrument.symbol)
        return files_sha256(tuple(partition.path(self.store.root) for partition in partitions))

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield the stored events."""
        return whole_packets(self.store.stream(instrument=self.instrument.symbol, block_events=block_events))


class ArrayEvents:
    """Events from an ``.npy`` file, mapped rather than read."""

    def __init__(self, path: Path, instrument: Instrument | None) -> None:
        self.path = path
        try:
            self._events: NDArray[np.void] = np.load(path, mmap_mode="r", allow_pickle=False)
        except NPY_ERRORS as error:
            raise DataError(f"expected an .npy array, was: {error}", path=path) from error
        if self._events.dtype != EVENT_DTYPE or self._events.ndim != 1 or self._events.size == 0:
            raise DataError(
                f"expected a filled one-dimensional array of EVENT_DTYPE, was {self._events.dtype} of shape "
                f"{self._events.shape}",
                path=path,
            )
        self.instrument = instrument or Instrument(
            symbol=path.stem.upper(), instrument_id=int(self._events["instrument_id"][0])
        )
        self.notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return f"{len(self._events):,} events in {self.path.name}"

    @cached_property
    def data_hash(self) -> str:
        return file_sha256(self.path)

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield copies of the stored events, checked."""
        return whole_packets(self._stored(block_events))

    def _stored(self, block_events: int) -> Iterator[NDArray[np.void]]:
        previous_ns = np.iinfo(np.int64).min
        for row in range(0, len(self._events), block_events):
            # As bytes: numpy would copy records field by field, at ten times the price.
            piece = self._events[row : row + block_events].view(np.uint8)
            events: NDArray[np.void] = np.array(piece).view(EVENT_DTYPE)
            at = first_illegal(events, previous_ns)
            if at < len(events):
                self._refuse(events, at, row, previous_ns)
            previous_ns = int(events["ts_ns"][-1])
            yield events

    def _refuse(self, events: NDArray[np.void], at: int, row: int, previous_ns: int) -> NoReturn:
        before_ns = int(events["ts_ns"][at - 1]) if at else previous_ns
        if events["ts_ns"][at] < before_ns:
            rule.require_ascending(events["ts_ns"][at:], before_ns, path=self.path, row=row + at)
        raise DataError(
            f"kind must be 1 to 9 and side -1, 0 or 1, was {events['kind'][at]} and {events['side'][at]}",
            path=self.path,
            row=row + at,
        )


def whole_packets(blocks: Iterator[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
    """Cut blocks so that each ends where a packet ends."""
    held = np.empty(0, EVENT_DTYPE)
    for block in blocks:
        cut = packets_end(block)
        if cut:
            yield join_events((held, block[:cut])) if len(held) else block[:cut]
            held = block[cut:]
        else:
            held = join_events((held, block))
    if len(held):
        yield held


def _open_lobster(path: Path, instrument: Instrument | None) -> EventSource:
    from .lobster import open_lobster

    return open_lobster(path, instrument=instrument)


_OPENERS: Final[dict[str, Callable[[Path, Instrument | None], EventSource]]] = {
    "lobster": _open_lobster,
    "store": lambda path, instrument: StoreEvents(path, instrument),
    "events": lambda path, instrument: ArrayEvents(path, instrument),
}
