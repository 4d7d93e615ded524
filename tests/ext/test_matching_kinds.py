"""Kinds of orders beside plain ones, and owners that meet themselves: the cases that engines get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from matching_calls import buy, cancel, endings, engine_with, fills, replace, sell
from matching_flow import orders, rows

from data.schema import (
    OrderFlag,
    OrderType,
    Reason,
    ReportKind,
    TimeInForce,
)
from ext.matching_engine import MatchingEngine
from tests.reference.matching_orders import INT32_MAX

CANCELLED, REJECTED = ReportKind.CANCELLED, ReportKind.REJECTED


# Self-trade prevention.


@pytest.mark.parametrize(
    ("mode", "ended", "left"),
    [
        ("cancel_newest", [(2, 8)], [1]),
        ("cancel_oldest", [(1, 5)], [2]),
        ("cancel_both", [(1, 5), (2, 8)], []),
        ("decrement", [(1, 5), (2, 5)], [2]),
    ],
)
def test_an_owner_never_trades_with_itself(mode: str, ended: list[tuple[int, int]], left: list[int]) -> None:
    engine = engine_with(sell(1, 5, 10, owner=7), self_trade=mode)
    found = endings(engine, buy(2, 8, 10, owner=7))
    assert found == [(order_id, CANCELLED, Reason.SELF_TRADE, lots) for order_id, lots in ended]
    assert [order_id for order_id in (1, 2) if engine.order(order_id)] == left
    assert engine.fill_count == 0


def test_other_owners_ahead_trade_before_prevention_stops_the_order() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 10, owner=7), sell(3, 5, 10))
    assert fills(engine, buy(4, 15, 10, owner=7)) == [(1, 5, 0, 10), (4, 5, 10, 10)]
    assert engine.order(4) is None
    assert endings(engine, buy(5, 1, 10, owner=7, tif=TimeInForce.FOK))[0][2] == Reason.NO_LIQUIDITY


# Icebergs, hidden orders, minimum size.


def test_an_iceberg_shows_its_next_slice_at_the_end_of_the_queue() -> None:
    engine = engine_with(sell(1, 6, 10, display=2), sell(2, 3, 10))
    assert engine.depth_array(-1, 1).tolist() == [[10, 5]]
    assert [fill[:3] for fill in fills(engine, buy(3, 6, 10)) if fill[0] != 3] == [
        (1, 2, 4),
        (2, 3, 0),
        (1, 1, 3),
    ]
    assert engine.queue_array(-1, 10).tolist() == [[1, 1]]
    order = engine.order(1)
    assert order is not None
    assert (order["shown_lots"], order["leaves_lots"]) == (1, 3)


def test_a_smaller_iceberg_gives_up_its_reserve_first() -> None:
    engine = engine_with(sell(1, 10, 10, display=4), replace(1, 8, 10))
    assert engine.queue_array(-1, 10).tolist() == [[1, 4]]
    engine = engine_with(sell(1, 6, 10, display=2), sell(2, 3, 10), replace(1, 3, 10))
    assert engine.queue_array(-1, 10).tolist() == [[1, 2], [2, 3]]
    assert [fill[:3] for fill in fills(engine, buy(3, 6, 10)) if fill[0] == 1] == [(1, 2, 1), (1, 1, 0)]


def test_displayed_trades_before_hidden_and_a_better_hidden_price_before_both() -> None:
    hidden = OrderFlag.HIDDEN
    engine = engine_with(sell(1, 1, 10, flags=hidden), sell(2, 1, 10), sell(3, 1, 9, flags=hidden))
    assert engine.depth_array(-1, 9).tolist() == [[10, 1]]
    assert [fill[0] for fill in fills(engine, buy(4, 3, 10)) if fill[0] != 4] == [3, 2, 1]


def test_minimum_size_trades_at_once_or_not_at_all() -> None:
    engine = engine_with(sell(1, 5, 10))
    assert endings(engine, buy(2, 9, 10, minimum=6)) == [(2, CANCELLED, Reason.NO_LIQUIDITY, 9)]
    assert [fill[:3] for fill in fills(engine, buy(3, 9, 10, minimum=5)) if fill[0] == 3] == [(3, 5, 4)]
    assert fills(engine, sell(4, 1, 10))[0][:3] == (3, 1, 3)


# Hidden orders that demand a minimum of each counterparty.

WANTS = {"flags": OrderFlag.HIDDEN, "minimum": 5}


def test_a_hidden_minimum_passes_by_whoever_brings_less() -> None:
    engine = engine_with(buy(1, 20, 10, **WANTS), buy(2, 3, 9))
    assert fills(engine, sell(3, 4, 9)) == [(2, 3, 0, 9), (3, 3, 1, 9)]  # the rest stands crossed with 1
    assert engine.depth_array(-1, 9).tolist() == [[9, 1]]
    assert fills(engine, sell(4, 5, 10)) == [(1, 5, 15, 10), (4, 5, 0, 10)]
    assert fills(engine, buy(5, 1, 9)) == [(3, 1, 0, 9), (5, 1, 0, 9)]


def test_a_hidden_minimum_is_of_one_counterparty_not_of_several() -> None:
    engine = engine_with(buy(1, 20, 10, **WANTS))
    assert fills(engine, sell(2, 4, 10), sell(3, 4, 10)) == []
    assert engine.depth_array(-1, 9).tolist() == [[10, 8]]


def test_an_arriving_hidden_minimum_may_add_up_several_or_rests() -> None:
    engine = engine_with(sell(1, 3, 10), sell(2, 1, 10))
    assert fills(engine, buy(3, 9, 10, **WANTS)) == []
    assert engine.live_orders == 3
    assert fills(engine, cancel(3), sell(4, 1, 10), buy(5, 9, 10, **WANTS)) == [
        (1, 3, 0, 10), (5, 3, 6, 10), (2, 1, 0, 10), (5, 1, 5, 10), (4, 1, 0, 10), (5, 1, 4, 10),
    ]  # fmt: skip


def test_with_less_left_than_its_minimum_an_order_demands_all_it_has() -> None:
    engine = engine_with(buy(1, 7, 10, **WANTS), sell(2, 5, 10))
    assert fills(engine, sell(3, 1, 10)) == []
    assert fills(engine, cancel(3), sell(4, 3, 10)) == [(1, 2, 0, 10), (4, 2, 1, 10)]


def test_orders_that_can_not_meet_a_minimum_count_it_in_nothing() -> None:
    engine = engine_with(buy(1, 20, 10, **WANTS), buy(2, 4, 9))
    fok, market = TimeInForce.FOK, OrderType.MARKET
    assert endings(engine, sell(3, 5, 10, tif=fok)) == []  # 1 takes it
    assert endings(engine, sell(4, 4, 10, tif=fok)) == [(4, CANCELLED, Reason.NO_LIQUIDITY, 4)]
    assert endings(engine, sell(5, 4, 10, flags=OrderFlag.POST_ONLY), cancel(5)) == [
        (5, CANCELLED, Reason.USER, 4)
    ]
    assert endings(engine, sell(6, 5, 10, flags=OrderFlag.POST_ONLY))[0][2] == Reason.WOULD_CROSS
    assert endings(engine, sell(7, 4, order_type=market)) == []
    assert endings(engine, sell(8, 4, order_type=market)) == [(8, CANCELLED, Reason.NO_LIQUIDITY, 4)]


def test_an_own_order_that_demands_more_is_passed_by_before_prevention() -> None:
    engine = engine_with(buy(1, 20, 10, owner=7, **WANTS), buy(2, 4, 10, owner=8, flags=OrderFlag.HIDDEN))
    assert fills(engine, sell(3, 4, 10, owner=7)) == [(2, 4, 0, 10), (3, 4, 0, 10)]
    assert endings(engine, sell(4, 5, 10, owner=7)) == [(4, CANCELLED, Reason.SELF_TRADE, 5)]


def test_a_replace_keeps_a_hidden_minimum_and_arrives_by_it() -> None:
    engine = engine_with(buy(1, 20, 9, **WANTS), sell(2, 4, 10), replace(1, 20, 10))
    assert engine.live_orders == 2
    assert fills(engine, sell(3, 4, 10)) == []
    assert fills(engine, replace(1, 30, 10))[::2] == [(2, 4, 0, 10), (3, 4, 0, 10)]  # 8 together


def test_a_peg_may_demand_a_minimum() -> None:
    engine = engine_with(
        buy(1, 1, 10), sell(2, 1, 14), buy(3, 9, INT32_MAX, order_type=OrderType.PEG_MID, minimum=5)
    )
    assert fills(engine, sell(4, 4, 12, tif=TimeInForce.IOC)) == []
    assert fills(engine, sell(5, 5, 12)) == [(3, 5, 4, 12), (5, 5, 0, 12)]


def test_orders_that_demand_a_minimum_sit_auctions_and_halts_out() -> None:
    engine = engine_with(sell(1, 3, 9), buy(2, 20, 10, **WANTS))  # crossed, and can not trade
    engine.halt()
    assert rows(engine.resume()) == []
    engine.open_auction()
    engine.submit(orders(buy(3, 1, 10)))
    assert engine.indicative(9) == (9, 1, -2)
    assert [row[0] for row in rows(engine.uncross(9))] == [3, 1]
    copy = MatchingEngine()
    copy.restore(engine.snapshot())
    assert fills(copy, sell(4, 5, 10)) == fills(engine, sell(4, 5, 10)) == [(2, 5, 15, 10), (4, 5, 0, 10)]


def test_an_iceberg_shows_at_least_one_lot_in_65_536() -> None:
    engine = engine_with(sell(1, 65_536, 100, display=1))
    assert endings(engine, sell(2, 65_537, 100, display=1)) == [(2, REJECTED, Reason.BAD_SIZE, 65_537)]
    assert endings(engine, replace(1, 65_537, 100)) == [(1, REJECTED, Reason.BAD_SIZE, 65_537)]
    assert len(fills(engine, buy(3, 65_536, 100))) == 2 * 65_536


def test_reserves_and_interest_beyond_64_bits_add_up() -> None:
    count, size = 32_800, 65_536 * (2**32 - 1)
    icebergs = np.repeat(orders(sell(1, size, 100, display=2**32 - 1)), count)
    icebergs["client_order_id"] = np.arange(1, count + 1)
    engine = MatchingEngine()
    engine.submit(icebergs)
    engine.verify()
    assert endings(engine, buy(count + 1, 5, 100, tif=TimeInForce.FOK)) == []
    engine.open_auction()
    engine.submit(orders(buy(count + 2, 7, 100)))
    assert engine.indicative(100) == (100, 7, 7 - (count * size - 5))
