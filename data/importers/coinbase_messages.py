"""Coinbase's messages: those of Advanced Trade told in the terms of Exchange."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..errors import DataError
from .feed_source import Pairs, require_time
from .json_lines import JsonRecords
from .ws_dump import received

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
    asks: list[list[str]] = []
    bids: list[list[str]] = []
    changes: list[tuple[str, str, str]] = []
    side: str | None = None
    price: str | None = None
    size: str | None = None
    trade_id: int | None = None
    best_bid: str | None = None
    best_ask: str | None = None
    sequence: int | None = None
    order_id: str | None = None
    maker_order_id: str | None = None
    remaining_size: str | None = None
    new_size: str | None = None
    new_price: str | None = None


class Envelope(Message):
    """A message of Exchange, or an envelope of Advanced Trade."""

    channel: str = ""
    timestamp: str | None = None
    sequence_num: int | None = None
    events: list[Event] | None = None


_RECORDS: Final = JsonRecords(Envelope)
UNNAMED: Final = "unnamed"
"""Type of what came through no channel."""

_L2_SIDES: Final = {"bid": "buy", "offer": "sell", "ask": "sell"}


class Line(NamedTuple):
    """What a line says; `sequence_num` numbers the messages of a connection to Advanced Trade."""

    recv_ns: int
    messages: list[Message]
    sequence_num: int | None


def parse_line(line: bytes, *, path: Path, row: int) -> Line | None:
    """Return the messages of a line in the terms of Exchange; None for what was sent."""
    found = received(line, path=path, row=row)
    if found is None:
        return None
    record = _RECORDS.decode(found[1], path=path, row=row)
    if record.events is None:
        if record.type == "" and record.sequence is not None and (record.bids or record.asks):
            record.type = "book"
        return Line(found[0], [record], None)
    messages = [message for event in record.events for message in _as_exchange(record, event)]
    return Line(found[0], messages or [Message(type=record.channel or UNNAMED)], record.sequence_num)


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
            [[price, size] for told, price, size in changes if told == side] for side in ("buy", "sell")
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
                # The first repeats what was before the subscription.
                type="ticker" if event.type != "snapshot" else "first_ticker",
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
    message = found.messages[0] if found is not None else None
    if message is not None and message.type == "book":
        return (
            message.product_id,
            "book",
            [pair_of(level, path, row) for level in message.bids + message.asks],
        )
    if message is None or not message.product_id:
        return None
    if message.type == "snapshot":
        levels = [pair_of(level, path, row) for level in message.bids + message.asks]
        return message.product_id, message.type, levels
    if message.type == "open" and message.price is not None and message.remaining_size is not None:
        return message.product_id, message.type, [(message.price, message.remaining_size)]
    if message.type == "l2update":
        return message.product_id, message.type, [change[1:] for change in message.changes]
    if message.type == "match" and message.price is not None and message.size is not None:
        return message.product_id, message.type, [(message.price, message.size)]
    return None


def pair_of(level: list[str], path: Path, row: int) -> tuple[str, str]:
    """Return (price, size) of a level, behind which an order's id or a count may stand."""
    if len(level) < 2:
        raise DataError(f"expected levels of price and size, was {str(level)[:40]}", path=path, row=row)
    return level[0], level[1]
