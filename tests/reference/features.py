"""Order-book features as their definitions read: the whole history is kept and every value is worked out
from it when asked for.

Averages are unrolled sums, ``average = Σ w (1 - w)^(n-i) x_i + (1 - w)^n start``, so the compiled
recursion is checked against something that shares none of its code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ext.order_book import OrderBook

PAUSE_NS = 60 * 10**9


@dataclass
class Touch:
    bid: int = 0
    bid_size: int = 0
    ask: int = 0
    ask_size: int = 0


@dataclass
class ReferenceFeatures:
    """Takes touches and prints; `values` returns the sixteen features by name."""

    venue_count: int
    touches: list[Touch] = field(init=False)
    signs: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    mids_x2: list[int] = field(default_factory=list)
    spreads: list[int] = field(default_factory=list)
    flows: list[float] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    bid_losses: list[float] = field(default_factory=list)
    ask_losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.touches = [Touch() for _ in range(self.venue_count)]

    @property
    def best_bid(self) -> int | None:
        return max((touch.bid for touch in self.touches if touch.bid_size > 0), default=None)

    @property
    def best_ask(self) -> int | None:
        return min((touch.ask for touch in self.touches if touch.ask_size > 0), default=None)

    def trade(self, side: int) -> None:
        self.signs.append(side)

    def update(self, venue: int, new: Touch, ts_ns: int) -> None:
        flow, losses = order_flow(self.touches[venue], new), queue_losses(self.touches[venue], new)
        self.touches[venue] = new
        if self.best_bid is None or self.best_ask is None:
            return
        first = not self.times
        self.times.append(ts_ns)
        self.mids_x2.append(self.best_bid + self.best_ask)
        self.spreads.append(self.best_ask - self.best_bid)
        # What came before the first two-sided market is no change of a market.
        self.flows.append(0.0 if first else flow)
        self.depths.append(0.5 * (new.bid_size + new.ask_size))
        self.bid_losses.append(0.0 if first else losses[0])
        self.ask_losses.append(0.0 if first else losses[1])

    def values(self) -> dict[str, float]:
        if self.best_bid is None or self.best_ask is None or not self.times:
            return {}
        mid_x2, best_spread = float(self.mids_x2[-1]), self.best_ask - self.best_bid
        moves = [0.0, *(float(b - a) for a, b in zip(self.mids_x2, self.mids_x2[1:], strict=False))]
        sizes = [abs(move) for move in moves]
        gaps = [0.0, *(min(b - a, PAUSE_NS) for a, b in zip(self.times, self.times[1:], strict=False))]
        spread = max(average(self.spreads, 256, max(float(self.spreads[0]), 1.0)), 1.0)
        unit = max(average(sizes, 1024, 1.0), 1e-3)
        depth = average(self.depths, 256, 1.0)
        gap = max(average(gaps, 1024, 1e9), 1.0)
        moved = [place for place, move in enumerate(moves) if move != 0.0]
        last_move, moved_ns = (moves[moved[-1]], self.times[moved[-1]]) if moved else (0.0, self.times[0])
        quoting = [touch for touch in self.touches if touch.bid_size > 0 and touch.ask_size > 0]
        best = imbalance(
            sum(touch.bid_size for touch in quoting if touch.bid == self.best_bid),
            sum(touch.ask_size for touch in quoting if touch.ask == self.best_ask),
        )
        mids = [0.5 * (touch.bid + touch.ask) for touch in quoting]
        start = float(self.mids_x2[0])
        return {
            "imbalance_all": imbalance(
                sum(touch.bid_size for touch in quoting), sum(touch.ask_size for touch in quoting)
            ),
            "imbalance_best": best,
            "microprice": clip(0.5 * best_spread * best / spread, 8.0),
            "flow_fast": clip(average(self.flows, 16, 0.0) / depth, 8.0),
            "flow_slow": clip(average(self.flows, 128, 0.0) / depth, 8.0),
            "reversion_fast": clip((mid_x2 - average(self.mids_x2, 8, start)) / unit, 32.0),
            "reversion_medium": clip((mid_x2 - average(self.mids_x2, 64, start)) / unit, 64.0),
            "reversion_slow": clip((mid_x2 - average(self.mids_x2, 512, start)) / unit, 128.0),
            "volatility_ratio": clip(average(sizes, 32, 1.0) / unit, 16.0),
            "spread_ratio": clip(best_spread / spread, 8.0),
            "volatility": clip(0.5 * unit / spread, 8.0),
            "arrival_ratio": clip(average(gaps, 16, 1e9) / gap, 16.0),
            "trade_sign": average(self.signs, 16, 0.0),
            "dispersion": clip((max(mids) - min(mids)) / spread, 8.0) if mids else 0.0,
            "last_move": float((last_move > 0) - (last_move < 0)),
            "still_time": clip((self.times[-1] - moved_ns) / gap, 16.0),
        }

    def book_values(self) -> dict[str, float]:
        """Return those of the further features that touches tell."""
        if self.best_bid is None or self.best_ask is None or not self.times:
            return {}
        squares = [0.0, *(float(b - a) ** 2 for a, b in zip(self.mids_x2, self.mids_x2[1:], strict=False))]
        spread = max(average(self.spreads, 256, max(float(self.spreads[0]), 1.0)), 1.0)
        depth = average(self.depths, 256, 1.0)
        return {
            "depletion_bid": clip(average(self.bid_losses, 64, 0.0) / depth, 8.0),
            "depletion_ask": clip(average(self.ask_losses, 64, 0.0) / depth, 8.0),
            "realised_volatility": clip(0.5 * math.sqrt(average(squares, 256, 1.0)) / spread, 8.0),
        }


def queue_losses(old: Touch, new: Touch) -> tuple[float, float]:
    """Lots by which the best queues shrank; a queue that gave way to a worse price lost all it had."""
    bid = ask = 0
    if old.bid_size:
        if not new.bid_size or new.bid < old.bid:
            bid = old.bid_size
        elif new.bid == old.bid:
            bid = max(old.bid_size - new.bid_size, 0)
    if old.ask_size:
        if not new.ask_size or new.ask > old.ask:
            ask = old.ask_size
        elif new.ask == old.ask:
            ask = max(old.ask_size - new.ask_size, 0)
    return float(bid), float(ask)


def level_imbalance(books: list[OrderBook], levels: int) -> float:
    """Lots of each book's best levels, bids less asks over both."""
    bid, ask = (sum(int(book.depth_array(side, levels)[:, 1].sum()) for book in books) for side in (1, -1))
    return imbalance(bid, ask)


def order_flow(old: Touch, new: Touch) -> float:
    """Cont, Kukanov & Stoikov (2014): what a change brings the bid less what it brings the ask."""
    before, after = [
        (
            touch.bid if touch.bid_size else -math.inf,  # an absent side is infinitely far away
            touch.ask if touch.ask_size else math.inf,
        )
        for touch in (old, new)
    ]
    bid = (new.bid_size if after[0] >= before[0] else 0) - (old.bid_size if after[0] <= before[0] else 0)
    ask = (new.ask_size if after[1] <= before[1] else 0) - (old.ask_size if after[1] >= before[1] else 0)
    return float(bid - ask)


def average(values: list[int] | list[float], events: int, start: float) -> float:
    """Exponential average over about `events` values, begun at `start`."""
    weight, keep = 1.0 / events, 1.0 - 1.0 / events
    count = len(values)
    return (
        sum(weight * keep ** (count - 1 - i) * value for i, value in enumerate(values)) + keep**count * start
    )


def imbalance(bid: int, ask: int) -> float:
    return (bid - ask) / (bid + ask) if bid + ask else 0.0


def clip(value: float, bound: float) -> float:
    return min(max(value, -bound), bound)
