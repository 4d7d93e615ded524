"""Coinbase's websockets, recorded raw: level2, trades and tickers of Exchange and of Advanced Trade.

The lines are those of `ws_dump`. ``docs/importers/COINBASE.md`` says what becomes of each message. The feed
carries no checksum; `verify` holds the book against the best bid and offer that tickers tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from ext.order_book import OrderBook

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import RECV_NOT_RECORDED, EventFlag, EventKind
from . import Verification
from .event_columns import EventColumns
from .feed_source import FeedEvents, Pairs, chosen_symbol, in_order_of_name, read_heads, require_time
from .grid import Grid, instrument_of
from .json_lines import JsonRecords
from .ws_dump import received

UNOPENED_RULE: Final = "an update must come after a snapshot"
_SIDE: Final = {"buy": 1, "sell": -1}
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)


class Trade(msgspec.Struct):
    """A trade of Advanced Trade."""

    product_id: str
    price: str
    size: str
    side: str
    time: str
    trade_id: str | int | None = None


class Ticker(msgspec.Struct):
    """A ticker of Advanced Trade."""

    product_id: str
    best_bid: str | None = None
    best_ask: str | None = None


class Level(msgspec.Struct):
    """A level of Advanced Trade."""

    side: str
    price_level: str
    new_quantity: str


class Event(msgspec.Struct):
    """What an envelope of Advanced Trade holds."""

    type: str = ""
    product_id: str = ""
    updates: list[Level] = []
    trades: list[Trade] = []
    tickers: list[Ticker] = []


class Message(msgspec.Struct):
    """The fields of all channels of Exchange that are read."""

    type: str = ""
    product_id: str = ""
    time: str | None = None
    asks: list[tuple[str, str]] = []
    bids: list[tuple[str, str]] = []
    changes: list[tuple[str, str, str]] = []
    side: str | None = None
    price: str | None = None
    size: str | None = None
    trade_id: int | None = None
    best_bid: str | None = None
    best_ask: str | None = None


class Envelope(Message):
    """A message of Exchange, or an envelope of Advanced Trade."""

    channel: str = ""
    timestamp: str | None = None
    sequence_num: int | None = None
    events: list[Event] | None = None


_RECORDS: Final = JsonRecords(Envelope)
_L2_SIDES: Final = {"bid": "buy", "offer": "sell", "ask": "sell"}


def parse_line(line: bytes, *, path: Path, row: int) -> tuple[int, list[Message]] | None:
    """Return (receive time in ns, messages in the terms of Exchange); None for what was sent."""
    found = received(line, path=path, row=row)
    if found is None:
        return None
    record = _RECORDS.decode(found[1], path=path, row=row)
    if record.events is None:
        return found[0], [record]
    return found[0], [message for event in record.events for message in _as_exchange(record, event)] or [
        Message(type=f"{record.channel or 'unnamed'}")
    ]


def _as_exchange(record: Envelope, event: Event) -> Iterator[Message]:
    """Tell an event of Advanced Trade as Exchange would."""
    if record.channel == "l2_data":
        changes = [
            (_L2_SIDES.get(one.side, one.side), one.price_level, one.new_quantity) for one in event.updates
        ]
        if event.type != "snapshot":
            yield Message(
                type="l2update", product_id=event.product_id, time=record.timestamp, changes=changes
            )
            return
        bids, asks = (
            [(price, size) for told, price, size in changes if told == side] for side in ("buy", "sell")
        )
        yield Message(
            type="snapshot", product_id=event.product_id, time=record.timestamp, bids=bids, asks=asks
        )
    elif record.channel == "market_trades":
        # The newest comes first. A snapshot repeats trades from before the subscription.
        for trade in reversed(event.trades):
            text = str(trade.trade_id)
            yield Message(
                type="match" if event.type != "snapshot" else "last_match",
                product_id=trade.product_id,
                time=trade.time,
                side=trade.side.lower(),
                price=trade.price,
                size=trade.size,
                trade_id=int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None,
            )
    elif record.channel == "ticker":
        for ticker in event.tickers:
            yield Message(
                type="ticker",
                product_id=ticker.product_id,
                best_bid=ticker.best_bid,
                best_ask=ticker.best_ask,
            )


def time_ns(message: Message, *, path: Path, row: int) -> int:
    """Return the venue's time in ns since the Unix epoch, with all its digits."""
    match = _TIME.fullmatch(message.time or "")
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) if match else None
    except ValueError:
        whole = None
    if match is None or whole is None:
        raise DataError(f"expected a UTC time, was {str(message.time)[:40]!r}", path=path, row=row)
    seconds = int(whole.timestamp())
    return require_time(seconds * 10**9 + int((match[2] or "0").ljust(9, "0")), path=path, row=row)


def observe(line: bytes, *, path: Path, row: int) -> tuple[str, str, Pairs] | None:
    """Say what a line holds, see `feed_source.Observer`."""
    found = parse_line(line, path=path, row=row)
    # The products of one envelope show themselves in others too.
    message = found[1][0] if found is not None else None
    if message is None or not message.product_id:
        return None
    if message.type == "snapshot":
        return message.product_id, message.type, [*message.bids, *message.asks]
    if message.type == "l2update":
        return message.product_id, message.type, [change[1:] for change in message.changes]
    if message.type == "match" and message.price is not None and message.size is not None:
        return message.product_id, message.type, [(message.price, message.size)]
    return None


class CoinbaseDecoder:
    """One product's book and trades.

    Attributes
    ----------
    ticker : Message or None
        That the last line carried for this product.
    """

    def __init__(self, columns: EventColumns, left: LeftOut, *, product: str, strict: bool) -> None:
        self._columns, self._left, self._product, self._strict = columns, left, product, strict
        self._started = False
        self._reached_ns = {"level2": 0, "match": 0}
        self._last_trade: int | None = None
        self.ticker: Message | None = None

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self.ticker = None
        found = parse_line(line, path=path, row=row)
        if found is None:
            return
        recv_ns, messages = found
        for message in messages:
            self._message(message, recv_ns, path, row)

    def _message(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.product_id != self._product:
            self._left.pass_over("messages of other products or none")
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

    def _snapshot(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.time is not None:
            told_ns = time_ns(message, path=path, row=row)
        else:
            # Those of Exchange carry none: the last one the venue told, and before any, ours.
            told_ns = max(self._reached_ns.values()) or recv_ns
            if told_ns == RECV_NOT_RECORDED:
                raise DataError("expected a time, of the venue or of receipt, was none", path=path, row=row)
        ts_ns = self._reach("level2", told_ns, expected_late=True)
        self._started = True
        self._columns.packet()
        self._columns.mark(
            ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
        )
        for side, levels in ((1, message.bids), (-1, message.asks)):
            self._columns.add(
                levels, ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.LEVEL, side=side,
                flags=EventFlag.SNAPSHOT,
            )  # fmt: skip

    def _update(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if not self._started:
            self._left.reject(UNOPENED_RULE)
            return
        ts_ns = self._reach("level2", time_ns(message, path=path, row=row))
        self._columns.packet()
        for side, price, size in message.changes:
            if side not in _SIDE:
                raise DataError(f"side must be buy or sell, was {side[:20]!r}", path=path, row=row)
            self._columns.add(
                ((price, size),),
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.LEVEL,
                side=_SIDE[side],
            )

    def _match(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.price is None or message.size is None or message.side not in _SIDE:
            raise DataError("expected a match with price, size and side buy or sell", path=path, row=row)
        if self._last_trade is not None and message.trade_id is not None:
            missing = message.trade_id - self._last_trade - 1
            if missing:
                if self._strict:
                    raise DataError(
                        f"trade_id must be {self._last_trade + 1}, was {message.trade_id}", path=path, row=row
                    )
                self._left.pass_over("gaps in trade ids")
        self._last_trade = message.trade_id
        self._columns.packet()
        self._columns.add(
            ((message.price, message.size),),
            ts_ns=self._reach("match", time_ns(message, path=path, row=row)),
            recv_ns=recv_ns,
            row=row,
            kind=EventKind.TRADE,
            # The side told is the resting order's.
            side=-_SIDE[message.side],
        )

    def _reach(self, stream: str, ts_ns: int, *, expected_late: bool = False) -> int:
        """Return the time, which never runs backwards within one channel."""
        if ts_ns < self._reached_ns[stream] and not expected_late:
            self._left.pass_over(f"{stream} times that ran backwards, raised to the time before")
        self._reached_ns[stream] = max(self._reached_ns[stream], ts_ns)
        return self._reached_ns[stream]

    def finish(self) -> None:
        self.ticker = None

    def notes(self) -> tuple[str, ...]:
        return ()


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> FeedEvents:
    """Open the book and trades of one product; with `strict` a gap in trade ids is an error."""
    files = in_order_of_name(paths)
    heads = read_heads(files, observe, wanted=symbol)
    product = chosen_symbol(heads, symbol, path=files[0])
    if instrument is None:
        head = heads[product]
        instrument = instrument_of(
            product, head.prices, head.sizes, path=files[0], currency=product.rpartition("-")[2]
        )
    return FeedEvents(
        files,
        instrument=instrument,
        title="Coinbase",
        decoder=lambda columns, left: CoinbaseDecoder(columns, left, product=product, strict=strict),
    )


def verify(paths: Sequence[Path]) -> Verification:
    """Compare the book's touch prices with the best bid and offer of every ticker.

    The first ticker of a product repeats the last trade before the subscription and is left out.
    """
    files = in_order_of_name(paths)
    products = sorted(read_heads(files, observe, whole=True))
    matched = total = repeated = 0
    first: str | None = None
    for product in products:
        source = open_source(files, symbol=product)
        grid, book, begun = Grid.of(source.instrument), OrderBook(), False
        for path, row, events, decoder in source.packets():
            assert isinstance(decoder, CoinbaseDecoder)
            book.apply(events)
            ticker = decoder.ticker
            if ticker is None or not ticker.best_bid or not ticker.best_ask:
                continue
            if not begun:
                begun, repeated = True, repeated + 1
                continue
            told = tuple(
                grid.level((price, "0"), path=path, row=row)[0]
                for price in (ticker.best_bid, ticker.best_ask)
            )
            touch = (book.bid_price_ticks, book.ask_price_ticks)
            total += 1
            matched += touch == told
            if touch != told and first is None:
                first = f"{path}:row {row}: {product}: expected touch {told}, was {touch}"
    return Verification(
        matched=matched,
        total=total,
        what="tickers whose best bid and offer are the book's",
        first_mismatch=first,
        notes=(
            f"products: {', '.join(products)}",
            f"{repeated} tickers repeat a trade before the subscription",
        ),
    )
