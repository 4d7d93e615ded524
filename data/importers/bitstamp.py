"""Bitstamp's order log: every order's creation, changes and deletion, trades, and pushed snapshots.

A line is our clock in ms, the name of the event, and its JSON. ``docs/importers/BITSTAMP.md`` says what
becomes of each. The log starts without a book, so it is read three times: `bitstamp_beginning` finds what
stood before in two passes, the third gives events.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ext.order_book import OrderBook

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import EventFlag, EventKind
from . import Verification
from .bitstamp_beginning import Beginning, Push, find_beginning, find_unchanging
from .bitstamp_lines import ORDER_EVENTS, SIDES, Order, Snapshot, Trade, parse_line, text_of
from .damage import DAMAGED_RULE, Damage, Twins
from .event_columns import EventColumns
from .feed_source import (
    FeedEvents,
    Pairs,
    chosen_symbol,
    counting_damage,
    in_order_of_name,
    read_heads,
    taken_lines,
    without_twins,
)
from .grid import Grid, OffGrid, instrument_of, of_each
from .stream_clocks import StreamClocks

PUSH_LAG_NS: Final = 100 * 10**6
"""How far a pushed book may lie behind the order events."""
REORDERED_RULE: Final = "an order must be created before it is deleted"
UNKNOWN_RULE: Final = "an order that changes or ends must have been created"
SIZE_RULE: Final = "an order must be created once and with a size"
GROWN_RULE: Final = "a change must lower an order"
UNTOLD_RULE: Final = "an order from before the log must have told its size"
_WORD: Final = re.compile(rb"order_(created|changed|deleted)|\b(trade|order_book)\b")
_CHANNEL: Final = re.compile(rb'"channel": ?"[a-z_]+_([a-z]+)"')
_ID: Final = re.compile(rb'"id": ?"?(\d{1,19})\b')


def observe(line: bytes, *, path: Path, row: int) -> tuple[str, str, Pairs] | None:
    """Say what a line holds, see `feed_source.Observer`; the log does not name its symbol."""
    _, _, market, name, record = parse_line(line, path=path, row=row)
    if record is None:
        return None
    if isinstance(record, Snapshot):
        return market, name, [*record.bids, *record.asks]
    return market, name, [(text_of(record.price), text_of(record.amount))]


class BitstampDecoder:
    """The log being read.

    Attributes
    ----------
    snapshot : Snapshot or None
        That the last line carried.
    reached_ns : int
        The latest time told.
    """

    def __init__(
        self,
        columns: EventColumns,
        left: LeftOut,
        *,
        market: str,
        beginning: Beginning,
        grid: Grid,
        strict: bool,
        others: frozenset[bytes] = frozenset(),
    ) -> None:
        self._columns, self._left, self._beginning, self._market = columns, left, beginning, market
        self._grid, self._strict, self._others = grid, strict, others
        self._markets = Twins([market], (name.decode() for name in others))
        self._names = Twins(ORDER_EVENTS)
        # What is left of each order, and how it was created.
        self._open: dict[int, tuple[int, Order]] = {}
        self._lost: list[int] = []
        self._doubted = self._started = False
        self.clocks = StreamClocks(left)
        self.snapshot: Snapshot | None = None

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self.snapshot = None
        ts_ns, recv_ns, market, name, record = parse_line(line, path=path, row=row)
        self._markets.require_other(market, path=path, row=row)
        self._names.require_other(name, path=path, row=row)
        if name == "" or (isinstance(record, Order) and market == "" != self._market):
            raise DataError("expected an event of a channel, was none", path=path, row=row)
        if market != self._market or (market and record is None):
            self._left.pass_over(
                f"{name[:40]} messages" if market == self._market else "messages of other markets"
            )
            return
        if ts_ns == 0:
            raise DataError("expected a time, of the venue or of receipt, was none", path=path, row=row)
        self._require(record, row)
        self.clocks.reach("log", ts_ns, path=path, row=row)
        if not self._started:
            self._start(recv_ns, path, row)
        if isinstance(record, Order):
            self._order(name, record, recv_ns, path, row)
        elif isinstance(record, Trade):
            self._columns.packet()
            self._columns.add(
                ((text_of(record.price), text_of(record.amount)),),
                ts_ns=self.reached_ns,
                recv_ns=recv_ns,
                row=row,
                is_checked=True,
                kind=EventKind.TRADE,
                side=0 if record.type is None else SIDES.get(record.type, 0),
            )
        elif isinstance(record, Snapshot):
            self.snapshot = record
            self._left.pass_over("pushed snapshots, used by verify")
        else:
            self._left.pass_over(f"{name[:20]} messages")

    @property
    def reached_ns(self) -> int:
        return self.clocks.reached("log")

    def time_of(self, line: bytes, *, path: Path, row: int) -> tuple[str, int] | None:
        told = parse_line(line, path=path, row=row)
        return ("log", told.ts_ns) if told.market == self._market and told.ts_ns else None

    def lost(self, line: bytes) -> None:
        """Take out the order that a refused line named; all of them where it no longer says which.

        An order whose creation is lost was never in the book, and later lines about it are rejected.
        """
        channel = _CHANNEL.search(line)
        if channel is not None and self._market and channel[1].upper() in self._others:
            return
        word, number = _WORD.search(line), _ID.search(line)
        if word is not None and word[1] not in (b"changed", b"deleted"):
            return
        if word is not None and number is not None and int(number[1]) in self._open:
            self._lost.append(int(number[1]))
        else:
            self._doubted = True

    def _require(self, record: Order | Trade | Snapshot | None, row: int) -> None:
        """Refuse numbers that no event can hold, before anything is changed."""
        if isinstance(record, Order | Trade):
            kind = EventKind.TRADE if isinstance(record, Trade) else EventKind.ADD
            self._columns.require(((text_of(record.price), text_of(record.amount)),), row=row, kind=kind)
        elif record is not None:
            for levels in (record.bids, record.asks):
                self._columns.require(levels, row=row)

    def _take_out(self, recv_ns: int, row: int) -> None:
        """Take what depended on refused lines out of the book."""
        if self._doubted:
            self._left.miss("the log, the book cleared behind each", "a line that no longer says what it was")
            self._columns.packet()
            self._columns.mark(ts_ns=self.reached_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR)
            self._open.clear()
        for number in self._lost:
            if number in self._open:
                lots, order = self._open.pop(number)
                self._columns.packet()
                self._put(EventKind.CANCEL, order, self._grid.size.text(lots), recv_ns, row)
        self._lost, self._doubted = [], False

    def _start(self, recv_ns: int, path: Path, row: int) -> None:
        """State the orders that stood before."""
        self._started = True
        self._columns.packet()
        ts_ns = self.reached_ns
        self._columns.mark(
            ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
        )
        for order in self._beginning.standing:
            try:
                self._require(order, row)
            except OffGrid:
                raise
            except DataError as error:
                self._left.reject(DAMAGED_RULE, raw={"id": order.id, "why": error.rule})
                continue
            lots = self._lots(order, path, row)
            if order.id in self._beginning.executed:
                lots += self._grid.lot_count(self._beginning.executed[order.id], path=path, row=row)
            if lots == 0:
                self._left.reject(UNTOLD_RULE, raw={"id": order.id, "price": text_of(order.price)})
                continue
            self._open[order.id] = lots, order
            self._put(
                EventKind.ADD, order, self._grid.size.text(lots), recv_ns, row, flags=EventFlag.SNAPSHOT
            )
        for side, ticks, lots in self._beginning.unchanging:
            self._columns.add(
                ((self._grid.price.text(ticks), self._grid.size.text(lots)),),
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.ADD,
                side=side,
                flags=EventFlag.SNAPSHOT,
            )

    def _order(self, name: str, order: Order, recv_ns: int, path: Path, row: int) -> None:
        if self._doubted or self._lost:
            self._take_out(recv_ns, row)
        if order.id in self._beginning.reordered:
            self._left.reject(REORDERED_RULE)
            return
        lots = self._lots(order, path, row)
        known = self._open[order.id][0] if order.id in self._open else None
        if name == "order_created":
            if known is not None or lots == 0:
                self._refuse(SIZE_RULE, path, row)
                return
            self._open[order.id] = lots, order
            kind, size = EventKind.ADD, text_of(order.amount)
        elif known is None:
            self._left.reject(UNKNOWN_RULE)
            return
        elif name == "order_deleted":
            del self._open[order.id]
            kind, size = EventKind.CANCEL, self._grid.size.text(known)
        elif lots == known:
            return
        elif not 0 < lots < known:
            self._refuse(GROWN_RULE, path, row)
            return
        else:
            self._open[order.id] = lots, order
            kind, size = EventKind.REDUCE, self._grid.size.text(known - lots)
        self._columns.packet()
        self._put(kind, order, size, recv_ns, row)

    def _put(self, kind: EventKind, order: Order, size: str, recv_ns: int, row: int, flags: int = 0) -> None:
        self._columns.add(
            ((text_of(order.price), size),),
            ts_ns=self.reached_ns,
            recv_ns=recv_ns,
            row=row,
            kind=kind,
            side=SIDES[order.order_type],
            flags=flags,
            order_id=order.id,
            is_checked=True,
        )

    def _lots(self, order: Order, path: Path, row: int) -> int:
        return self._grid.lot_count(text_of(order.amount), path=path, row=row)

    def _refuse(self, rule: str, path: Path, row: int) -> None:
        if self._strict:
            raise DataError(rule, path=path, row=row)
        self._left.reject(rule)

    def finish(self) -> None:
        self.snapshot = None

    def notes(self) -> tuple[str, ...]:
        found = (f"{len(self._beginning.standing):,} orders stood before the log, as far as it tells",)
        if not self._beginning.unchanging:
            return found
        return (
            *found,
            f"{len(self._beginning.unchanging):,} levels stood all along, as only the pushes tell",
        )


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> FeedEvents:
    """Open an order log, which does not name its symbol, so give one; or one market of a websocket dump."""
    files = in_order_of_name(paths)
    wanted = symbol.upper().replace("/", "").replace("-", "") if symbol else None
    heads = read_heads(files, observe)
    is_log = not heads.keys() - {""}
    if not is_log:
        heads.pop("", None)
        heads = heads if wanted is None or wanted in heads else read_heads(files, observe, wanted=wanted)
    market = "" if is_log else chosen_symbol(heads, wanted, path=files[0])
    if instrument is None:
        head = heads.get(market)
        instrument = instrument_of(
            market or symbol or "BTCUSD", head.prices if head else [], head.sizes if head else [],
            path=files[0], currency=market[-3:] or "USD",
        )  # fmt: skip
    grid, beginning = Grid.of(instrument), find_beginning(files, market)
    others = frozenset(name.encode() for name in without_twins(heads)) - {market.encode()}
    unchanging = find_unchanging(_pushes(files, market, beginning, grid), grid)
    beginning = replace(beginning, unchanging=unchanging)
    return FeedEvents(
        files,
        instrument=instrument,
        title="Bitstamp orders of",
        decoder=lambda columns, left: BitstampDecoder(
            columns, left, market=market, beginning=beginning, grid=grid, strict=strict, others=others
        ),
        strict=strict,
    )


def _pushes(files: Sequence[Path], market: str, beginning: Beginning, grid: Grid) -> Iterator[Push]:
    """Yield every push with the events since the one before."""
    left = LeftOut()
    columns = EventColumns(grid, left=left)
    decoder = BitstampDecoder(columns, left, market=market, beginning=beginning, grid=grid, strict=False)
    # What is damaged is counted when the events are read: here it is only passed over.
    damage = Damage(1.0)
    for path, row in taken_lines(files, decoder, columns, left, damage):
        if decoder.snapshot is not None:
            yield Push(path, row, columns.take(), decoder.snapshot)


def verify(paths: Sequence[Path]) -> Verification:
    """Compare both touches, price and size, with every pushed snapshot.

    A push names no event, and it comes on a channel of its own. It matches when a state that the book was in
    during the `PUSH_LAG_NS` before has the same touches, and no push goes back behind the one before it.
    """
    markets = sorted(without_twins(read_heads(in_order_of_name(paths), observe, whole=True))) or [""]
    found = of_each(
        markets,
        lambda market, instrument: open_source(paths, symbol=market or None, instrument=instrument),
        lambda _, source: (_compare(source), source.damage),
    )
    checks = [entry[0] for entry in found]
    check = Verification(
        matched=sum(check.matched for check in checks),
        total=sum(check.total for check in checks),
        what=checks[0].what,
        first_mismatch=next((check.first_mismatch for check in checks if check.first_mismatch), None),
        notes=tuple(note for check in checks for note in check.notes),
    )
    return counting_damage(check, (entry[1] for entry in found))


def _compare(source: FeedEvents) -> Verification:
    grid, book = Grid.of(source.instrument), OrderBook()
    # Each state with the time it ended; the last one stands.
    states: deque[tuple[int, tuple[int, ...]]] = deque()
    matched = total = behind = 0
    standing: tuple[int, ...] = (0, 0, 0, 0)
    first: str | None = None
    for path, row, events, decoder in source.packets():
        assert isinstance(decoder, BitstampDecoder)
        book.apply(events)
        touch = (book.bid_price_ticks, book.bid_size_lots, book.ask_price_ticks, book.ask_size_lots)
        if touch != standing:
            states.append((decoder.reached_ns, standing))
            standing = touch
        if decoder.snapshot is None:
            continue
        while states and states[0][0] < decoder.reached_ns - PUSH_LAG_NS:
            states.popleft()
        pushed = tuple(
            number
            for levels in (decoder.snapshot.bids, decoder.snapshot.asks)
            for number in (grid.level(levels[0], path=path, row=row) if levels else (0, 0))
        )
        total += 1
        place = next((at for at, state in enumerate(states) if state[1] == pushed), None)
        if standing == pushed:
            states.clear()
        elif place is not None:
            behind += 1
            for _ in range(place):
                states.popleft()
        else:
            first = first or f"{path}:row {row}: expected touch {pushed}, was {standing}"
            continue
        matched += 1
    return Verification(
        matched=matched,
        total=total,
        what="pushed snapshots with both touches equal",
        first_mismatch=first,
        notes=(
            *decoder.notes(),
            f"{behind:,} pushes show the book as it was up to {PUSH_LAG_NS // 10**6} ms before",
        ),
    )
