"""A generated day of identified orders, for whoever has no recording at hand.

Zero-intelligence flow in the manner of Cont, Stoikov & Talreja (2010): limit orders arrive near the
opposite touch, live orders are cancelled at random, market orders consume the queues in time priority.
As in recordings that begin in the middle of a day, part of the depth was never announced, and some
cancels and trades name orders that nobody has seen.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.instrument import Instrument
from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind

GENERATOR_VERSION: Final = 1

_OPEN_NS: Final = 1_577_975_400 * 10**9  # 2020-01-02 14:30 UTC
_DAY_NS: Final = 23_400 * 10**9
_START_TICKS: Final = 10_000
_LEVELS: Final = 15
_ROUND_LOT: Final = 100
_UNKNOWN_ID: Final = 1 << 40
# Shares of arrivals, cumulated; a book with more orders than live_max cancels instead of adding.
_ADD, _CANCEL, _MARKET = 0.54, 0.88, 0.985

Row = tuple[int, int, int, int, int, int, int]
"""step, kind, order_id, side, price_ticks, size_lots, flags"""


class GeneratedFlow:
    """One day of order flow; a pure function of the seed and the number of steps.

    Parameters
    ----------
    seed : int
    steps : int
        Arrivals, each one packet of at least one event.
    """

    def __init__(self, *, seed: int = 1, steps: int = 60_000) -> None:
        if seed < 0 or not 1 <= steps <= 10_000_000:
            raise ConfigError(f"seed must be 0 or more and steps 1 to 10,000,000, were {seed} and {steps}")
        self.seed, self.steps = seed, steps
        self.instrument = Instrument(symbol="FLOW", price_increment=0.01)
        self.notes: tuple[str, ...] = ("generated order flow: it shows how things work, not what they earn",)

    @property
    def source(self) -> str:
        return f"{self.steps:,} arrivals of generated order flow, seed {self.seed}"

    @property
    def data_hash(self) -> str:
        return hashlib.sha256(f"flow {GENERATOR_VERSION} {self.seed} {self.steps}".encode()).hexdigest()

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield the day's events, whole packets each."""
        ends = np.flatnonzero(self._events["flags"] & EventFlag.LAST_IN_PACKET) + 1
        start = 0
        while start < len(self._events):
            place = int(np.searchsorted(ends, start + block_events))
            stop = int(ends[min(place, len(ends) - 1)])
            yield self._events[start:stop]
            start = stop

    @cached_property
    def _events(self) -> NDArray[np.void]:
        draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([GENERATOR_VERSION, self.seed])))
        rows = self._market(draw).rows
        table = np.array(rows, dtype=np.int64)
        gaps = draw.integers(1, 2 * _DAY_NS // (self.steps + 1), self.steps + 1)
        events = np.zeros(len(rows), EVENT_DTYPE)
        events["ts_ns"] = _OPEN_NS + np.cumsum(gaps)[table[:, 0]]
        events["recv_ns"] = RECV_NOT_RECORDED
        for column, name in enumerate(("kind", "order_id", "side", "price_ticks", "size_lots", "flags"), 1):
            events[name] = table[:, column]
        events["seq"] = np.arange(len(events))
        return events

    def _market(self, draw: np.random.Generator) -> FlowMarket:
        return FlowMarket(draw, self.steps)


class FlowMarket:
    """The book behind the flow: per side and price the lots nobody announced, then orders by age."""

    live_max = 400
    nearness = 0.35
    """Of new orders: the distance from the opposite touch is geometric with this chance of a tick."""

    def __init__(self, draw: np.random.Generator, steps: int) -> None:
        self.rows: list[Row] = []
        self._draw = draw
        self.step = 0
        self._unknown: dict[int, dict[int, int]] = {1: {}, -1: {}}
        self._queues: dict[int, dict[int, OrderedDict[int, int]]] = {1: {}, -1: {}}
        self._live: list[tuple[int, int, int]] = []
        self._next_id = 1
        for level in range(1, _LEVELS + 1):
            for side in (1, -1):
                price = _START_TICKS - side * level
                self._unknown[side][price] = 5 * _ROUND_LOT
                self._write(EventKind.LEVEL, 0, side, price, 5 * _ROUND_LOT, EventFlag.SNAPSHOT)
        self.end_packet()
        uniform = draw.random((steps, 3))
        geometric = draw.geometric(self.nearness, steps)
        lots = draw.integers(1, 6, steps) * _ROUND_LOT
        for step in range(steps):
            self.step = step + 1
            what, place, coin = uniform[step]
            self.arrive(what, place, 1 if coin < 0.5 else -1, int(geometric[step]), int(lots[step]))

    def arrive(self, what: float, place: float, side: int, distance: int, lots: int) -> None:
        best, other = self.best(side), self.best(-side)
        if best is None or other is None or (what < _ADD and len(self._live) < self.live_max):
            self.add(side, (other if other is not None else _START_TICKS) - side * distance, lots)
        elif what < _CANCEL:
            self._cancel(place, side)
        elif what < _MARKET:
            self.trade(-side, lots)
        else:
            # Somebody hidden inside the spread, or at the touch, met an aggressor of the other side.
            self._write(EventKind.TRADE, 0, -side, best, lots, EventFlag.HIDDEN)
        self.end_packet()

    def best(self, side: int) -> int | None:
        prices = [*self._unknown[side], *self._queues[side]]
        return (max(prices) if side > 0 else min(prices)) if prices else None

    def size_at(self, side: int, price: int) -> int:
        queue = self._queues[side].get(price)
        return self._unknown[side].get(price, 0) + (sum(queue.values()) if queue else 0)

    def add(self, side: int, price: int, lots: int) -> None:
        order_id, self._next_id = self._next_id, self._next_id + 1
        self._queues[side].setdefault(price, OrderedDict())[order_id] = lots
        self._live.append((order_id, side, price))
        self._write(EventKind.ADD, order_id, side, price, lots)

    def _cancel(self, place: float, side: int) -> None:
        unseen = self._unknown[side]
        if unseen and place < 0.06:
            price = list(unseen)[int(place / 0.06 * len(unseen))]
            self._take_unknown(side, price, _ROUND_LOT)
            self._write(EventKind.CANCEL, self._unknown_id(), side, price, _ROUND_LOT)
            return
        while self._live:
            index = int(place * len(self._live))
            self._live[index], self._live[-1] = self._live[-1], self._live[index]
            order_id, its_side, price = self._live.pop()
            queue = self._queues[its_side].get(price)
            if queue is not None and order_id in queue:  # the others traded away
                lots = queue.pop(order_id)
                if not queue:
                    del self._queues[its_side][price]
                self._write(EventKind.CANCEL, order_id, its_side, price, lots)
                return
        self.add(side, (self.best(side) or _START_TICKS) - side, _ROUND_LOT)

    def trade(self, side: int, lots: int) -> None:
        """Let an aggressor consume side's best queue: first what nobody announced, then by age."""
        while lots > 0 and (price := self.best(side)) is not None:
            unseen = min(self._unknown[side].get(price, 0), lots)
            if unseen:
                self._take_unknown(side, price, unseen)
                self._write(EventKind.EXECUTE, self._unknown_id(), side, price, unseen)
                lots -= unseen
                continue
            queue = self._queues[side][price]
            order_id, size = next(iter(queue.items()))
            piece = min(size, lots)
            lots -= piece
            self._write(EventKind.EXECUTE, order_id, side, price, piece)
            if piece < size:
                queue[order_id] = size - piece
                return
            del queue[order_id]
            if not queue:
                del self._queues[side][price]

    def _take_unknown(self, side: int, price: int, lots: int) -> None:
        left = self._unknown[side][price] - lots
        if left > 0:
            self._unknown[side][price] = left
        else:
            del self._unknown[side][price]

    def _unknown_id(self) -> int:
        return _UNKNOWN_ID + len(self.rows)

    def _write(self, kind: int, order_id: int, side: int, price: int, lots: int, flags: int = 0) -> None:
        self.rows.append((self.step, kind, order_id, side, price, lots, flags))

    def end_packet(self) -> None:
        *rest, flags = self.rows[-1]
        self.rows[-1] = (*rest, flags | EventFlag.LAST_IN_PACKET)  # type: ignore[assignment]
