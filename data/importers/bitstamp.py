"""Bitstamp's order log: every order's creation, changes and deletion, trades, and pushed snapshots.

A line is our clock in ms, the name of the event, and its JSON. ``docs/importers/BITSTAMP.md`` says what
becomes of each. The log starts without a book, so the file is read twice: the first pass finds the orders
that stood before it (they are changed or deleted without having been created), the second gives events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ext.decimal_text import decimal_units
from ext.order_book import OrderBook

from ..errors import DataError
from ..instrument import Instrument
from ..schema import EventFlag, EventKind
from . import Verification
from .event_columns import EventColumns
from .feed_source import FeedEvents, Pairs, in_order_of_name, read_heads, require_time
from .grid import Grid, instrument_of
from .json_lines import JsonRecords
from .text_lines import lines

_LINE: Final = re.compile(rb"(\d{13}) (\w{1,40}) (\{.*)", re.DOTALL)
_SIDE: Final = {0: 1, 1: -1}
_ORDER_EVENTS: Final = ("order_created", "order_changed", "order_deleted")
# Ids from 2^63 up are ours.
_ID_MAX: Final = (1 << 63) - 1


class Order(msgspec.Struct):
    """An order event; price and amount as text, also where they are written as numbers."""

    id: int
    order_type: int
    price: msgspec.Raw
    amount: msgspec.Raw


class Trade(msgspec.Struct):
    """A trade; newer feeds name the aggressor's side."""

    price: msgspec.Raw
    amount: msgspec.Raw
    type: int | None = None


class Snapshot(msgspec.Struct):
    """The best levels, best first, as the venue pushed them."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


_ORDERS: Final = JsonRecords(Order)
_TRADES: Final = JsonRecords(Trade)
_SNAPSHOTS: Final = JsonRecords(Snapshot)

Record = tuple[int, str, Order | Trade | Snapshot | None]


def parse_line(line: bytes, *, path: Path, row: int) -> Record:
    """Return (our clock in ns, event name, record); the record of an unknown event is None."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise DataError(f"expected 'milliseconds event {{...}}', was {line[:60]!r}", path=path, row=row)
    recv_ns = require_time(int(match[1]) * 1_000_000, path=path, row=row)
    name = match[2].decode()
    if name in _ORDER_EVENTS:
        order = _ORDERS.decode(match[3], path=path, row=row)
        if order.order_type not in _SIDE or not 0 < order.id <= _ID_MAX:
            raise DataError(
                f"expected order_type 0 or 1 and a positive id, was {order.order_type} and {order.id}",
                path=path,
                row=row,
            )
        return recv_ns, name, order
    if name == "trade":
        return recv_ns, name, _TRADES.decode(match[3], path=path, row=row)
    if name == "order_book":
        return recv_ns, name, _SNAPSHOTS.decode(match[3], path=path, row=row)
    return recv_ns, name, None


def _text(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode("utf-8", "replace")
    if text.startswith('"'):
        return text.strip('"')
    try:
        # Trades carry numbers printed from doubles (236.61000000000001): the shortest of the same double.
        return repr(float(text))
    except ValueError:
        return text


def _same_number(left: msgspec.Raw, right: msgspec.Raw) -> bool:
    units, good = decimal_units([_text(left), _text(right)], 8)
    return good == 2 and bool(units[0] == units[1])


def observe(line: bytes, *, path: Path, row: int) -> tuple[str, str, Pairs] | None:
    """Say what a line holds, see `feed_source.Observer`; the log does not name its symbol."""
    _, name, record = parse_line(line, path=path, row=row)
    if record is None:
        return None
    if isinstance(record, Snapshot):
        return "", name, [*record.bids, *record.asks]
    return "", name, [(_text(record.price), _text(record.amount))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What the first pass found.

    Parameters
    ----------
    standing : list of Order
        Seen without having been created, as first seen.
    executed : dict of int to str
        What the trade behind their first event took of them, by id.
    reordered : frozenset of int
        Ids whose deletion was logged before their creation.
    """

    standing: list[Order]
    executed: dict[int, str]
    reordered: frozenset[int]


def find_beginning(paths: Sequence[Path]) -> Beginning:
    """Find the orders that stood before the log, and those whose events are logged in the wrong order."""
    live: set[int] = set()
    unknown: dict[int, Order] = {}
    reordered: set[int] = set()
    executed: dict[int, str] = {}
    # The unknown order that the next trade is about: fills are logged before their trade.
    lowered: Order | None = None
    first_id: int | None = None
    for path in paths:
        for row, line in lines(path):
            _, name, record = parse_line(line, path=path, row=row)
            if isinstance(record, Trade) and lowered is not None:
                if _same_number(record.price, lowered.price):
                    executed.setdefault(lowered.id, _text(record.amount))
                lowered = None
            if not isinstance(record, Order):
                continue
            if name == "order_created":
                first_id = record.id if first_id is None else first_id
                if unknown.pop(record.id, None) is not None:
                    reordered.add(record.id)
                else:
                    live.add(record.id)
            elif record.id not in live and record.id not in unknown:
                unknown[record.id] = record
                if name == "order_changed" or not _text(record.amount).strip("0."):
                    lowered = record
            if name == "order_deleted":
                live.discard(record.id)
    # Ids grow, so one above the first created is an order whose creation the log lost, mostly a market order.
    standing = [order for order in unknown.values() if first_id is None or order.id < first_id]
    return Beginning(standing=standing, executed=executed, reordered=frozenset(reordered))


class BitstampDecoder:
    """The log being read.

    Attributes
    ----------
    snapshot : Snapshot or None
        That the last line carried.
    """

    def __init__(self, columns: EventColumns, *, beginning: Beginning, grid: Grid, strict: bool) -> None:
        self._columns, self._beginning, self._grid, self._strict = columns, beginning, grid, strict
        self._open: dict[int, int] = {}
        self._started = False
        self._reached_ns = 0
        self._left: Counter[str] = Counter()
        self.snapshot: Snapshot | None = None

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self.snapshot = None
        recv_ns, name, record = parse_line(line, path=path, row=row)
        if recv_ns < self._reached_ns:
            self._left["times that ran backwards, raised to the time before"] += 1
        self._reached_ns = max(self._reached_ns, recv_ns)
        if not self._started:
            self._start(path, row)
        if isinstance(record, Order):
            self._order(name, record, recv_ns, path, row)
        elif isinstance(record, Trade):
            self._columns.packet()
            self._columns.add(
                ((_text(record.price), _text(record.amount)),),
                ts_ns=self._reached_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.TRADE,
                side=0 if record.type is None else _SIDE.get(record.type, 0),
            )
        elif isinstance(record, Snapshot):
            self.snapshot = record
            self._left["pushed snapshots, used by verify"] += 1
        else:
            self._left[f"{name[:20]} messages"] += 1

    def _start(self, path: Path, row: int) -> None:
        """State the orders that stood before."""
        self._started = True
        self._columns.packet()
        ts_ns = self._reached_ns
        self._columns.mark(
            ts_ns=ts_ns, recv_ns=ts_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
        )
        for order in self._beginning.standing:
            lots = self._lots(order, path, row)
            if order.id in self._beginning.executed:
                lots += self._grid.lot_count(self._beginning.executed[order.id], path=path, row=row)
            if lots == 0:
                self._left["orders from before the log whose size was never told"] += 1
                continue
            self._open[order.id] = lots
            self._put(EventKind.ADD, order, self._grid.size.text(lots), ts_ns, row, flags=EventFlag.SNAPSHOT)

    def _order(self, name: str, order: Order, recv_ns: int, path: Path, row: int) -> None:
        if order.id in self._beginning.reordered:
            self._left["events of orders logged as deleted before created"] += 1
            return
        lots = self._lots(order, path, row)
        known = self._open.get(order.id)
        if name == "order_created":
            if known is not None or lots == 0:
                self._refuse("orders created twice or without a size", path, row)
                return
            self._open[order.id] = lots
            kind, size = EventKind.ADD, _text(order.amount)
        elif known is None:
            self._left["changes and deletions of orders unknown"] += 1
            return
        elif name == "order_deleted":
            del self._open[order.id]
            kind, size = EventKind.CANCEL, self._grid.size.text(known)
        elif lots == known:
            return
        elif not 0 < lots < known:
            self._refuse("changes that do not lower an order", path, row)
            return
        else:
            self._open[order.id] = lots
            kind, size = EventKind.REDUCE, self._grid.size.text(known - lots)
        self._columns.packet()
        self._put(kind, order, size, recv_ns, row)

    def _put(self, kind: EventKind, order: Order, size: str, recv_ns: int, row: int, flags: int = 0) -> None:
        self._columns.add(
            ((_text(order.price), size),),
            ts_ns=self._reached_ns,
            recv_ns=recv_ns,
            row=row,
            kind=kind,
            side=_SIDE[order.order_type],
            flags=flags,
            order_id=order.id,
        )

    def _lots(self, order: Order, path: Path, row: int) -> int:
        return self._grid.lot_count(_text(order.amount), path=path, row=row)

    def _refuse(self, what: str, path: Path, row: int) -> None:
        if self._strict:
            raise DataError(f"expected none of the {what}, was one", path=path, row=row)
        self._left[what] += 1

    def finish(self) -> None:
        self.snapshot = None

    def notes(self) -> tuple[str, ...]:
        standing = f"{len(self._beginning.standing):,} orders stood before the log, as far as it tells"
        return (standing, *(f"{count:,} {what}" for what, count in sorted(self._left.items())))


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> FeedEvents:
    """Open an order log; it does not name its symbol, so give one."""
    files = in_order_of_name(paths)
    if instrument is None:
        head = read_heads(files, observe).get("")
        instrument = instrument_of(
            symbol or "BTCUSD", head.prices if head else [], head.sizes if head else [], path=files[0]
        )
    grid, beginning = Grid.of(instrument), find_beginning(files)
    return FeedEvents(
        files,
        instrument=instrument,
        title="Bitstamp orders of",
        decoder=lambda columns: BitstampDecoder(columns, beginning=beginning, grid=grid, strict=strict),
    )


def verify(paths: Sequence[Path]) -> Verification:
    """Compare both touches, price and size, with every pushed snapshot."""
    source = open_source(paths)
    grid, book = Grid.of(source.instrument), OrderBook()
    matched = total = 0
    first: str | None = None
    for path, row, events, decoder in source.packets():
        assert isinstance(decoder, BitstampDecoder)
        book.apply(events)
        if decoder.snapshot is None:
            continue
        touch = (book.bid_price_ticks, book.bid_size_lots, book.ask_price_ticks, book.ask_size_lots)
        pushed = tuple(
            number
            for levels in (decoder.snapshot.bids, decoder.snapshot.asks)
            for number in (grid.level(levels[0], path=path, row=row) if levels else (0, 0))
        )
        total += 1
        matched += touch == pushed
        if touch != pushed and first is None:
            first = f"{path}:row {row}: expected touch {pushed}, was {touch}"
    return Verification(
        matched=matched,
        total=total,
        what="pushed snapshots with both touches equal",
        first_mismatch=first,
        notes=("the log starts without a book: orders from before it are known only once they change",),
    )
