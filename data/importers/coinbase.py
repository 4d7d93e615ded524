"""Coinbase's websockets, recorded raw: books, trades and tickers of Exchange and of Advanced Trade.

The lines are those of `ws_dump`. ``docs/importers/COINBASE.md`` says what becomes of each message. The feed
carries no checksum; `verify` holds the book against the best bid and offer that tickers tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ext.order_book import OrderBook

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import RECV_NOT_RECORDED, EventFlag, EventKind
from . import Verification
from .coinbase_messages import Message, observe, pair_of, parse_line, time_ns
from .coinbase_orders import KINDS as ORDER_KINDS
from .coinbase_orders import SIDE, OrderFeed
from .event_columns import EventColumns
from .feed_source import FeedEvents, chosen_symbol, in_order_of_name, read_heads
from .grid import Grid, instrument_of, of_each

UNOPENED_RULE: Final = "an update must come after a snapshot"
UNTIMED_RULE: Final = "a snapshot must have a time, its own, of receipt, or of an update behind it"


class CoinbaseDecoder:
    """One product's book and trades.

    Parameters
    ----------
    orders : OrderFeed or None
        Keeps the book order by order, where the recording has the channel `full` and no `level2`.
    alone : bool
        No other product is recorded, so a REST book, which names none, is its own.

    Attributes
    ----------
    ticker : Message or None
        That the last line carried for this product.
    """

    def __init__(
        self,
        columns: EventColumns,
        left: LeftOut,
        *,
        product: str,
        strict: bool,
        orders: OrderFeed | None = None,
        alone: bool = True,
    ) -> None:
        self._columns, self._left, self._product, self._strict = columns, left, product, strict
        self._orders, self._alone = orders, alone
        self._started = False
        self._untimed: tuple[Message, int] | None = None
        self._last_line: int | None = None
        self.advanced = False
        self._reached_ns = {"level2": 0, "match": 0}
        self._last_trade: int | None = None
        self.ticker: Message | None = None

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self.ticker = None
        found = parse_line(line, path=path, row=row)
        if found is None:
            return
        if found.sequence_num is not None:
            self.advanced = True
            self._follow(found.sequence_num, path, row)
        for message in found.messages:
            self._message(message, found.recv_ns, path, row)

    def _follow(self, number: int, path: Path, row: int) -> None:
        """Compare the number of a message with the one before on its connection; 0 begins a new one."""
        expected = 0 if self._last_line is None else self._last_line + 1
        self._last_line = number
        if number in (0, expected) or expected == 0:
            return
        rule = f"expected {expected}, was {number}"
        if self._strict:
            raise DataError(f"sequence_num: {rule}", path=path, row=row)
        self._left.miss("sequence_num, which counts channels that were not recorded too", rule)

    def _message(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.type == "book" and self._alone and self._orders is not None:
            self._book(message, recv_ns, path, row)
        elif message.product_id != self._product:
            self._left.pass_over("messages of other products or none")
        elif self._orders is not None and message.type in (*ORDER_KINDS, "match"):
            self._order(self._orders, message, recv_ns, path, row)
        elif message.type == "snapshot":
            self._snapshot(message, recv_ns, path, row)
        elif message.type == "l2update":
            self._update(message, recv_ns, path, row)
        elif message.type == "match":
            self._match(message, recv_ns, path, row)
        else:
            self._left.pass_over(f"{message.type[:20]} messages")
            if message.type == "ticker":
                self.ticker = message

    def _order(self, orders: OrderFeed, message: Message, recv_ns: int, path: Path, row: int) -> None:
        """Take a message of the channel `full`."""
        if not orders.is_new(message, path, row):
            return
        if message.type == "match":
            ts_ns = self._reach("level2", time_ns(message, path=path, row=row))
            if not orders.execute(message, ts_ns=ts_ns, recv_ns=recv_ns, path=path, row=row):
                self._match(message, recv_ns, path, row)
            return
        ts_ns = self._reach("level2", time_ns(message, path=path, row=row))
        orders.take(message, ts_ns=ts_ns, recv_ns=recv_ns, path=path, row=row)

    def _book(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        """Begin with a REST book of level 3, which has no time of its own either."""
        assert self._orders is not None
        for level in (*message.bids, *message.asks):
            if len(level) != 3:
                raise DataError(
                    f"expected [price, size, order id], was {str(level)[:60]}", path=path, row=row
                )
        told_ns = max(self._reached_ns.values()) or recv_ns
        if told_ns == RECV_NOT_RECORDED:
            raise DataError("expected a time, of the venue or of receipt, was none", path=path, row=row)
        ts_ns = self._reach("level2", told_ns, expected_late=True)
        self._orders.book(message, ts_ns=ts_ns, recv_ns=recv_ns, path=path, row=row)

    def _snapshot(
        self, message: Message, recv_ns: int, path: Path, row: int, *, at_ns: int = RECV_NOT_RECORDED
    ) -> None:
        if message.time is not None:
            told_ns = time_ns(message, path=path, row=row)
        else:
            # Those of Exchange carry none: the last one the venue told, and before any, ours.
            told_ns = max(self._reached_ns.values()) or max(recv_ns, at_ns)
            if told_ns == RECV_NOT_RECORDED:
                # Nor is receipt recorded: that of the update behind it.
                self._untimed = (message, row)
                return
        ts_ns = self._reach("level2", told_ns, expected_late=True)
        self._started = True
        self._columns.packet()
        self._columns.mark(
            ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
        )
        for side, levels in ((1, message.bids), (-1, message.asks)):
            self._columns.add(
                [pair_of(level, path, row) for level in levels],
                ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.LEVEL, side=side,
                flags=EventFlag.SNAPSHOT,
            )  # fmt: skip

    def _update(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        told_ns = time_ns(message, path=path, row=row)
        if self._untimed is not None:
            (snapshot, place), self._untimed = self._untimed, None
            self._snapshot(snapshot, recv_ns, path, place, at_ns=told_ns)
        if not self._started:
            self._left.reject(UNOPENED_RULE)
            return
        ts_ns = self._reach("level2", told_ns)
        self._columns.packet()
        for side, price, size in message.changes:
            if side not in SIDE:
                raise DataError(f"side must be buy or sell, was {side[:20]!r}", path=path, row=row)
            self._columns.add(
                ((price, size),),
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.LEVEL,
                side=SIDE[side],
            )

    def _match(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.price is None or message.size is None or message.side not in SIDE:
            raise DataError("expected a match with price, size and side buy or sell", path=path, row=row)
        if self._last_trade is not None and message.trade_id is not None:
            missing = message.trade_id - self._last_trade - 1
            if missing:
                if self._strict:
                    raise DataError(
                        f"trade_id must be {self._last_trade + 1}, was {message.trade_id}", path=path, row=row
                    )
                self._left.miss("trade ids", f"expected {self._last_trade + 1}, was {message.trade_id}")
        self._last_trade = message.trade_id
        self._columns.packet()
        self._columns.add(
            ((message.price, message.size),),
            ts_ns=self._reach("match", time_ns(message, path=path, row=row)),
            recv_ns=recv_ns,
            row=row,
            kind=EventKind.TRADE,
            # The side told is the resting order's.
            side=-SIDE[message.side],
        )

    def _reach(self, stream: str, ts_ns: int, *, expected_late: bool = False) -> int:
        """Return the time, which never runs backwards within one channel."""
        if ts_ns < self._reached_ns[stream] and not expected_late:
            self._left.pass_over(f"{stream} times that ran backwards, raised to the time before")
        self._reached_ns[stream] = max(self._reached_ns[stream], ts_ns)
        return self._reached_ns[stream]

    def finish(self) -> None:
        self.ticker = None
        if self._untimed is not None:
            self._left.reject(UNTIMED_RULE)

    def notes(self) -> tuple[str, ...]:
        return ()


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> FeedEvents:
    """Open the book and trades of one product; with `strict` a gap in a sequence is an error."""
    files = in_order_of_name(paths)
    heads = read_heads(files, observe, wanted=symbol)
    book = heads.pop("", None)
    product = chosen_symbol(heads, symbol, path=files[0])
    head, alone = heads[product], len(heads) == 1
    by_order = "open" in head.kinds and not head.kinds & {"snapshot", "l2update"}
    if instrument is None:
        if alone and by_order and book is not None:
            head.prices, head.sizes = head.prices + book.prices, head.sizes + book.sizes
        instrument = instrument_of(
            product, head.prices, head.sizes, path=files[0], currency=product.rpartition("-")[2]
        )
    grid = Grid.of(instrument)

    def decoder(columns: EventColumns, left: LeftOut) -> CoinbaseDecoder:
        orders = OrderFeed(columns, left, grid=grid, strict=strict) if by_order else None
        return CoinbaseDecoder(columns, left, product=product, strict=strict, orders=orders, alone=alone)

    return FeedEvents(files, instrument=instrument, title="Coinbase", decoder=decoder)


def verify(paths: Sequence[Path]) -> Verification:
    """Compare the book's touch prices with the best bid and offer of every ticker.

    The first ticker of a product repeats the last trade before the subscription and is left out.
    """
    files = in_order_of_name(paths)
    products = sorted(read_heads(files, observe, whole=True).keys() - {""})
    found = of_each(
        products,
        lambda product, instrument: open_source(files, symbol=product, instrument=instrument),
        _compare,
    )
    return Verification(
        matched=sum(entry[0] for entry in found),
        total=sum(entry[1] for entry in found),
        what="tickers whose best bid and offer are the book's",
        first_mismatch=next((entry[3] for entry in found if entry[3]), None),
        notes=(
            f"products: {', '.join(products)}",
            f"{sum(entry[2] for entry in found)} tickers repeat a trade before the subscription",
        ),
    )


def _compare(product: str, source: FeedEvents) -> tuple[int, int, int, str | None]:
    """Return how many tickers match, of how many, those left out, and the first that does not match."""
    matched = total = repeated = 0
    first: str | None = None
    grid, book = Grid.of(source.instrument), OrderBook()
    for path, row, events, decoder in source.packets():
        assert isinstance(decoder, CoinbaseDecoder)
        book.apply(events)
        ticker = decoder.ticker
        if ticker is None or not ticker.best_bid or not ticker.best_ask:
            continue
        if not repeated and not decoder.advanced:
            repeated = 1
            continue
        told = tuple(
            grid.level((price, "0"), path=path, row=row)[0] for price in (ticker.best_bid, ticker.best_ask)
        )
        touch = (book.bid_price_ticks, book.ask_price_ticks)
        total += 1
        matched += touch == told
        if touch != told and first is None:
            first = f"{path}:row {row}: {product}: expected touch {told}, was {touch}"
    return matched, total, repeated, first
