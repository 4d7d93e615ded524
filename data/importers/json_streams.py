"""JSON-lines recordings of anybody's depth, trade and quote streams, following a mapping of paths.

`json_mapping` has the form of the mapping, `json_sniff` proposes one, ``docs/importers/JSONL.md`` says what
becomes of each message. Numbers are taken as they are written, whether as text or as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from ext.decimal_text import decimal_units
from ext.order_book import OrderBook

from ..columns import PRICE_TICKS_MAX, TS_NS_MAX
from ..errors import ConfigError, DataError
from ..instrument import Instrument
from ..mapping import UNITS, TimeMapping
from ..quarantine import LeftOut, Quarantine
from ..schema import RECV_NOT_RECORDED, EventFlag, EventKind
from . import Verification
from .damage import Twins, WildNumber
from .event_columns import QUOTE_SIZE_LOTS_MAX, EventColumns
from .feed_source import FeedEvents, in_order_of_name
from .grid import ALWAYS, SIZE_LOTS_MAX, Grid, stored_symbol
from .json_conditions import holds, only_other_word
from .json_mapping import PREFIX, JsonMapping, StreamMapping
from .json_sequence import SequenceFollower
from .json_shapes import at_path, text_of
from .stream_clocks import StreamClocks

TIME_RULE: Final = "time must be readable and lie between 1970 and 2200"
PRICE_RULE: Final = "prices must be multiples of the price increment that fit 30 bits"
SIZE_RULE: Final = "sizes must be multiples of the lot size, from 0 up"
SIDE_RULE: Final = "side must be a word of the mapping"
OLD_RULE: Final = "a message must be newer than the one before it"
SHAPE_RULE: Final = "a message must have what the mapping names"

# The nearest double is never used: the digits as written are.
_DECODER: Final = msgspec.json.Decoder(float_hook=str)
_LINE: Final = re.compile(rb"(?P<prefix>[^\[{]*)(?P<message>[\[{].*)", re.DOTALL)
_ISO: Final = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](?P<part>\d+))?(?P<zone>Z|[+-]\d\d:?\d\d)?", re.ASCII
)

Pair = tuple[str, str]


class _Bad(Exception):
    """A message breaks a rule; never leaves this module."""


def parse_line(line: bytes) -> tuple[str, Any]:
    """Return (what stands in front, the message).

    Raises
    ------
    ValueError
        The line is no JSON.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("no JSON object or array")
    try:
        message = _DECODER.decode(match["message"])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return match["prefix"].decode("utf-8", "replace").strip().rstrip(":").rstrip(), message


def instant_ns(value: Any, time: TimeMapping) -> int | None:
    """Return an instant in ns since the Unix epoch, without rounding; None where it cannot be read."""
    text = text_of(value)
    if not text:
        return None
    if time.unit in UNITS:
        whole, _, part = text.partition(".")
        digits = UNITS[time.unit]
        units, good = decimal_units([f"{whole}.{part[:digits]}" if part[:digits] else whole], digits)
        found = int(units[0]) if good else None
    elif time.unit == "iso":
        found = _iso_ns(text, time.time_zone)
    else:
        found = _formatted_ns(text, time)
    return found if found is not None and 0 <= found <= TS_NS_MAX else None


def _iso_ns(text: str, time_zone: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(match["whole"] + (match["zone"] or ""))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(time_zone))
    return int(moment.timestamp()) * 10**9 + int((match["part"] or "0")[:9].ljust(9, "0"))


def _formatted_ns(text: str, time: TimeMapping) -> int | None:
    try:
        moment = datetime.strptime(text, time.unit)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(time.time_zone))
    since = moment - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


class JsonDecoder:
    """One mapping's streams."""

    def __init__(
        self, columns: EventColumns, left: LeftOut, *, mapping: JsonMapping, grid: Grid, strict: bool
    ) -> None:
        self._columns, self._left, self._mapping = columns, left, mapping
        self._grid, self._strict = grid, strict
        self.clocks = StreamClocks(left)
        self._sequence = SequenceFollower()
        books = [stream for stream in mapping.streams if _shared(stream) == "book"]
        self._is_numbered = all(stream.sequence is not None for stream in books if not stream.snapshot)
        # Of books whose numbers tell no gap; where all damage refuses, a like symbol is no damage.
        self._unnumbered = [] if self._is_numbered or strict else [stream.where for stream in books]
        self._words = Twins(chain.from_iterable(chain.from_iterable(map(dict.values, self._unnumbered))))
        self._wild = {shared: WildNumber() for shared in ("book", "trades", "quotes")}
        self._doubted = self._followed = False

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self._followed = False
        try:
            prefix, message = parse_line(line)
        except ValueError as error:
            raise DataError(f"expected JSON, perhaps with a prefix: {error}", path=path, row=row) from error
        for stream in self._mapping.streams:
            if holds(message, stream.where):
                self._take(stream, prefix, message, line, path, row)
                return
        for where in self._unnumbered:
            if (word := only_other_word(message, where)) is not None:
                self._words.require_other(word, path=path, row=row)
        self._left.pass_over("messages that no stream of the mapping takes")

    def time_of(self, line: bytes, *, path: Path, row: int) -> tuple[str, int] | None:
        try:
            prefix, message = parse_line(line)
            stream = next((one for one in self._mapping.streams if holds(message, one.where)), None)
            if stream is None:
                return None
            records = at_path(message, stream.each) if stream.each else [message]
            record = records[0] if isinstance(records, list) and records else None
            return _shared(stream), self._time(stream.time, prefix, message, record)
        except (ValueError, _Bad):
            return None

    def lost(self, line: bytes) -> None:
        """Doubt the book, unless the next number tells whether the line was one of its."""
        self._doubted = self._doubted or not self._is_numbered or self._followed

    def _take(
        self, stream: StreamMapping, prefix: str, message: Any, line: bytes, path: Path, row: int
    ) -> None:
        records = at_path(message, stream.each) if stream.each else [message]
        if not isinstance(records, list):
            self._reject(SHAPE_RULE, stream, line, path, row)
            return
        if stream.sequence is not None and not self._follow(stream, message, line, path, row):
            return
        for record in records:
            try:
                self._record(stream, prefix, message, record, path, row)
            except _Bad as error:
                self._reject(str(error), stream, line, path, row)

    def _follow(self, stream: StreamMapping, message: Any, line: bytes, path: Path, row: int) -> bool:
        """Follow the feed's own numbers; False for a message that came before."""
        assert stream.sequence is not None
        self._followed = True
        shared = _shared(stream)
        opening = bool(stream.snapshot) and holds(message, stream.snapshot)
        newer, missing = self._sequence.follow(stream.sequence, shared, message, opening=opening)
        if not newer and self._is_wild(shared, line, path, row):
            self._sequence = SequenceFollower()
            newer, _ = self._sequence.follow(stream.sequence, shared, message, opening=opening)
            missing = "a number taken before is far too large"
        if not newer:
            if self._strict:
                raise DataError(f"{OLD_RULE}, was {line[:60]!r}", path=path, row=row)
            self._left.reject(OLD_RULE)
        if missing is not None:
            if self._strict:
                raise DataError(f"{stream.sequence.last}: {missing}", path=path, row=row)
            self._left.miss(f"the numbers at {stream.sequence.last}", missing)
            self._doubted = self._doubted or shared == "book"
        return newer

    def _is_wild(self, shared: str, line: bytes, path: Path, row: int) -> bool:
        told = self.time_of(line, path=path, row=row)
        return told is not None and self._wild[shared].refused(told[1])

    def _record(
        self, stream: StreamMapping, prefix: str, message: Any, record: Any, path: Path, row: int
    ) -> None:
        groups = self._groups(stream, message, record)
        ts_ns = self._time(stream.time, prefix, message, record)
        recv_ns = RECV_NOT_RECORDED
        if stream.receive is not None:
            recv_ns = self._time(stream.receive, prefix, message, record)
        opening = bool(stream.snapshot) and holds(message, stream.snapshot)
        # Snapshots and updates of one book stay in order, whatever their clocks say.
        shared = _shared(stream)
        ts_ns = self.clocks.reach(shared, ts_ns, path=path, row=row, expected_late=opening)
        self._wild[shared].taken(ts_ns)
        if not groups and not opening:
            return
        self._columns.packet()
        flags = int(EventFlag.SNAPSHOT) if opening else 0
        clearing = opening or (self._doubted and shared == "book")
        if clearing:
            # A level that changed unseen would stand for ever.
            self._doubted = False
            self._columns.mark(ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=flags)
        for kind, side, pairs in groups:
            self._columns.add(pairs, ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=kind, side=side, flags=flags)

    def _groups(self, stream: StreamMapping, message: Any, record: Any) -> list[tuple[int, int, list[Pair]]]:
        """Return (kind, side, levels) of a record, every number checked."""
        columns = stream.columns
        if stream.kind == "depth":
            found: list[tuple[int, int, list[Pair]]] = []
            if "changes" in columns:
                for level in self._levels(record, columns["changes"]):
                    side = self._side(stream, at_path(level, stream.level.side))
                    found.append((EventKind.LEVEL, side, [self._pair(stream, level)]))
                return found
            for side, part in ((1, "bids"), (-1, "asks")):
                pairs = [self._pair(stream, level) for level in self._levels(record, columns[part])]
                if pairs:
                    found.append((EventKind.LEVEL, side, pairs))
            return found
        if stream.kind == "quotes":
            sized = "bid_size" in columns
            sides = [
                self._checked(
                    at_path(record, columns[name]),
                    at_path(record, columns[f"{name}_size"]) if sized else self._grid.size.text(1),
                    most=QUOTE_SIZE_LOTS_MAX,
                )
                for name in ("bid", "ask")
            ]
            return [(EventKind.QUOTE, 0, sides)]
        side = self._side(stream, at_path(record, columns["side"])) if "side" in columns else 0
        kind = EventKind.TRADE if stream.kind == "trades" else EventKind.LEVEL
        pair = self._checked(at_path(record, columns["price"]), at_path(record, columns["size"]))
        return [(kind, side, [pair])]

    def _levels(self, record: Any, path: str) -> list[Any]:
        levels = at_path(record, path)
        if levels is None:
            return []
        if not isinstance(levels, list):
            raise _Bad(SHAPE_RULE)
        return levels

    def _pair(self, stream: StreamMapping, level: Any) -> Pair:
        return self._checked(at_path(level, stream.level.price), at_path(level, stream.level.size))

    def _checked(self, price: Any, size: Any, *, most: int = SIZE_LOTS_MAX) -> Pair:
        texts = text_of(price), text_of(size)
        if texts[0] is None or texts[1] is None:
            raise _Bad(SHAPE_RULE)
        if not self._grid.price.judged_units([texts[0]], limit=PRICE_TICKS_MAX)[1].all():
            raise _Bad(PRICE_RULE)
        lots, known = self._grid.size.judged_units([texts[1]], limit=most)
        if not known[0] or lots[0] < 0:
            raise _Bad(SIZE_RULE)
        return texts[0], texts[1]

    def _side(self, stream: StreamMapping, value: Any) -> int:
        word = (text_of(value) or "").lower()
        if word in stream.side.buy:
            return 1
        if word in stream.side.sell:
            return -1
        if stream.kind == "trades" and not word:
            return 0
        raise _Bad(SIDE_RULE)

    def _time(self, time: TimeMapping, prefix: str, message: Any, record: Any) -> int:
        if time.column == PREFIX:
            value: Any = prefix
        else:
            value = at_path(record, time.column)
            value = at_path(message, time.column) if value is None else value
        found = instant_ns(value, time)
        if found is None:
            raise _Bad(TIME_RULE)
        return found

    def _reject(self, rule: str, stream: StreamMapping, line: bytes, path: Path, row: int) -> None:
        if self._strict:
            raise DataError(f"{rule}, was {line[:60]!r}", path=path, row=row)
        self._left.reject(rule)
        self._doubted = self._doubted or _shared(stream) == "book"

    def finish(self) -> None:
        """Nothing is held back."""

    def notes(self) -> tuple[str, ...]:
        return ()


def _shared(stream: StreamMapping) -> str:
    """Return what a stream shares clock and numbers with: the book, the trades or the quotes."""
    return stream.kind if stream.kind in ("trades", "quotes") else "book"


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
    mapping: JsonMapping | None = None,
) -> FeedEvents:
    """Open recordings of consecutive times, in order of name.

    Parameters
    ----------
    paths : sequence of Path
    symbol : str, optional
        Instead of the mapping's; without a mapping, which of several symbols to propose one for.
    instrument : Instrument, optional
        Instead of what the mapping says of symbol and grid.
    strict : bool
        Make a bad row an error instead of setting it aside.
    mapping : JsonMapping, optional
        Proposed by the first lines where left out.
    """
    from .json_sniff import sniff_json

    files = in_order_of_name(paths)
    found = sniff_json(files[0], symbol=symbol) if mapping is None else mapping
    if instrument is None:
        instrument = Instrument(
            symbol=stored_symbol(symbol or found.symbol),
            price_increment=found.price_increment,
            lot_size=found.lot_size,
            session=ALWAYS,
        )
    for stream in found.streams:
        for time in (stream.time, stream.receive):
            _require_zone(time)
    grid = Grid.of(instrument)
    return FeedEvents(
        files,
        instrument=instrument,
        title="JSON lines of",
        decoder=lambda columns, left: JsonDecoder(columns, left, mapping=found, grid=grid, strict=strict),
        strict=strict,
    )


def _require_zone(time: TimeMapping | None) -> None:
    try:
        ZoneInfo("UTC" if time is None else time.time_zone)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"time_zone must be known, was {time.time_zone if time else ''!r}") from error


def verify(paths: Sequence[Path]) -> Verification:
    """Count the messages that keep the rules and leave the book uncrossed; there is no other truth."""
    book, total = OrderBook(), 0
    source = open_source(paths)
    source.quarantine = quarantine = Quarantine()
    for events in source.blocks():
        book.apply(np.ascontiguousarray(events))
        total += int((events["flags"] & EventFlag.LAST_IN_PACKET != 0).sum())
    return Verification(
        matched=total - book.crossed,
        total=total + quarantine.total,
        what="messages that keep the rules, with an uncrossed book",
        first_mismatch=next(iter(quarantine.counts), None),
        notes=source.notes,
    )
