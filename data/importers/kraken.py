"""Kraken's websocket, versions 1 and 2, recorded raw: book and trade channels.

The lines are those of `ws_dump`. ``docs/importers/KRAKEN.md`` says what becomes of each message. Kraken sends
a CRC-32 over the best ten levels of either side with every update; `verify` computes it from our book.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ext.order_book import OrderBook

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import RECV_NOT_RECORDED, EventFlag, EventKind
from . import Verification
from .depth_window import DepthWindow
from .event_columns import EventColumns
from .feed_source import FeedEvents, Pairs, chosen_symbol, in_order_of_name, read_heads
from .grid import Grid, instrument_of, of_each
from .json_lines import JsonRecords
from .kraken_v2 import as_version_1, is_version_2, subscribed_depth
from .ws_dump import received, seconds_ns

CHECKED_LEVELS: Final = 10
UNOPENED_RULE: Final = "an update must come after a snapshot"

_RECORDS: Final = JsonRecords[dict[str, Any] | list[Any]](dict[str, Any] | list[Any])  # type: ignore[arg-type]
_CHANNEL: Final = re.compile(r"(book)-(\d{1,5})|(trade)")
_SIDES: Final = {"a": -1, "b": 1, "as": -1, "bs": 1}
_TRADE_SIDE: Final = {"b": 1, "s": -1}

Message = tuple[int, str, int, list[Any], str]
"""Receive time, channel (book or trade), depth, payload parts, pair."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The answer to a subscription of version 2."""

    pair: str
    levels: int


def parse_line(line: bytes, *, path: Path, row: int) -> list[Message] | Depth | str | None:
    """Return book or trade messages, the name of what else was received, or None for what was sent."""
    found = received(line, path=path, row=row)
    if found is None:
        return None
    record = _RECORDS.decode(found[1], path=path, row=row)
    if isinstance(record, dict) and is_version_2(record):
        clock = "0" if found[0] == RECV_NOT_RECORDED else f"{found[0] // 10**9}.{found[0] % 10**9:09}"
        told = as_version_1(record, clock=clock, path=path, row=row)
        return [(found[0], *one) for one in told] or f"{str(record['channel'])[:20]} messages"
    if isinstance(record, dict):
        depth = subscribed_depth(record)
        name = record.get("event", record.get("method", record.get("channel", "unnamed")))
        return Depth(*depth) if depth else f"{str(name)[:20]} messages"
    if len(record) < 4 or not isinstance(record[-2], str) or not isinstance(record[-1], str):
        raise DataError("expected [channel id, payload, channel, pair]", path=path, row=row)
    channel = _CHANNEL.fullmatch(record[-2])
    if channel is None:
        return f"{record[-2][:20]} messages"
    return [(found[0], channel[1] or channel[3], int(channel[2] or 0), record[1:-2], record[-1])]


def levels_of(part: object, *, path: Path, row: int) -> dict[str, list[list[str]]]:
    """Return the lists of levels in one part of a book message, by their key."""
    if not isinstance(part, dict):
        raise DataError(f"expected levels by side, was {str(part)[:40]}", path=path, row=row)
    found = {}
    for key, levels in part.items():
        if key == "c":
            continue
        if key not in _SIDES or not isinstance(levels, list):
            raise DataError(f"expected a, b, as or bs with levels, was {str(key)[:20]!r}", path=path, row=row)
        for level in levels:
            if not _is_texts(level, at_least=3):
                raise DataError(
                    f"expected [price, volume, time] as text, was {str(level)[:60]}", path=path, row=row
                )
        found[key] = levels
    return found


def trades_of(parts: list[Any], *, path: Path, row: int) -> list[list[str]]:
    """Return [price, volume, time, side, ...] of each trade."""
    trades = parts[0] if parts else None
    if not isinstance(trades, list):
        raise DataError("expected a list of trades", path=path, row=row)
    for trade in trades:
        if not _is_texts(trade, at_least=4) or trade[3] not in _TRADE_SIDE:
            raise DataError(
                f"expected [price, volume, time, b or s] as text, was {str(trade)[:60]}", path=path, row=row
            )
    return trades


def _is_texts(values: object, *, at_least: int) -> bool:
    return (
        isinstance(values, list) and len(values) >= at_least and all(isinstance(text, str) for text in values)
    )


def observe(line: bytes, *, path: Path, row: int) -> tuple[str, str, Pairs] | None:
    """Say what a line holds, see `feed_source.Observer`."""
    messages = parse_line(line, path=path, row=row)
    if not isinstance(messages, list):
        return None
    # Several pairs in one message are seldom; the others show themselves in their own.
    _, channel, _, parts, pair = messages[0]
    if channel == "trade":
        rows = trades_of(parts, path=path, row=row)
    else:
        rows = [
            level
            for part in parts
            for group in levels_of(part, path=path, row=row).values()
            for level in group
        ]
    return pair, channel, [(level[0], level[1]) for level in rows]


class KrakenDecoder:
    """One pair's book and trades.

    Attributes
    ----------
    checksum : int or None
        That the last line carried for this pair.
    decimals : tuple of int
        Of its prices and volumes, as the venue writes them.
    """

    def __init__(self, columns: EventColumns, left: LeftOut, *, pair: str, grid: Grid) -> None:
        self._columns, self._left, self._pair, self._grid = columns, left, pair, grid
        self._windows: dict[int, DepthWindow] = {}
        self._reached_ns = {"book": 0, "trade": 0}
        self.checksum: int | None = None
        self.decimals = (0, 0)
        self._depth: int | None = None
        self._untimed: tuple[Message, Path, int] | None = None

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self.checksum = None
        messages = parse_line(line, path=path, row=row)
        if isinstance(messages, str):
            self._left.pass_over(messages)
        elif isinstance(messages, Depth):
            self._depth = messages.levels if messages.pair == self._pair else self._depth
            self._left.pass_over("answers to subscriptions")
        for message in messages if isinstance(messages, list) else ():
            self._message(message, path, row)

    def _message(self, message: Message, path: Path, row: int) -> None:
        if message[4] != self._pair:
            self._left.pass_over("messages of other pairs")
        elif message[1] == "trade":
            self._trades(message[0], trades_of(message[3], path=path, row=row), path, row)
        else:
            self._book(message, path, row)

    def _trades(self, recv_ns: int, trades: list[list[str]], path: Path, row: int) -> None:
        for price, volume, stamp, side, *_ in trades:
            ts_ns = self._reach("trade", seconds_ns(stamp, path=path, row=row))
            self._columns.packet()
            self._columns.add(
                ((price, volume),),
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.TRADE,
                side=_TRADE_SIDE[side],
            )

    def _book(self, message: Message, path: Path, row: int, at_ns: int = 0) -> None:
        recv_ns, _, depth, parts, _ = message
        groups = [
            (key, levels) for part in parts for key, levels in levels_of(part, path=path, row=row).items()
        ]
        stamps = {level[2] for _, levels in groups for level in levels}
        told_ns = max((seconds_ns(text, path=path, row=row) for text in stamps), default=0)
        opening = any(key in ("as", "bs") for key, _ in groups)
        if opening and not max(told_ns, at_ns, self._reached_ns["book"]):
            # A snapshot without any time is taken with the update behind it.
            self._untimed = (message, path, row)
            return
        if self._untimed is not None:
            untimed, self._untimed = self._untimed, None
            self._book(*untimed, at_ns=told_ns)
        ts_ns = self._reach("book", max(told_ns, at_ns))
        if not self._windows and not opening:
            self._left.reject(UNOPENED_RULE)
            return
        self._columns.packet()
        if opening:
            self._windows = {
                side: DepthWindow(side=side, depth=self._depth or depth, decimals=self._grid.price.decimals)
                for side in (1, -1)
            }
            self._columns.mark(
                ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
            )
        for key, levels in groups:
            if levels:
                self._note_decimals(levels[0])
            pairs = [(level[0], level[1]) for level in levels]
            gone = self._windows[_SIDES[key]].update(pairs)
            # A level out of the subscription's reach is forgotten: the venue would not remove it.
            for flags, some in ((EventFlag.SNAPSHOT if opening else 0, pairs), (EventFlag.SNAPSHOT, gone)):
                if some:
                    self._columns.add(
                        some, ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.LEVEL, side=_SIDES[key],
                        flags=flags,
                    )  # fmt: skip
        self.checksum = _checksum_of(parts, path=path, row=row)

    def _note_decimals(self, level: list[str]) -> None:
        # A removal may be written as a bare 0.
        self.decimals = (
            max(self.decimals[0], len(level[0].partition(".")[2])),
            max(self.decimals[1], len(level[1].partition(".")[2])),
        )

    def _reach(self, stream: str, ts_ns: int) -> int:
        """Return the time, which never runs backwards within one channel."""
        if ts_ns < self._reached_ns[stream]:
            self._left.pass_over(f"{stream} times that ran backwards, raised to the time before")
        self._reached_ns[stream] = max(self._reached_ns[stream], ts_ns)
        return self._reached_ns[stream]

    def finish(self) -> None:
        self.checksum = None

    def notes(self) -> tuple[str, ...]:
        return ()


def _checksum_of(parts: list[Any], *, path: Path, row: int) -> int | None:
    for part in parts:
        if "c" in part:
            text = part["c"]
            if not isinstance(text, str) or not text.isascii() or not text.isdigit():
                raise DataError(f"expected a checksum as text, was {str(text)[:20]!r}", path=path, row=row)
            return int(text)
    return None


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> FeedEvents:
    """Open the book and trades of one pair, named like ``XBT/USD`` or ``XBT-USD``."""
    files = in_order_of_name(paths)
    wanted = symbol.replace("-", "/") if symbol else None
    heads = read_heads(files, observe, wanted=wanted)
    pair = chosen_symbol(heads, wanted, path=files[0])
    if instrument is None:
        head = heads[pair]
        instrument = instrument_of(
            pair, head.prices, head.sizes, path=files[0], currency=pair.rpartition("/")[2]
        )
    grid = Grid.of(instrument)
    return FeedEvents(
        files,
        instrument=instrument,
        title="Kraken",
        decoder=lambda columns, left: KrakenDecoder(columns, left, pair=pair, grid=grid),
    )


def verify(paths: Sequence[Path]) -> Verification:
    """Compare the CRC-32 of the book's best ten levels with that of every update."""
    files = in_order_of_name(paths)
    pairs = sorted(read_heads(files, observe, whole=True))
    found = of_each(
        pairs,
        lambda pair, instrument: open_source(files, symbol=pair, instrument=instrument),
        _compare,
    )
    return Verification(
        matched=sum(entry[0] for entry in found),
        total=sum(entry[1] for entry in found),
        what="checksums",
        first_mismatch=next((entry[2] for entry in found if entry[2]), None),
        notes=(f"pairs: {', '.join(pairs)}",),
    )


def _compare(pair: str, source: FeedEvents) -> tuple[int, int, str | None]:
    """Return how many checksums of a pair match, of how many, and the first that does not."""
    matched = total = 0
    first: str | None = None
    book, grid = OrderBook(), Grid.of(source.instrument)
    for path, row, events, decoder in source.packets():
        assert isinstance(decoder, KrakenDecoder)
        book.apply(events)
        if decoder.checksum is None:
            continue
        found = book_checksum(book, grid, decoder.decimals)
        total += 1
        matched += found == decoder.checksum
        if found != decoder.checksum and first is None:
            first = f"{path}:row {row}: {pair}: expected CRC-32 {decoder.checksum}, was {found}"
    return matched, total, first


def book_checksum(book: OrderBook, grid: Grid, decimals: tuple[int, int]) -> int:
    """Return Kraken's CRC-32: price and volume of ten asks, then ten bids, without point and leading zeros.

    Parameters
    ----------
    book : OrderBook
    grid : Grid
        Of the book.
    decimals : tuple of int
        With which the venue writes prices and volumes.
    """
    price_step = grid.price.step * 10 ** (decimals[0] - grid.price.decimals)
    size_step = grid.size.step * 10 ** (decimals[1] - grid.size.decimals)
    text = "".join(
        f"{price * price_step}{size * size_step}"
        for side in (-1, 1)
        for price, size in book.depth_array(side, CHECKED_LEVELS).tolist()
        if size > 0
    )
    return zlib.crc32(text.encode())
