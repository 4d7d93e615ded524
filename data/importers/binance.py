"""Binance websocket streams recorded as JSON lines: spot, USD-M and COIN-M futures.

A line is the local receive time in ns (µs and ms are told by the digits), a blank, and the message, alone or
in the envelope of a combined stream; without a time in front, receipt is not recorded. Which venue it is, is
told by the fields. ``docs/importers/BINANCE.md`` says what becomes of each message; `binance_depth` holds the
sequence rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import RECV_NOT_RECORDED, EventKind
from . import Verification
from .binance_depth import Depth, DepthSync
from .binance_messages import Levels, Message, levels_of, parse_line, quote_of, stamp_of
from .binance_touch import TouchCheck
from .damage import FREE, SHARE_MAX, WildNumber, WrongRecording
from .event_columns import EventColumns
from .feed_source import (
    FeedEvents,
    Head,
    Pairs,
    chosen_symbol,
    counting_damage,
    in_order_of_name,
    read_heads,
    require_time,
    without_twins,
)
from .grid import instrument_of, of_each
from .stream_clocks import StreamClocks

_QUOTE_CURRENCIES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY")
_TRADES: Final = ("trade", "aggTrade")
MARKET_RULE: Final = "a trade must be of type MARKET"
TRADE_ID_RULE: Final = "a trade must have an id above those before"


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
        self.clocks = StreamClocks(left)
        self._stamp_ns: int | None = None
        self._last_trade: int | None = None
        self._wild_trade = WildNumber()
        self._markets = Counter[bool]()

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        self.depth.applied_id = self.quote = None
        recv_ns, message = parse_line(line, path=path, row=row)
        symbol = message.symbol or message.snapshot_symbol
        if symbol != self._symbol and not (symbol == "" and self._alone):
            self._left.pass_over("messages of other symbols or none")
        elif message.kind == "depthUpdate":
            self._require_one_market(message, path, row)
            self._require_levels(levels_of(message.b), levels_of(message.a), row)
            ts_ns = self._stamp("depth", message, recv_ns, path, row)
            self.depth.update(depth_of(message, ts_ns, recv_ns, path=path, row=row))
        elif message.snapshot_id is not None:
            self._require_levels(message.bids, message.asks, row)
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
            if self._quotes:
                self._columns.packet()
                ts_ns = self._stamp("bookTicker", message, recv_ns, path, row)
                self._columns.quote(*quote, ts_ns=ts_ns, recv_ns=recv_ns, row=row)
            else:
                self._left.pass_over("bookTicker messages, used by verify")
            self.quote = message
        else:
            self._left.pass_over(f"messages of kind {message.kind[:20] or 'none'}")

    def time_of(self, line: bytes, *, path: Path, row: int) -> tuple[str, int] | None:
        _, message = parse_line(line, path=path, row=row)
        stamp_ns = stamp_of(message)
        if stamp_ns is None or message.symbol != self._symbol:
            return None
        stream = "depth" if message.kind == "depthUpdate" else message.kind or "bookTicker"
        return "trade" if stream in _TRADES else stream, require_time(stamp_ns, path=path, row=row)

    def lost(self, line: bytes) -> None:
        """Nothing to do: the next ids tell whether it was an update or a trade."""

    def _require_levels(self, bids: Levels, asks: Levels, row: int) -> None:
        """Refuse numbers now: an update may be held, and then counts as one that came."""
        self._columns.require(bids, row=row)
        self._columns.require(asks, row=row)

    def _require_one_market(self, message: Message, path: Path, row: int) -> None:
        """Refuse spot and futures of one symbol in one book; only futures name the update before."""
        names_previous = message.previous_id is not None
        self._markets[names_previous] += 1
        own, other = self._markets[names_previous], self._markets[not names_previous]
        # The fewer may be damaged lines, even the first of all.
        are_both = min(own, other) > max(FREE, SHARE_MAX * max(own, other))
        if are_both or own <= other:
            raise (WrongRecording if are_both else DataError)(
                "expected depth updates of spot (without pu) or of futures (with pu), was both: "
                "import each market on its own", path=path, row=row,
            )  # fmt: skip

    def _trade(self, message: Message, recv_ns: int, path: Path, row: int) -> None:
        if message.price is None or message.size is None or message.buyer_is_maker is None:
            raise DataError("expected a trade with p, q and m", path=path, row=row)
        if message.kind != self._trade_kind:
            self._left.pass_over("aggTrade messages, since each trade is recorded")
            return
        if message.trade_type not in (None, "MARKET"):
            # Insurance fund and ADL fills never met the book.
            self._left.reject(MARKET_RULE)
            return
        pair = (message.price, message.size)
        self._columns.require((pair,), row=row, kind=EventKind.TRADE)
        ts_ns = self._stamp("trade", message, recv_ns, path, row)
        if self._is_repeated(message, ts_ns):
            self._left.reject(TRADE_ID_RULE)
        else:
            self._columns.packet()
            self._columns.add(
                (pair,),
                ts_ns=ts_ns,
                recv_ns=recv_ns,
                row=row,
                kind=EventKind.TRADE,
                is_checked=True,
                side=-1 if message.buyer_is_maker else 1,
            )

    def _is_repeated(self, message: Message, ts_ns: int) -> bool:
        """Tell whether a trade came before, as after a reconnection or from a second connection."""
        told = message.trade_id if message.kind == "trade" else message.a
        if not isinstance(told, int):
            return False
        if self._last_trade is not None and told <= self._last_trade and not self._wild_trade.refused(ts_ns):
            return True
        self._wild_trade.taken(ts_ns)
        if self._last_trade is not None and told != self._last_trade + 1:
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
        told_ns = stamp_of(message)
        if told_ns is not None:
            require_time(told_ns, path=path, row=row)
        else:
            # A spot bookTicker or snapshot has no time of its own: the last one the venue told, or ours.
            told_ns = recv_ns if self._stamp_ns is None else self._stamp_ns
            if told_ns == RECV_NOT_RECORDED:
                raise DataError("expected a time, of the venue or of receipt, was none", path=path, row=row)
        reached_ns = self.clocks.reach(stream, told_ns, path=path, row=row, expected_late=expected_late)
        self._stamp_ns = told_ns
        return reached_ns

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
    alone, head = len(without_twins(heads)) == 1, heads[name]
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
        strict=strict,
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
    symbols = sorted(without_twins(read_heads(files, observe, whole=True)).keys() - {""})
    found = of_each(
        symbols,
        lambda symbol, instrument: open_source(files, symbol=symbol, instrument=instrument, quotes=True),
        lambda _, source: (TouchCheck.of(source), source.damage),
    )
    checks = [entry[0] for entry in found]
    implied = sum(check.implied for check in checks), sum(check.implied_total for check in checks)
    check = Verification(
        matched=sum(check.matched for check in checks),
        total=sum(check.total for check in checks),
        what="touches equal to the bookTicker of the same update id",
        first_mismatch=next((check.first_mismatch for check in checks if check.first_mismatch), None),
        notes=(
            f"symbols: {', '.join(symbols)}",
            f"{implied[0]:,} of {implied[1]:,} touches equal the last bookTicker up to their update id",
        ),
    )
    return counting_damage(check, (entry[1] for entry in found))
