"""Lines of Bitstamp's order log: our clock in ms, the name of the event, and its JSON, checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from ext.decimal_text import decimal_units

from ..errors import DataError
from .feed_source import require_time
from .json_lines import JsonRecords

_LINE: Final = re.compile(rb"(\d{13}) (\w{1,40}) (\{.*)", re.DOTALL)
SIDES: Final = {0: 1, 1: -1}
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
        if order.order_type not in SIDES or not 0 < order.id <= _ID_MAX:
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
