"""Lines of a Shanghai order-by-order log: orders, trades and exchange snapshots, parsed and checked.

One line a message, ``key=value`` pairs after ``//``. Lines come in order of arrival and interleave two
feeds, orders and trades, each of which counts upward in BizIndex; the exchange's order is BizIndex over
both. So a file is read twice at once, one pass a feed, and merged, in memory that does not grow.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import DataError
from .compressed import chunks

PRICE_INCREMENT: Final = 0.001
SIZE_UNITS: Final = 1_000
"""Quantity units of 0.001 share in one share."""
DEPTH: Final = 10
SHANGHAI: Final = b"101"

ORDER: Final = b"192"
TRADE: Final = b"191"
SNAPSHOT: Final = b"111"
ADD, DELETE = 65, 68
BUY, SELL, AUCTION = 66, 83, 78

_LINE_BYTES_MAX: Final = 1 << 14
# A field that goes on after its digits is damaged: it is then missing, not what the digits say.
_PAIR: Final = re.compile(rb"(?<![^\s/])([A-Za-z]+(?:\[\d\]\.[A-Za-z]+)?)=(\d*)(?!\S)")
_STOCK: Final = re.compile(rb"(?<![^\s/])SecurityID=(\d{1,12})(?!\S)")
_PRICE_MAX: Final = (1 << 30) - 1
_SIZE_MAX: Final = 1 << 48
_ID_MAX: Final = (1 << 63) - 1


class Order(NamedTuple):
    """An order that joins the book, or leaves it.

    Prices are units of 0.001 CNY, sizes shares, times ns after midnight in Shanghai.
    """

    biz_index: int
    row: int
    clock_ns: int
    order_id: int
    side: int
    price: int
    size: int
    added: bool


class Trade(NamedTuple):
    """A trade between two orders; `aggressor` is +1, −1, or 0 in an auction."""

    biz_index: int
    row: int
    clock_ns: int
    bid_id: int
    ask_id: int
    price: int
    size: int
    aggressor: int


class Snapshot(NamedTuple):
    """What the exchange said the book was; sides are (price, size) pairs, best first."""

    row: int
    clock_s: int
    phase: int
    trades: int
    volume: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


class SseLog:
    """One day of one stock.

    Parameters
    ----------
    path : Path
        Packed or not.
    symbol : str, optional
        SecurityID; needed where the log has more than one.
    """

    def __init__(self, path: Path, symbol: str | None = None) -> None:
        self.path = path
        self.symbol = symbol or self._first_symbol()
        self._named = symbol is not None

    def _first_symbol(self) -> str:
        _, line = next(self._lines(None), (0, b""))
        fields = dict(_PAIR.findall(line))
        return self._text(fields, b"SecurityID", 0)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (row, line) of every message."""
        return self._lines(None)

    def messages(self) -> Iterator[Order | Trade]:
        """Yield orders and trades in the exchange's order."""
        orders, trades = self._ascending(self._orders()), self._ascending(self._trades())
        previous = 0
        for message in heapq.merge(orders, trades, key=_biz_index):
            if message.clock_ns < previous:
                raise self._error(f"time must not run backwards in BizIndex order: expected at least "
                                  f"{previous}, was {message.clock_ns}", message.row)  # fmt: skip
            previous = message.clock_ns
            yield message

    def _ascending(self, feed: Iterator[Order | Trade]) -> Iterator[Order | Trade]:
        last = -1
        for message in feed:
            if message.biz_index <= last:
                raise self._error(f"BizIndex must grow within orders and within trades: expected more than "
                                  f"{last}, was {message.biz_index}", message.row)  # fmt: skip
            last = message.biz_index
            yield message

    def _lines(self, kind: bytes | None) -> Iterator[tuple[int, bytes]]:
        """Yield (row, line) of one type of message, of all with None."""
        held, row = b"", 0
        wanted = b"" if kind is None else b"MsgType=" + kind + b" "
        for chunk in chunks(self.path):
            lines = (held + chunk).split(b"\n")
            held = lines.pop()
            if len(held) > _LINE_BYTES_MAX:
                raise self._error(f"expected lines of at most {_LINE_BYTES_MAX} bytes, was more", row)
            for line in lines:
                if wanted in line:
                    yield row, line
                elif kind is ORDER:
                    self._require_known(line, row)
                row += 1
        if held and wanted in held:
            yield row, held
        elif kind is ORDER:
            self._require_known(held, row)

    def _require_known(self, line: bytes, row: int) -> None:
        """Refuse a line of no known type; done by one pass, for all lines."""
        if line.strip() and b"MsgType=191 " not in line and b"MsgType=111 " not in line:
            raise self._error(f"expected MsgType 111, 191 or 192, was {line[:80]!r}", row)

    def _fields(self, kind: bytes) -> Iterator[tuple[int, dict[bytes, bytes]]]:
        for row, line in self._lines(kind):
            fields: dict[bytes, bytes] = dict(_PAIR.findall(line))
            if fields.get(b"SecurityIDSource") != SHANGHAI:
                source = fields.get(b"SecurityIDSource", b"").decode()
                raise self._error(f"expected SecurityIDSource 101 (Shanghai), was {source!r}", row)
            symbol = self._text(fields, b"SecurityID", row)
            if symbol != self.symbol:
                if not self._named:
                    raise self._error(f"expected one stock, {self.symbol}, or its name given, was {symbol}",
                                      row)  # fmt: skip
                continue
            yield row, fields

    def _orders(self) -> Iterator[Order]:
        for row, fields in self._fields(ORDER):
            kind, side = self._whole(fields, b"OrdType", row), self._whole(fields, b"Side", row)
            if kind not in (ADD, DELETE) or side not in (BUY, SELL):
                raise self._error(f"OrdType must be 65 or 68 and Side 66 or 83, was {kind} and {side}", row)
            yield Order(
                self._whole(fields, b"BizIndex", row),
                row,
                self._clock_ns(fields, row),
                self._whole(fields, b"OrderNo", row, least=1),
                1 if side == BUY else -1,
                self._whole(fields, b"Price", row, least=1, most=_PRICE_MAX),
                self._size(fields, b"OrderQty", row, least=1),
                kind == ADD,
            )

    def _trades(self) -> Iterator[Trade]:
        for row, fields in self._fields(TRADE):
            kind = self._whole(fields, b"ExecType", row)
            if kind not in (BUY, SELL, AUCTION):
                raise self._error(f"ExecType must be 66, 83 or 78, was {kind}", row)
            yield Trade(
                self._whole(fields, b"BizIndex", row),
                row,
                self._clock_ns(fields, row),
                self._whole(fields, b"BidApplSeqNum", row, least=1),
                self._whole(fields, b"OfferApplSeqNum", row, least=1),
                self._whole(fields, b"LastPx", row, least=1, most=_PRICE_MAX),
                self._size(fields, b"LastQty", row, least=1),
                {BUY: 1, SELL: -1, AUCTION: 0}[kind],
            )

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the exchange's snapshots in order of arrival."""
        for row, fields in self._fields(SNAPSHOT):
            stamp = self._whole(fields, b"DataTimeStamp", row, most=235_959)
            yield Snapshot(
                row,
                stamp // 10_000 * 3_600 + stamp // 100 % 100 * 60 + stamp % 100,
                self._whole(fields, b"TradingPhase", row),
                self._whole(fields, b"NumTrades", row),
                self._size(fields, b"TotalVolumeTrade", row, least=0),
                self._levels(fields, b"Bid", row),
                self._levels(fields, b"Ask", row),
            )

    def _levels(self, fields: dict[bytes, bytes], side: bytes, row: int) -> tuple[tuple[int, int], ...]:
        levels = []
        for place in range(DEPTH):
            key = b"%sLevel[%d]." % (side, place)
            size = self._size(fields, key + b"Qty", row, least=0)
            # In an auction the second level states the surplus, at price 0.
            if size:
                levels.append((self._whole(fields, key + b"Price", row, most=_PRICE_MAX), size))
        return tuple(levels)

    def _text(self, fields: dict[bytes, bytes], name: bytes, row: int) -> str:
        value = fields.get(name, b"")
        if not value:
            raise self._error(f"expected {name.decode()}, was none", row)
        return value.decode()

    def _whole(
        self, fields: dict[bytes, bytes], name: bytes, row: int, *, least: int = 0, most: int = _ID_MAX
    ) -> int:
        text = fields.get(name, b"")
        value = int(text) if text and len(text) < 20 else -1
        if not least <= value <= most:
            raise self._error(f"{name.decode()} must be a number from {least} to {most}, was "
                              f"{text.decode()[:24] or 'none'}", row)  # fmt: skip
        return value

    def _size(self, fields: dict[bytes, bytes], name: bytes, row: int, *, least: int) -> int:
        units = self._whole(fields, name, row, least=least, most=_SIZE_MAX)
        if units % SIZE_UNITS:
            raise self._error(f"{name.decode()} must be whole shares of 1000 units, was {units}", row)
        return units // SIZE_UNITS

    def _clock_ns(self, fields: dict[bytes, bytes], row: int) -> int:
        stamp = self._whole(fields, b"TransactTime", row, most=23_595_999)
        minutes, seconds = stamp // 10_000 % 100, stamp // 100 % 100
        if minutes > 59 or seconds > 59:
            raise self._error(f"TransactTime must be HHMMSSss, was {stamp}", row)
        return ((stamp // 1_000_000 * 60 + minutes) * 60 + seconds) * 10**9 + stamp % 100 * 10**7

    def _error(self, rule: str, row: int) -> DataError:
        return DataError(rule, path=self.path, row=row)


def _biz_index(message: Order | Trade) -> int:
    return message.biz_index


def stocks_in(path: Path) -> list[str | None]:
    """Return the stocks of a log that has snapshots of several, each named; else None, for the only one.

    Raises
    ------
    DataError
        A message is of none of several stocks.
    """
    log = SseLog(path)
    seen: dict[bytes, int] = {}
    shown: set[bytes] = set()
    for row, line in log.lines():
        match = _STOCK.search(line)
        if match is not None:
            seen.setdefault(match[1], row)
            if b"MsgType=" + SNAPSHOT + b" " in line:
                shown.add(match[1])
    if len(shown) < 2:
        return [None]
    for stock, row in seen.items():
        if stock not in shown:
            raise DataError(
                f"expected one of the stocks with snapshots, was {stock.decode()}", path=path, row=row
            )
    return [stock.decode() for stock in sorted(shown)]
