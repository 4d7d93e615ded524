"""Binance websocket streams recorded as JSON lines: spot, USD-M and COIN-M futures.

A line is the local receive time in ns (µs and ms are told by the digits), a blank, and the message, alone or
in the envelope of a combined stream; without a time in front, receipt is not recorded. Which venue it is, is
told by the fields. ``docs/importers/BINANCE.md`` says what becomes of each message; `binance_depth` holds the
sequence rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import RECV_NOT_RECORDED, EventKind
from . import Verification
from .binance_depth import Depth, DepthSync
from .binance_touch import TouchCheck
from .event_columns import EventColumns
from .feed_source import FeedEvents, Head, Pairs, chosen_symbol, in_order_of_name, read_heads, require_time
from .grid import instrument_of, of_each
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
_QUOTE_CURRENCIES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY")
_PARTIAL: Final = re.compile(r"@depth(?:5|10|20)(?:@|$)")
_MICROSECONDS_MIN: Final = 10**14
"""A stamp from here on counts microseconds, which streams can be asked for; as ms it were the year 5138."""
_TRADES: Final = ("trade", "aggTrade")
MARKET_RULE: Final = "a trade must be of type MARKET"
TRADE_ID_RULE: Final = "a trade must have an id above those before"


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
        message.bids, message.asks = _levels_of(message.b), _levels_of(message.a)
    if not message.symbol and not message.snapshot_symbol:
        message.snapshot_symbol = envelope.stream.partition("@")[0].upper()
    return recv_ns, message


def _levels_of(side: Levels | str | int | None) -> Levels:
    return side if isinstance(side, list) else []


def quote_of(message: Message) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return the bid and ask of a bookTicker, each (price, size); None for other messages."""
    if message.kind not in ("", "bookTicker") or message.last_id is None:
        return None
    found = (message.b, message.bid_size, message.a, message.ask_size)
    if not all(isinstance(part, str) for part in found):
        return None
    return (str(found[0]), str(found[1])), (str(found[2]), str(found[3]))


def observe(line: bytes, *, path: Path, row: int) -> tuple[str, str, Pairs] | None:
    """Say what a line holds, see `feed_source.Observer`; a snapshot that names no symbol has ""."""
    _, message = parse_line(line, path=path, row=row)
    if message.kind == "depthUpdate":
        venue = "spot" if message.previous_id is None else "COIN-M" if message.pair else "USD-M"
        depth = depth_of(message, 0, 0, path=path, row=row)
        return message.symbol, f"depth {venue}", [*depth.bids, *depth.asks]
    if message.snapshot_id is not None:
        return message.snapshot_symbol, "snapshot", [*message.bids, *message.asks]
    if message.kind in _TRADES and message.price is not None and message.size is not None:
        return message.symbol, message.kind, [(message.price, message.size)]
    quote = quote_of(message)
    return None if quote is None else (message.symbol, "bookTicker", quote)


def depth_of(message: Message, ts_ns: int, recv_ns: int, *, path: Path, row: int) -> Depth:
    """Return a depth update as `binance_depth` takes it."""
    if (
        message.first_id is None
        or message.last_id is None
        or not isinstance(message.b, list)
        or not isinstance(message.a, list)
    ):
        raise DataError("expected a depthUpdate with U, u, b and a", path=path, row=row)
    return Depth(
        first_id=message.first_id,
        last_id=message.last_id,
        previous_id=message.previous_id,
        bids=message.b,
        asks=message.a,
        ts_ns=ts_ns,
        recv_ns=recv_ns,
        path=path,
        row=row,
    )


class BinanceDecoder:
    """One symbol's streams."""

    def __init__(
        self,
        columns: EventColumns,
        left: LeftOut,
        *,
        symbol: str,
        alone: bool,
        kinds: frozenset[str],
        quotes: bool,
        strict: bool,
    ) -> None:
        replacing = "snapshot" in kinds and not any(kind.startswith("depth ") for kind in kinds)
        self._columns, self._left, self._symbol, self._alone = columns, left, symbol, alone
        self._quotes = quotes
        self._trade_kind = "trade" if "trade" in kinds else "aggTrade"
        self.depth = DepthSync(columns, left, strict=strict, replacing=replacing)
        self.quote: Message | None = None
        self._reached_ns: dict[str, int] = {}
        self._stamp_ns: int | None = None
        self._last_trade: int | None = None
        self._names_previous: bool | None = None

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        recv_ns, message = parse_line(line, path=path, row=row)
        self.depth.applied_id = None
        self.quote = None
        symbol = message.symbol or message.snapshot_symbol
        if symbol != self._symbol and not (symbol == "" and self._alone):
            self._left.pass_over("messages of other symbols or none")
        elif message.kind == "depthUpdate":
            self._require_one_market(message, path, row)
            ts_ns = self._stamp("depth", message, recv_ns, path, row)
            self.depth.update(depth_of(message, ts_ns, recv_ns, path=path, row=row))
        elif message.snapshot_id is not None:
            ts_ns = self._stamp("depth", message, recv_ns, path, row, expected_late=True)
            self.depth.snapshot(
                message.snapshot_id,
                message.bids,
                message.asks,
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                path=path,
                row=row,
            )
        elif message.kind in _TRADES:
            self._trade(message, recv_ns, path, row)
        elif (quote := quote_of(message)) is not None:
            self.quote = message
            if self._quotes:
                self._columns.packet()
                ts_ns = self._stamp("bookTicker", message, recv_ns, path, row)
                self._columns.quote(*quote, ts_ns=ts_ns, recv_ns=recv_ns, row=row)
            else:
                self._left.pass_over("bookTicker messages, used by verify")
        else:
            self._left.pass_over(f"messages of kind {message.kind[:20] or 'none'}")

    def _require_one_market(self, message: Message, path: Path, row: int) -> None:
        """Refuse spot and futures of one symbol in one book; only futures name the update before."""
        names_previous = message.previous_id is not None
        if self._names_previous not in (None, names_previous):
            raise DataError(
                "expected depth updates of spot (without pu) or of futures (with pu), was both: "
                "import each market on its own", path=path, row=row,
            )  # fmt: skip
        self._names_previous = names_previous

    def _trade(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.price is None or message.size is None or message.buyer_is_maker is None:
            raise DataError("expected a trade with p, q and m", path=path, row=row)
        if message.kind != self._trade_kind:
            self._left.pass_over("aggTrade messages, since each trade is recorded")
        elif message.trade_type not in (None, "MARKET"):
            # Insurance fund and ADL fills never met the book.
            self._left.reject(MARKET_RULE)
        elif self._is_repeated(message):
            self._left.reject(TRADE_ID_RULE)
        else:
            self._columns.packet()
            self._columns.add(
                ((message.price, message.size),),
                ts_ns=self._stamp("trade", message, recv_ns, path, row),
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.TRADE,
                side=-1 if message.buyer_is_maker else 1,
            )

    def _is_repeated(self, message: Message) -> bool:
        """Tell whether a trade came before, as after a reconnection or from a second connection."""
        told = message.trade_id if message.kind == "trade" else message.a
        if not isinstance(told, int):
            return False
        if self._last_trade is not None and told <= self._last_trade:
            return True
        if self._last_trade is not None and told > self._last_trade + 1:
            self._left.miss("trade ids", f"expected {self._last_trade + 1}, was {told}")
        self._last_trade = told
        return False

    def _stamp(
        self,
        stream: str,
        message: Message,
        recv_ns: int,
        path: Path,
        row: int,
        *,
        expected_late: bool = False,
    ) -> int:
        """Return the venue time, which never runs backwards within one stream."""
        stamp_ms = message.trade_ms if message.trade_ms is not None else message.event_ms
        if stamp_ms is not None:
            unit_ns = 1_000 if stamp_ms >= _MICROSECONDS_MIN else 1_000_000
            self._stamp_ns = require_time(stamp_ms * unit_ns, path=path, row=row)
        elif self._stamp_ns is None:
            # A spot bookTicker or snapshot has no time of its own: the last one the venue told, or ours.
            if recv_ns == RECV_NOT_RECORDED:
                raise DataError("expected a time, of the venue or of receipt, was none", path=path, row=row)
            self._stamp_ns = recv_ns
        reached_ns = self._reached_ns.get(stream, 0)
        if self._stamp_ns < reached_ns and not expected_late:
            self._left.pass_over(f"{stream} times that ran backwards, raised to the time before")
        self._reached_ns[stream] = max(reached_ns, self._stamp_ns)
        return self._reached_ns[stream]

    def finish(self) -> None:
        self.quote = None
        self.depth.finish()

    def notes(self) -> tuple[str, ...]:
        return self.depth.notes()


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
    quotes: bool | None = None,
) -> FeedEvents:
    """Open recorded streams of one symbol.

    Parameters
    ----------
    paths : sequence of Path
        Files of consecutive times, in order of name; sequence numbers are followed across them.
    strict : bool
        Make a gap in the sequence an error.
    quotes : bool, optional
        Also give bookTicker messages, as QUOTE events. Left out: only where there is no depth, since a quote
        and a diff that overtake each other would make the touch go back in time.
    """
    files = in_order_of_name(paths)
    heads = read_heads(files, observe, wanted=symbol)
    unnamed = heads.pop("", Head())
    if not heads and symbol is not None and unnamed.prices:
        # Partial books of spot outside an envelope name nothing.
        heads[symbol] = Head(kinds=unnamed.kinds)
    name = chosen_symbol(heads, symbol, path=files[0])
    alone, head = len(heads) == 1, heads[name]
    if alone:
        head.kinds |= unnamed.kinds
        head.prices += unnamed.prices
        head.sizes += unnamed.sizes
    if instrument is None:
        instrument = _instrument(name, head, path=files[0])
    has_depth = any(kind.startswith("depth") for kind in head.kinds)
    kinds, with_quotes = frozenset(head.kinds), not has_depth if quotes is None else quotes
    return FeedEvents(
        files,
        instrument=instrument,
        title="Binance" + next((f" {kind[6:]}" for kind in sorted(kinds) if kind.startswith("depth ")), ""),
        decoder=lambda columns, left: BinanceDecoder(
            columns, left, symbol=name, alone=alone, kinds=kinds, quotes=with_quotes, strict=strict
        ),
    )


def _instrument(name: str, head: Head, *, path: Path) -> Instrument:
    currency = next((money for money in _QUOTE_CURRENCIES if name.endswith(money)), "USD")
    found = instrument_of(name, head.prices, head.sizes, path=path, currency=currency)
    if "depth COIN-M" in head.kinds or re.fullmatch(r"\w+USD_(?:PERP|\d{6})", name):
        # A contract is worth 100 USD for BTC and 10 USD for everything else; profit is paid in the coin.
        base = name.partition("USD")[0]
        return replace(found, inverse=True, multiplier=100.0 if base == "BTC" else 10.0, currency=base)
    return found


def verify(paths: Sequence[Path]) -> Verification:
    """Compare the book's touch after each depth update with the bookTicker of the same update id."""
    files = in_order_of_name(paths)
    symbols = sorted(read_heads(files, observe, whole=True).keys() - {""})
    checks = of_each(
        symbols,
        lambda symbol, instrument: open_source(files, symbol=symbol, instrument=instrument, quotes=True),
        lambda _, source: TouchCheck.of(source),
    )
    implied = sum(check.implied for check in checks), sum(check.implied_total for check in checks)
    return Verification(
        matched=sum(check.matched for check in checks),
        total=sum(check.total for check in checks),
        what="touches equal to the bookTicker of the same update id",
        first_mismatch=next((check.first_mismatch for check in checks if check.first_mismatch), None),
        notes=(
            f"symbols: {', '.join(symbols)}",
            f"{implied[0]:,} of {implied[1]:,} touches equal the last bookTicker up to their update id",
        ),
    )
