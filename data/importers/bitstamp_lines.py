"""Lines of Bitstamp's order log: our clock in ms, the name of the event, and its JSON, checked.

The websocket of today wraps the same events, ``{"event": "order_created", "channel": "live_orders_ethusd",
"data": {...}}``, in lines of `ws_dump`, and stamps them in µs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ext.decimal_text import decimal_units

from ..errors import DataError
from ..schema import RECV_NOT_RECORDED
from .feed_source import require_time
from .json_lines import JsonRecords
from .ws_dump import received

_LINE: Final = re.compile(rb"(\d{13}) (\w{1,40}) (\{.*)", re.DOTALL)
SIDES: Final = {0: 1, 1: -1}
ORDER_EVENTS: Final = ("order_created", "order_changed", "order_deleted")
# Ids from 2^63 up are ours.
_ID_MAX: Final = (1 << 63) - 1


class Order(msgspec.Struct):
    """An order event; price and amount as text, also where they are written as numbers."""

    id: int
    order_type: int
    price: msgspec.Raw
    amount: msgspec.Raw
    microtimestamp: str | None = None


class Trade(msgspec.Struct):
    """A trade; newer feeds name the aggressor's side."""

    price: msgspec.Raw
    amount: msgspec.Raw
    type: int | None = None
    microtimestamp: str | None = None


class Snapshot(msgspec.Struct):
    """The best levels, best first, as the venue pushed them."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    microtimestamp: str | None = None


class Envelope(msgspec.Struct):
    """What wraps an event on the websocket."""

    event: str = ""
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


_ENVELOPES: Final = JsonRecords(Envelope)
_ORDERS: Final = JsonRecords(Order)
_TRADES: Final = JsonRecords(Trade)
_SNAPSHOTS: Final = JsonRecords(Snapshot)


class Record(NamedTuple):
    """What a line says.

    Parameters
    ----------
    ts_ns : int
        The venue's µs where it tells them, else our clock; 0 where there is neither.
    recv_ns : int
        Our clock.
    market : str
        Of the channel in capitals, "" in the log, which names none.
    name : str
        Of the event.
    record : Order, Trade, Snapshot or None
        None for other events.
    """

    ts_ns: int
    recv_ns: int
    market: str
    name: str
    record: Order | Trade | Snapshot | None


def parse_line(line: bytes, *, path: Path, row: int) -> Record:
    """Return what a line of the log or of a websocket dump says."""
    match = _LINE.fullmatch(line)
    if match is not None:
        recv_ns = require_time(int(match[1]) * 1_000_000, path=path, row=row)
        name, market, text = match[2].decode(), "", match[3]
    else:
        try:
            found = received(line, path=path, row=row)
        except DataError as error:
            rule = f"expected 'milliseconds event {{...}}' or a websocket's line, was {line[:60]!r}"
            raise DataError(rule, path=path, row=row) from error
        if found is None:
            return Record(0, RECV_NOT_RECORDED, "", "sent", None)
        envelope = _ENVELOPES.decode(found[1], path=path, row=row)
        recv_ns, text = found[0], bytes(envelope.data)
        channel, _, market = envelope.channel.rpartition("_")
        name, market = envelope.event[:40], market.upper()
        if name == "data":
            # Pushed books come without a name of their own, and changes of levels beside them.
            name = channel if channel == "order_book" else f"{channel[:30]} data"
    record = _record_of(name, text, path, row)
    told = None if record is None else record.microtimestamp
    if told is None:
        return Record(max(recv_ns, 0), recv_ns, market, name, record)
    if not (told.isascii() and told.isdigit() and len(told) == 16):
        raise DataError(f"expected a microtimestamp of 16 digits, was {told[:40]!r}", path=path, row=row)
    return Record(require_time(int(told) * 1_000, path=path, row=row), recv_ns, market, name, record)


def _record_of(name: str, text: bytes, path: Path, row: int) -> Order | Trade | Snapshot | None:
    if name in ORDER_EVENTS:
        order = _ORDERS.decode(text, path=path, row=row)
        if order.order_type not in SIDES or not 0 < order.id <= _ID_MAX:
            raise DataError(
                f"expected order_type 0 or 1 and a positive id, was {order.order_type} and {order.id}",
                path=path,
                row=row,
            )
        return order
    if name == "trade":
        return _TRADES.decode(text, path=path, row=row)
    return _SNAPSHOTS.decode(text, path=path, row=row) if name == "order_book" else None


def text_of(raw: msgspec.Raw) -> str:
    """Return a number as its decimal text."""
    text = bytes(raw).decode("utf-8", "replace")
    if text.startswith('"'):
        return text.strip('"')
    try:
        # Trades carry numbers printed from doubles (236.61000000000001): the shortest of the same double.
        return repr(float(text))
    except ValueError:
        return text


def same_number(left: msgspec.Raw, right: msgspec.Raw) -> bool:
    """Tell whether two numbers are equal, however they are written."""
    units, good = decimal_units([text_of(left), text_of(right)], 8)
    return good == 2 and bool(units[0] == units[1])
