"""Binance's messages: the recorder's lines, the envelopes of combined streams, fields by their one letter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from ..errors import DataError
from ..schema import RECV_NOT_RECORDED
from .feed_source import require_time
from .json_lines import JsonRecords

Levels = list[tuple[str, str]]


class Message(msgspec.Struct):
    """The fields of all streams that are read; Binance reuses one letter for different things."""

    kind: str = msgspec.field(name="e", default="")
    event_ms: int | None = msgspec.field(name="E", default=None)
    trade_ms: int | None = msgspec.field(name="T", default=None)
    symbol: str = msgspec.field(name="s", default="")
    snapshot_symbol: str = msgspec.field(name="symbol", default="")
    pair: str = msgspec.field(name="ps", default="")
    first_id: int | None = msgspec.field(name="U", default=None)
    last_id: int | None = msgspec.field(name="u", default=None)
    previous_id: int | None = msgspec.field(name="pu", default=None)
    b: Levels | str | int | None = None
    a: Levels | str | int | None = None
    bid_size: str | int | None = msgspec.field(name="B", default=None)
    ask_size: str | int | None = msgspec.field(name="A", default=None)
    price: str | None = msgspec.field(name="p", default=None)
    size: str | None = msgspec.field(name="q", default=None)
    buyer_is_maker: bool | None = msgspec.field(name="m", default=None)
    trade_type: str | None = msgspec.field(name="X", default=None)
    trade_id: int | str | None = msgspec.field(name="t", default=None)
    snapshot_id: int | None = msgspec.field(name="lastUpdateId", default=None)
    bids: Levels = []
    asks: Levels = []


class Envelope(Message):
    """A message, or the combined stream's wrapper around one."""

    data: Message | None = None
    stream: str = ""


_RECORDS: Final = JsonRecords(Envelope)
_LINE: Final = re.compile(rb"(?:(\d{10,19})\s+)?(\{.*)", re.DOTALL)
_DIGIT_NS: Final = {19: 1, 16: 1_000, 13: 1_000_000, 10: 1_000_000_000}
_PARTIAL: Final = re.compile(r"@depth(?:5|10|20)(?:@|$)")
_MICROSECONDS_MIN: Final = 10**14
"""A stamp from here on counts microseconds, which streams can be asked for; as ms it were the year 5138."""


def parse_line(line: bytes, *, path: Path, row: int) -> tuple[int, Message]:
    """Return (receive time in ns, message)."""
    match = _LINE.fullmatch(line)
    stamp = match[1] if match else None
    if match is None or (stamp and len(stamp) not in _DIGIT_NS):
        raise DataError(f"expected a receive time and a JSON object, was {line[:60]!r}", path=path, row=row)
    recv_ns = int(stamp) * _DIGIT_NS[len(stamp)] if stamp else RECV_NOT_RECORDED
    if stamp:
        require_time(recv_ns, path=path, row=row)
    envelope = _RECORDS.decode(match[2], path=path, row=row)
    if envelope.data is None:
        return recv_ns, envelope
    message = envelope.data
    if message.kind == "depthUpdate" and _PARTIAL.search(envelope.stream):
        # Futures call the best levels an update too, but what left them is never removed: each is the book.
        message.kind, message.snapshot_id = "", message.last_id
        message.bids, message.asks = levels_of(message.b), levels_of(message.a)
    if not message.symbol and not message.snapshot_symbol:
        message.snapshot_symbol = envelope.stream.partition("@")[0].upper()
    return recv_ns, message


def stamp_of(message: Message) -> int | None:
    """Return the venue's time in ns: that of the matching engine where there are two."""
    stamp_ms = message.trade_ms if message.trade_ms is not None else message.event_ms
    if stamp_ms is None:
        return None
    return stamp_ms * (1_000 if stamp_ms >= _MICROSECONDS_MIN else 1_000_000)


def levels_of(side: Levels | str | int | None) -> Levels:
    return side if isinstance(side, list) else []


def quote_of(message: Message) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return the bid and ask of a bookTicker, each (price, size); None for other messages."""
    if message.kind not in ("", "bookTicker") or message.last_id is None:
        return None
    found = (message.b, message.bid_size, message.a, message.ask_size)
    if not all(isinstance(part, str) for part in found):
        return None
    return (str(found[0]), str(found[1])), (str(found[2]), str(found[3]))
