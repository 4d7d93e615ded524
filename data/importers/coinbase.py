"""Coinbase's websockets, recorded raw: books, trades and tickers of Exchange and of Advanced Trade.

The lines are those of `ws_dump`. ``docs/importers/COINBASE.md`` says what becomes of each message. The feed
carries no checksum; `verify` holds the book against the best bid and offer that tickers tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ext.order_book import OrderBook

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import RECV_NOT_RECORDED, EventFlag, EventKind
from . import Verification
from .coinbase_messages import UNNAMED, Message, observe, pair_of, parse_line, time_ns
from .coinbase_orders import KINDS as ORDER_KINDS
from .coinbase_orders import SIDE, OrderFeed
from .damage import Damage, Twins, WildNumber
from .event_columns import EventColumns
from .feed_source import (
    FeedEvents,
    chosen_symbol,
    counting_damage,
    in_order_of_name,
    read_heads,
    without_twins,
)
from .grid import Grid, instrument_of, of_each
from .stream_clocks import StreamClocks

UNOPENED_RULE: Final = "an update must come after a snapshot"
TRADE_ID_RULE: Final = "a trade must have an id above those before"
UNTIMED_RULE: Final = "a snapshot must have a time, its own, of receipt, or of an update behind it"

_NO_BOOK: Final = re.compile(rb'"(?:ticker|match|last_match|heartbeats?|market_trades|subscriptions|status)"')
_BOOK_KINDS: Final = ("snapshot", "l2update")
_LATE_TRADES_MAX: Final = 1_000
_PRODUCT: Final = re.compile(rb'"product_id": ?"([^"]{1,40})"')


class CoinbaseDecoder:
    """One product's book and trades.

    Parameters
    ----------
    orders : OrderFeed or None
        Keeps the book order by order, where the recording has the channel `full` and no `level2`.
    others : frozenset of str
        Other products that are recorded; without any, a REST book, which names none, is its own.

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
        others: frozenset[str] = frozenset(),
    ) -> None:
        self._columns, self._left, self._product, self._strict = columns, left, product, strict
        self._orders, self._others = orders, others
        self._products = Twins([product], others)
        self._kinds = Twins((*ORDER_KINDS, *_BOOK_KINDS, "match", "l2_data"))
        self._started = False
        self._untimed: tuple[Message, int] | None = None
        self._last_line: int | None = None
        self.advanced = False
        self.clocks = StreamClocks(left)
        self._doubted = False
        self._last_trade: int | None = None
        self._wild_trade = WildNumber()
        # Of the latest gap: they may still come.
        self._missing: set[int] = set()
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

    def time_of(self, line: bytes, *, path: Path, row: int) -> tuple[str, int] | None:
        found = parse_line(line, path=path, row=row)
        for message in found.messages if found is not None else ():
            if message.product_id == self._product and message.time is not None:
                if message.type == "match" and self._orders is None:
                    return "match", time_ns(message, path=path, row=row)
                if message.type in ("l2update", "match", *ORDER_KINDS):
                    return "level2", time_ns(message, path=path, row=row)
        return None

    def lost(self, line: bytes) -> None:
        """Doubt a book without numbers, unless the words that are left say that the line was none of its."""
        named = {name.decode("utf-8", "replace") for name in _PRODUCT.findall(line)}
        is_others = bool(named) and named <= self._others
        self._doubted = self._doubted or not (is_others or _NO_BOOK.search(line))

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

    def _require_whole(self, message: Message, path: Path, row: int) -> None:
        """Refuse what may have been ours: no number tells that an update of level2 is missing."""
        self._products.require_other(message.product_id, path=path, row=row)
        self._kinds.require_other(message.type, path=path, row=row)
        if message.type in ("", UNNAMED) or (message.type in _BOOK_KINDS and message.product_id == ""):
            raise DataError("expected a message of a type and product, was none", path=path, row=row)
        if message.type == "l2update" and not message.changes and not self.advanced:
            raise DataError("expected changes in an update, was none", path=path, row=row)

    def _message(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        self._require_whole(message, path, row)
        if message.type == "book" and not self._others and self._orders is not None:
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
        told_ns = time_ns(message, path=path, row=row)
        orders.require(message, path, row)
        # Before the number counts as one that came.
        ts_ns = self.clocks.reach("level2", told_ns, path=path, row=row)
        if not orders.is_new(message, told_ns, path, row):
            return
        if message.type == "match":
            if not orders.execute(message, ts_ns=ts_ns, recv_ns=recv_ns, path=path, row=row):
                self._match(message, recv_ns, path, row, is_numbered=False)
            return
        orders.take(message, ts_ns=ts_ns, recv_ns=recv_ns, path=path, row=row)

    def _book(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        """Begin with a REST book of level 3, which has no time of its own either."""
        assert self._orders is not None
        for level in (*message.bids, *message.asks):
            if len(level) != 3:
                raise DataError(
                    f"expected [price, size, order id], was {str(level)[:60]}", path=path, row=row
                )
        told_ns = self.clocks.latest() or recv_ns
        if told_ns == RECV_NOT_RECORDED:
            raise DataError("expected a time, of the venue or of receipt, was none", path=path, row=row)
        ts_ns = self.clocks.reach("level2", told_ns, path=path, row=row, expected_late=True)
        self._orders.book(message, ts_ns=ts_ns, recv_ns=recv_ns, path=path, row=row)

    def _snapshot(
        self, message: Message, recv_ns: int, path: Path, row: int, *, at_ns: int = RECV_NOT_RECORDED
    ) -> None:
        if message.time is not None:
            told_ns = time_ns(message, path=path, row=row)
        else:
            # Those of Exchange carry none: the last one the venue told, and before any, ours.
            told_ns = self.clocks.latest() or max(recv_ns, at_ns)
            if told_ns == RECV_NOT_RECORDED:
                # Nor is receipt recorded: that of the update behind it.
                self._untimed = (message, row)
                return
        ts_ns = self.clocks.reach("level2", told_ns, path=path, row=row, expected_late=True)
        self._started, self._doubted = True, False
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
        if not self._started and not self._doubted:
            self._left.reject(UNOPENED_RULE)
            return
        for side, _, _ in message.changes:
            if side not in SIDE:
                raise DataError(f"side must be buy or sell, was {side[:20]!r}", path=path, row=row)
        ts_ns = self.clocks.reach("level2", told_ns, path=path, row=row)
        self._columns.packet()
        if self._doubted:
            # A level that changed unseen would stand for ever, and the line may have been a snapshot: the
            # book grows from updates until one comes.
            self._started, self._doubted = True, False
            self._left.miss("the book's lines, the book cleared behind each", "what a damaged line said")
            self._columns.mark(ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR)
        for side, price, size in message.changes:
            self._columns.add(
                ((price, size),),
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.LEVEL,
                side=SIDE[side],
            )

    def _match(
        self, message: Message, recv_ns: int, path: Path, row: int, *, is_numbered: bool = True
    ) -> None:
        if message.price is None or message.size is None or message.side not in SIDE:
            raise DataError("expected a match with price, size and side buy or sell", path=path, row=row)
        pair = (message.price, message.size)
        self._columns.require((pair,), row=row, kind=EventKind.TRADE)
        told_ns = time_ns(message, path=path, row=row)
        if is_numbered and self._is_repeated(message.trade_id, told_ns, path, row):
            self._left.reject(TRADE_ID_RULE)
            return
        ts_ns = self.clocks.reach("match", told_ns, path=path, row=row)
        self._columns.packet()
        self._columns.add(
            (pair,),
            ts_ns=ts_ns,
            recv_ns=recv_ns,
            row=row,
            kind=EventKind.TRADE,
            # The side told is the resting order's.
            side=-SIDE[message.side],
        )

    def _is_repeated(self, number: int | None, told_ns: int, path: Path, row: int) -> bool:
        """Follow the ids of trades; True for one told before, as after a reconnection, not for a late one."""
        if number is None:
            return False
        if number in self._missing:
            self._missing.discard(number)
            return False
        if (
            self._last_trade is not None
            and number <= self._last_trade
            and not self._wild_trade.refused(told_ns)
        ):
            return True
        if self._last_trade is not None and number != self._last_trade + 1:
            if self._strict:
                raise DataError(f"trade_id must be {self._last_trade + 1}, was {number}", path=path, row=row)
            self._left.miss("trade ids", f"expected {self._last_trade + 1}, was {number}")
            if number - self._last_trade <= _LATE_TRADES_MAX:
                self._missing = set(range(self._last_trade + 1, number))
        self._last_trade = number
        self._wild_trade.taken(told_ns)
        return False

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
    head, others = heads[product], frozenset(without_twins(heads)) - {product}
    by_order = "open" in head.kinds and not head.kinds & {"snapshot", "l2update"}
    if instrument is None:
        if not others and by_order and book is not None:
            head.prices, head.sizes = head.prices + book.prices, head.sizes + book.sizes
        instrument = instrument_of(
            product, head.prices, head.sizes, path=files[0], currency=product.rpartition("-")[2]
        )
    grid = Grid.of(instrument)

    def decoder(columns: EventColumns, left: LeftOut) -> CoinbaseDecoder:
        orders = OrderFeed(columns, left, grid=grid, strict=strict) if by_order else None
        return CoinbaseDecoder(columns, left, product=product, strict=strict, orders=orders, others=others)

    return FeedEvents(files, instrument=instrument, title="Coinbase", decoder=decoder, strict=strict)


def verify(paths: Sequence[Path]) -> Verification:
    """Compare the book's touch prices with the best bid and offer of every ticker.

    The first ticker of a product repeats the last trade before the subscription and is left out.
    """
    files = in_order_of_name(paths)
    products = sorted(without_twins(read_heads(files, observe, whole=True)).keys() - {""})
    found = of_each(
        products,
        lambda product, instrument: open_source(files, symbol=product, instrument=instrument),
        _compare,
    )
    check = Verification(
        matched=sum(entry[0] for entry in found),
        total=sum(entry[1] for entry in found),
        what="tickers whose best bid and offer are the book's",
        first_mismatch=next((entry[3] for entry in found if entry[3]), None),
        notes=(
            f"products: {', '.join(products)}",
            f"{sum(entry[2] for entry in found)} tickers repeat a trade before the subscription",
        ),
    )
    return counting_damage(check, (entry[4] for entry in found))


def _compare(product: str, source: FeedEvents) -> tuple[int, int, int, str | None, Damage]:
    """Return how many tickers match, of how many, those left out, the first mismatch, and the damage."""
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
    return matched, total, repeated, first, source.damage
