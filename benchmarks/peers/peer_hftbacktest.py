"""hftbacktest beside our replay: the same market by level and by order, no strategy on either side.

hftbacktest gets its own 64-byte records in memory, made beforehand, zero latencies, and one call
(`elapse`) that runs to the end of the data inside its compiled code. Building the backtest and the first
call, in which numba compiles, are outside the clock. It applies every event to two books, its exchange's
and the trader's view; ours applies it to one, since nobody trades. It is measured without features, of which
hftbacktest has none, and with all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import EventKind
from ext.feature_set import ALL_FEATURE_NAMES, FeatureSet
from ext.replay import Replay

from ..flow import MID_TICKS, REACH_TICKS, level_flow, order_flow, remaining_lots, standing
from ..harness import Bench, peer_scenario

TICK_SIZE: Final = 0.01
OF_THE_MARKET: Final = tuple(name for name in ALL_FEATURE_NAMES if not name.startswith("queue_ahead"))
FOREVER_NS: Final = 10**15
NEEDS: Final = ("hftbacktest",)
CONDITIONS: Final = (
    "whole replay in memory, one venue, nobody trades; ours: one book; theirs: records "
    "prepared, compiled beforehand, one call, no latency, no fees, prices of the region of interest given; "
    "both books compared level by level at the end."
)


class OurReplay:
    """The events through our book, without features or with all that need no order of ours."""

    def __init__(self, events: NDArray[np.void], *, features: bool = False) -> None:
        self.events, self.features = events, features
        self.prepare()

    def prepare(self) -> None:
        features = FeatureSet(OF_THE_MARKET) if self.features else None
        self.replay = Replay(1, features=features, order_capacity=16_384, level_capacity=4_096)

    def run(self) -> None:
        self.replay.apply(self.events)

    def levels(self) -> dict[tuple[int, int], int]:
        """Return lots by (side, price_ticks)."""
        (book,) = self.replay.books
        prices = range(MID_TICKS - REACH_TICKS, MID_TICKS + REACH_TICKS)
        found = {(side, price): book.size_at(side, price) for side in (1, -1) for price in prices}
        return {key: lots for key, lots in found.items() if lots}


class TheirReplay:
    """The same events as hftbacktest's records through one of its books."""

    def __init__(self, flow: NDArray[np.void], *, by_order: bool, vector_book: bool) -> None:
        self.records = _records(flow) if by_order else _level_records(flow)
        self.by_order, self.vector_book = by_order, vector_book
        self.backtest: Any = None

    def prepare(self) -> None:
        import hftbacktest

        asset = hftbacktest.BacktestAsset().data(self.records).linear_asset(1.0).constant_order_latency(0, 0)
        asset = asset.l3_fifo_queue_model() if self.by_order else asset.risk_adverse_queue_model()
        asset = asset.no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0).last_trades_capacity(0)
        asset = asset.tick_size(TICK_SIZE).lot_size(1.0)
        if self.backtest is not None:
            self.backtest.close()
        if self.vector_book:
            low, high = ((MID_TICKS + side * REACH_TICKS) * TICK_SIZE for side in (-1, 1))
            self.backtest = hftbacktest.ROIVectorMarketDepthBacktest([asset.roi_lb(low).roi_ub(high)])
        else:
            self.backtest = hftbacktest.HashMapMarketDepthBacktest([asset])

    def run(self) -> None:
        self.backtest.elapse(FOREVER_NS)

    def levels(self) -> dict[tuple[int, int], int]:
        """Return lots by (side, price_ticks) of the trader's book."""
        depth = self.backtest.depth(0)
        found = {}
        for price in range(MID_TICKS - REACH_TICKS + 1, MID_TICKS + REACH_TICKS - 1):
            found[1, price] = int(depth.bid_qty_at_tick(price))
            found[-1, price] = int(depth.ask_qty_at_tick(price))
        return {key: lots for key, lots in found.items() if lots}


def _records(flow: NDArray[np.void]) -> NDArray[np.void]:
    """Return hftbacktest's market-by-order records.

    An execution comes as what it does to the book: the order shrinks, or goes. Its fill record, which would
    tell a trade besides and be one more event, is left out.
    """
    from hftbacktest import types

    left = remaining_lots(flow)
    added = flow["kind"] == EventKind.ADD
    kinds = np.where(
        added,
        types.ADD_ORDER_EVENT,
        np.where(left == 0, types.CANCEL_ORDER_EVENT, types.MODIFY_ORDER_EVENT),
    )
    return _common(flow, kinds, left)


def _level_records(flow: NDArray[np.void]) -> NDArray[np.void]:
    from hftbacktest import types

    levels = level_flow(flow)
    return _common(levels, np.full(len(levels), types.DEPTH_EVENT), levels["size_lots"])


def _common(flow: NDArray[np.void], kinds: NDArray[np.int64], lots: NDArray[np.int64]) -> NDArray[np.void]:
    from hftbacktest import types
    from hftbacktest.binding import event_dtype

    records = np.zeros(len(flow), event_dtype)
    side = np.where(flow["side"] > 0, types.BUY_EVENT, types.SELL_EVENT)
    records["ev"] = kinds.astype(np.uint64) | (types.EXCH_EVENT | types.LOCAL_EVENT) | side.astype(np.uint64)
    records["exch_ts"] = records["local_ts"] = flow["ts_ns"]
    records["px"], records["qty"] = flow["price_ticks"] * TICK_SIZE, lots
    records["order_id"] = flow["order_id"]
    return records


def _compare(bench: Bench, name: str, ours: OurReplay, theirs: TheirReplay, *, goal: float | None) -> None:
    book = "ROI vector book" if theirs.vector_book else "hash book"
    bench.throughput(
        f"event, {name}, {book}",
        ours.run,
        count=len(ours.events),
        prepare=ours.prepare,
        peer=theirs.run,
        prepare_peer=theirs.prepare,
        peer_name=f"hftbacktest, {book}",
        goal=goal,
    )


def _replay(bench: Bench, *, by_order: bool, live: int, goals: tuple[float | None, float | None]) -> None:
    count = bench.parameter("events", smoke=3_000, full=500_000)
    flow = order_flow(count, live=min(live, count // 8), seed=bench.seed)
    wanted = standing(flow)
    name = f"by order, {live:,} live" if by_order else f"by level, {live:,} live"
    events = flow if by_order else level_flow(flow)
    for vector_book, goal in zip((False, True), goals, strict=True):
        theirs = TheirReplay(flow, by_order=by_order, vector_book=vector_book)
        for features in (False, True):
            ours = OurReplay(events, features=features)
            title = f"{name}, all features" if features else name
            _compare(bench, title, ours, theirs, goal=None if features else goal)
            bench.verify(ours.levels() == wanted, "our book shows every level that numpy counts")
            bench.verify(theirs.levels() == wanted, "hftbacktest's book shows every level that numpy counts")


def _declare(name: str, title: str, work: Callable[[Bench], None]) -> None:
    peer_scenario(name, title, conditions=CONDITIONS, needs=NEEDS)(work)


_declare(
    "hftbacktest-l2",
    "replay by level beside hftbacktest",
    partial(_replay, by_order=False, live=1_000, goals=(4.0, 3.0)),
)
_declare(
    "hftbacktest-l3",
    "replay by order beside hftbacktest, thin book",
    partial(_replay, by_order=True, live=1_000, goals=(7.0, None)),
)
_declare(
    "hftbacktest-l3-thick",
    "replay by order beside hftbacktest, thick book",
    partial(_replay, by_order=True, live=4_000, goals=(7.0, None)),
)
