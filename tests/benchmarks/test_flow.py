"""The market that all engines are measured on: every event means something, at every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.flow import MID_TICKS, REACH_TICKS, level_flow, order_flow, remaining_lots, standing
from data.schema import EventKind
from ext.order_book import OrderBook


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 1_500), live=st.integers(8, 300))
def test_a_slow_reader_finds_no_contradiction(seed: int, count: int, live: int) -> None:
    flow = order_flow(count, live=live, seed=seed)
    left, levels = remaining_lots(flow), level_flow(flow)
    orders: dict[int, tuple[int, int, int]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for row, remaining, level in zip(flow, left.tolist(), levels, strict=True):
        order_id, lots = int(row["order_id"]), int(row["size_lots"])
        key = int(row["side"]), int(row["price_ticks"])
        if row["kind"] == EventKind.ADD:
            assert order_id not in orders
            orders[order_id] = (*key, lots)
            sizes[key] = sizes.get(key, 0) + lots
        else:
            *place, resting = orders[order_id]
            assert tuple(place) == key
            assert 0 < lots <= resting
            assert row["kind"] == EventKind.EXECUTE or lots == resting
            orders[order_id] = (*key, resting - lots)
            sizes[key] -= lots
            if lots == resting:
                del orders[order_id]
        assert remaining == (orders[order_id][2] if order_id in orders else 0)
        assert level["size_lots"] == sizes[key]
        assert level["kind"] == EventKind.LEVEL
    assert standing(flow) == {key: lots for key, lots in sizes.items() if lots}
    assert np.all(np.diff(flow["ts_ns"]) > 0)
    assert np.all(np.abs(flow["price_ticks"] - MID_TICKS) <= REACH_TICKS)


@pytest.mark.parametrize("live", [100, 2_000])
def test_the_book_keeps_its_size_and_never_crosses(live: int) -> None:
    flow = order_flow(20 * live, live=live, seed=3)
    book = OrderBook()
    book.apply(flow)
    assert 0.6 * live < book.live_orders < 1.5 * live
    assert book.crossed == book.unknown_orders == book.duplicate_orders == 0
    kinds = np.bincount(flow["kind"], minlength=5) / len(flow)
    assert 0.4 < kinds[EventKind.ADD] < 0.6
    assert kinds[EventKind.EXECUTE] > 0.05


def test_one_seed_gives_one_market() -> None:
    first, second, other = (order_flow(500, live=50, seed=seed).tobytes() for seed in (1, 1, 2))
    assert first == second != other
