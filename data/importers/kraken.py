"""Kraken's websocket, versions 1 and 2, recorded raw: book and trade channels.

The lines are those of `ws_dump`. ``docs/importers/KRAKEN.md`` says what becomes of each message. Kraken sends
a CRC-32 over the best ten levels of either side with every update; `kraken_checksum` follows it while
reading, and `verify` computes it from the compiled book.
"""

from __future__ import annotations

import re
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
from .damage import Damage
from .depth_window import DepthWindow
from .event_columns import EventColumns
from .feed_source import (
    FeedEvents,
    Pairs,
    chosen_symbol,
    counting_damage,
    in_order_of_name,
    read_heads,
    without_twins,
)
from .grid import Grid, instrument_of, of_each
from .json_lines import JsonRecords
from .kraken_checksum import CHECKSUM_RULE, ChecksumWatch, book_checksum
from .kraken_v2 import as_version_1, is_version_2, subscribed_depth
from .stream_clocks import StreamClocks
from .ws_dump import received, seconds_ns

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

    def __init__(
        self, columns: EventColumns, left: LeftOut, *, pair: str, grid: Grid, strict: bool = False
    ) -> None:
        self._columns, self._left, self._pair, self._grid = columns, left, pair, grid
        self._strict = strict
        self._windows: dict[int, DepthWindow] = {}
        self._watch = ChecksumWatch()
        self.clocks = StreamClocks(left)
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

    def time_of(self, line: bytes, *, path: Path, row: int) -> tuple[str, int] | None:
        messages = parse_line(line, path=path, row=row)
        for _, channel, _, parts, pair in messages if isinstance(messages, list) else ():
            if pair == self._pair:
                levels = (
                    trades_of(parts, path=path, row=row)
                    if channel == "trade"
                    else [level for _, some in _groups_of(parts, path, row) for level in some]
                )
                stamps = [seconds_ns(level[2], path=path, row=row) for level in levels]
                return (channel, max(stamps)) if stamps else None
        return None

    def lost(self, line: bytes) -> None:
        """Doubt the book: the line may have held an update, and no number tells."""
        self._watch.doubt()

    def _message(self, message: Message, path: Path, row: int) -> None:
        if message[4] != self._pair:
            self._left.pass_over("messages of other pairs")
        elif message[1] == "trade":
            self._trades(message[0], trades_of(message[3], path=path, row=row), path, row)
        else:
            self._book(message, path, row)

    def _trades(self, recv_ns: int, trades: list[list[str]], path: Path, row: int) -> None:
        for price, volume, stamp, side, *_ in trades:
            ts_ns = self.clocks.reach("trade", seconds_ns(stamp, path=path, row=row), path=path, row=row)
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
        groups = _groups_of(parts, path, row)
        checksum = _checksum_of(parts, path=path, row=row)
        stamps = {level[2] for _, levels in groups for level in levels}
        told_ns = max((seconds_ns(text, path=path, row=row) for text in stamps), default=0)
        pairs = [[(level[0], level[1]) for level in levels] for _, levels in groups]
        for some in pairs:
            self._columns.require(some, row=row)
        opening = any(key in ("as", "bs") for key, _ in groups)
        if opening and not max(told_ns, at_ns, self.clocks.reached("book")):
            # A snapshot without any time is taken with the update behind it.
            self._untimed = (message, path, row)
            return
        if self._untimed is not None:
            untimed, self._untimed = self._untimed, None
            self._book(*untimed, at_ns=told_ns)
        ts_ns = self.clocks.reach("book", max(told_ns, at_ns), path=path, row=row)
        if not self._windows and not opening:
            self._left.reject(UNOPENED_RULE)
            return
        if opening:
            self._windows = {
                side: DepthWindow(side=side, depth=self._depth or depth, decimals=self._grid.price.decimals)
                for side in (1, -1)
            }
            self._watch.begin()
        # A level out of the subscription's reach is forgotten: the venue would not remove it.
        told: list[tuple[int, int, list[tuple[str, str]]]] = []
        for (key, _), some in zip(groups, pairs, strict=True):
            if some:
                self._note_decimals(some[0])
            gone = self._windows[_SIDES[key]].update(some)
            told.append((_SIDES[key], EventFlag.SNAPSHOT if opening else 0, some))
            told.append((_SIDES[key], EventFlag.SNAPSHOT, gone))
        self.checksum = checksum
        self._tell(told, opening, ts_ns, recv_ns, path, row)

    def _tell(
        self,
        told: list[tuple[int, int, list[tuple[str, str]]]],
        opening: bool,
        ts_ns: int,
        recv_ns: int,
        path: Path,
        row: int,
    ) -> None:
        """Add what an update told to the book; or clear the book, or restore it, as the checksum says."""
        watch = self._watch
        was_shown = watch.shown
        watch.look(self.checksum, self._windows, self.decimals)
        if watch.failed:
            if self._strict:
                raise DataError(CHECKSUM_RULE, path=path, row=row)
            self._left.reject(CHECKSUM_RULE)
        if not (was_shown or watch.shown):
            self._left.pass_over("updates of a book that no checksum agreed with, kept out of sight")
            return
        self._columns.packet()
        restored = watch.shown and not was_shown
        if restored:
            told = [(side, EventFlag.SNAPSHOT, self._windows[side].best()) for side in (-1, 1)]
        if opening or restored or not watch.shown:
            flags = EventFlag.SNAPSHOT if watch.shown else 0
            self._columns.mark(ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=flags)
        if not watch.shown:
            self._left.miss("the book's updates, the book cleared at each", "no checksum that agrees")
            return
        for side, flags, levels in told:
            self._columns.levels(side, levels, ts_ns=ts_ns, recv_ns=recv_ns, row=row, flags=flags)

    def _note_decimals(self, level: tuple[str, str]) -> None:
        # A removal may be written as a bare 0.
        self.decimals = (
            max(self.decimals[0], len(level[0].partition(".")[2])),
            max(self.decimals[1], len(level[1].partition(".")[2])),
        )

    def finish(self) -> None:
        self.checksum = None

    def notes(self) -> tuple[str, ...]:
        return ()


def _groups_of(parts: list[Any], path: Path, row: int) -> list[tuple[str, list[list[str]]]]:
    return [(key, levels) for part in parts for key, levels in levels_of(part, path=path, row=row).items()]


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
        decoder=lambda columns, left: KrakenDecoder(columns, left, pair=pair, grid=grid, strict=strict),
        strict=strict,
    )


def verify(paths: Sequence[Path]) -> Verification:
    """Compare the CRC-32 of the book's best ten levels with that of every update."""
    files = in_order_of_name(paths)
    pairs = sorted(without_twins(read_heads(files, observe, whole=True)))
    found = of_each(
        pairs,
        lambda pair, instrument: open_source(files, symbol=pair, instrument=instrument),
        _compare,
    )
    check = Verification(
        matched=sum(entry[0] for entry in found),
        total=sum(entry[1] for entry in found),
        what="checksums",
        first_mismatch=next((entry[2] for entry in found if entry[2]), None),
        notes=(f"pairs: {', '.join(pairs)}",),
    )
    return counting_damage(check, (entry[3] for entry in found))


def _compare(pair: str, source: FeedEvents) -> tuple[int, int, str | None, Damage]:
    """Return how many checksums of a pair match, of how many, the first that does not, and the damage."""
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
    return matched, total, first, source.damage
