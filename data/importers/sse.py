"""Shanghai order-by-order logs as events, proved against every exchange snapshot.

==============  ==========================================================================================
message         events
==============  ==========================================================================================
order, add      ADD; for an order that traded on arrival, what is left of it; flagged AUCTION in an auction
order, delete   CANCEL; flagged AUCTION in an auction
trade           EXECUTE of the resting order: the offer when a buyer came, the bid when a seller did
auction trade   two EXECUTEs flagged AUCTION, bid then offer, one packet
==============  ==========================================================================================

The rules behind that: an aggressive order's trades come before its own add, which names only the
remainder and is missing when nothing remains. So the arriving order is never in the book when it
trades, and a trade lowers one side. In an auction all orders are added first, the book may look
crossed until it is over, and a trade lowers both. docs/importers/SSE.md has clocks and units.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from ..errors import ConfigError, DataError
from ..instrument import Instrument
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from ..table_file import files_sha256
from . import Verification
from .itch_files import day_in
from .sse_lines import DEPTH, PRICE_INCREMENT, Order, Snapshot, SseLog, Trade, stocks_in

TIME_ZONE: Final = "Asia/Shanghai"
# China keeps one zone and, since 1991, no summer time.
UTC_OFFSET_NS: Final = 8 * 3_600 * 10**9

CONTINUOUS_PHASE: Final = 2
_OPENS_S, _CLOSES_S = 34_200, 53_820
# Orders outside are collected for an auction: the book may look crossed until it is held.
_OPENS_NS, _CLOSES_NS = _OPENS_S * 10**9, _CLOSES_S * 10**9
_SEQ_MASK: Final = (1 << 32) - 1


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> SseEvents:
    """Open days of one stock, in the order given.

    Parameters
    ----------
    paths : sequence of Path
        The name of each file, or of a folder above it, must hold its date.
    symbol : str, optional
        SecurityID; needed where a log has more than one.
    instrument : Instrument, optional
    strict : bool
        No difference: a log is refused where it breaks a rule.
    """
    if not paths:
        raise ConfigError("paths must name at least one recording, was none")
    return SseEvents(paths, symbol=symbol, instrument=instrument)


def log_day(path: Path) -> date:
    """Return the day in a file's name, or in that of the nearest folder that has one."""
    for name in (path.name, *(parent.name for parent in path.absolute().parents)):
        found = day_in(name)
        if found is not None:
            return found
    raise DataError(
        "expected a date like 2023-02-07 in the name of the file or its folder, was none", path=path
    )


class SseEvents(PiecewiseSource):
    """The events of one stock's days, each after a CLEAR."""

    def __init__(self, paths: Sequence[Path], *, symbol: str | None, instrument: Instrument | None) -> None:
        self.logs = tuple(SseLog(path, symbol) for path in paths)
        self.paths = tuple(paths)
        self._midnights = [
            int(datetime.combine(log_day(path), datetime.min.time(), UTC).timestamp()) * 10**9 - UTC_OFFSET_NS
            for path in paths
        ]
        names = {log.symbol for log in self.logs}
        if len(names) != 1 or self._midnights != sorted(set(self._midnights)):
            raise ConfigError(f"paths must be days of one stock in order, was {', '.join(sorted(names))}")
        self.symbol = names.pop()
        self.instrument = instrument or Instrument(
            symbol=self.symbol,
            currency="CNY",
            price_increment=PRICE_INCREMENT,
            # Funds count in 0.001, shares in 0.01.
            tick_size_ticks=1 if self.symbol.startswith("5") else 10,
            time_zone=TIME_ZONE,
        )
        if self.instrument.price_increment != PRICE_INCREMENT or self.instrument.lot_size != 1.0:
            raise ConfigError(
                f"Shanghai logs count in {PRICE_INCREMENT} CNY and single shares, was an instrument of "
                f"{self.instrument.price_increment} and {self.instrument.lot_size}"
            )
        self.notes: tuple[str, ...] = (
            "snapshots are truth to verify against, not events",
            "an aggressive order's own size is unknown: only its trades and its remainder are in the log",
        )

    @property
    def source(self) -> str:
        return f"SSE order log {self.symbol}, {', '.join(path.name for path in self.paths)} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the files as they are."""
        return files_sha256(self.paths)

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield the events, about `block_events` at a time."""
        for number in range(0 if place is None else place["log"], len(self.logs)):
            log, midnight_ns = self.logs[number], self._midnights[number]
            rows: list[tuple[int, ...]] = []
            opening = True
            for message in log.messages():
                events = events_of(message, midnight_ns, self.instrument.instrument_id)
                if opening:
                    rows.append((*events[0][:2], 0, 0, 0, 0, *events[0][6:8], EventKind.CLEAR, 0,
                                 EventFlag.LAST_IN_PACKET, 0))  # fmt: skip
                    opening = False
                rows += events
                if len(rows) >= block_events:
                    yield np.array(rows, EVENT_DTYPE), None
                    rows = []
            if opening:
                raise DataError(f"expected orders or trades of {log.symbol}, was none", path=log.path)
            yield np.array(rows, EVENT_DTYPE), {"log": number + 1}


def events_of(message: Order | Trade, midnight_ns: int, instrument_id: int) -> list[tuple[int, ...]]:
    """Return a message's events as rows of EVENT_DTYPE."""
    if isinstance(message, Order):
        kind = EventKind.ADD if message.added else EventKind.CANCEL
        collected = not _OPENS_NS <= message.clock_ns < _CLOSES_NS
        flags = EventFlag.LAST_IN_PACKET | (EventFlag.AUCTION if collected else EventFlag(0))
        parts = [(message.order_id, message.side, kind, flags)]
    elif message.aggressor:
        side = -message.aggressor
        resting = message.bid_id if side > 0 else message.ask_id
        parts = [(resting, side, EventKind.EXECUTE, EventFlag.LAST_IN_PACKET)]
    else:
        parts = [
            (message.bid_id, 1, EventKind.EXECUTE, EventFlag.AUCTION),
            (message.ask_id, -1, EventKind.EXECUTE, EventFlag.AUCTION | EventFlag.LAST_IN_PACKET),
        ]
    return [
        (
            midnight_ns + message.clock_ns,
            RECV_NOT_RECORDED,
            order_id,
            message.size,
            message.price,
            message.biz_index & _SEQ_MASK,
            instrument_id,
            0,
            kind,
            side,
            flags,
            0,
        )
        for order_id, side, kind, flags in parts
    ]


def verify(paths: Sequence[Path]) -> Verification:
    """Rebuild the book order by order and compare all ten levels of every snapshot in continuous trading.

    A snapshot says how many trades it has seen, not after which order. So it matches when a state of the
    book after just as many trades, no earlier than the state of the snapshot before it, has the same ten
    levels and the same volume traded.
    """
    matched, total, first, notes = 0, 0, None, []
    for log in [SseLog(path, symbol) for path in paths for symbol in stocks_in(path)]:
        path = log.path
        comparison = _Comparison(log)
        comparison.run()
        matched += comparison.matched
        total += comparison.total
        if first is None and comparison.first_mismatch is not None:
            first = f"{path}:{comparison.first_mismatch}"
        notes.append(
            f"{path.name}, {log.symbol}: {comparison.left_out} snapshots outside continuous trading, "
            "not compared"
        )
        if comparison.unknown_orders:
            notes.append(f"{path.name}: {comparison.unknown_orders} events of orders never announced")
    return Verification(
        matched=matched, total=total, what="snapshots", first_mismatch=first, notes=tuple(notes)
    )


State = tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


class _Comparison:
    """One log's book against its snapshots, in memory of the messages between two trades."""

    def __init__(self, log: SseLog) -> None:
        self._log = log
        self.matched = self.total = self.left_out = self.unknown_orders = 0
        self.first_mismatch: str | None = None
        self._snapshots = self._compared()
        self._next = next(self._snapshots, None)

    def _compared(self) -> Iterator[Snapshot]:
        for snapshot in self._log.snapshots():
            if snapshot.phase == CONTINUOUS_PHASE and _OPENS_S <= snapshot.clock_s < _CLOSES_S:
                self.total += 1
                yield snapshot
            else:
                self.left_out += 1

    def run(self) -> None:
        """Replay the log to its end."""
        from ext.order_book import OrderBook

        book = OrderBook()
        trades = volume = 0
        states: deque[State] = deque()
        for message in self._log.messages():
            if isinstance(message, Trade):
                self._settle(trades, states)
                states.clear()
                trades += 1
                volume += message.size
            book.apply(np.array(events_of(message, 0, 0), EVENT_DTYPE))
            if self._next is not None and self._next.trades == trades:
                states.append((volume, _side(book, 1), _side(book, -1)))
        self._settle(trades, states)
        while self._next is not None:
            self._miss(self._next, "as many trades in the log", trades)
            self._next = next(self._snapshots, None)
        self.unknown_orders = book.unknown_orders

    def _settle(self, trades: int, states: deque[State]) -> None:
        """Compare the snapshots after so many trades with the states the book was in."""
        while self._next is not None and self._next.trades <= trades:
            wanted = (self._next.volume, self._next.bids, self._next.asks)
            place = next((at for at, state in enumerate(states) if state == wanted), None)
            if place is None:
                self._miss(self._next, f"one of {len(states)} states after {trades} trades", wanted)
            else:
                self.matched += 1
                for _ in range(place):
                    states.popleft()
            self._next = next(self._snapshots, None)

    def _miss(self, snapshot: Snapshot, expected: str, found: object) -> None:
        if self.first_mismatch is None:
            self.first_mismatch = f"row {snapshot.row}: expected {expected}, was {found}"


def _side(book: object, side: int) -> tuple[tuple[int, int], ...]:
    depth = book.depth_array(side, DEPTH)  # type: ignore[attr-defined]  # the compiled book
    return tuple((int(price), int(size)) for price, size in depth.tolist() if size)
