"""The cases that matching engines are known to get wrong, one named test each."""

from __future__ import annotations

import contextlib
import itertools
import threading

import numpy as np
import pytest
from matching_flow import orders, rows

from data.schema import (
    ORDER_DTYPE,
    Liquidity,
    OrderAction,
    OrderFlag,
    OrderType,
    Reason,
    ReportKind,
    TimeInForce,
)
from ext.matching_engine import MatchingEngine
from tests.reference.matching import INT32_MAX, INT32_MIN, Command, ReferenceEngine

ACCEPTED, FILL, CANCELLED = ReportKind.ACCEPTED, ReportKind.FILL, ReportKind.CANCELLED
REJECTED, EXPIRED, TRIGGERED = ReportKind.REJECTED, ReportKind.EXPIRED, ReportKind.TRIGGERED
MAKER, TAKER = Liquidity.MAKER, Liquidity.TAKER


owners = itertools.repeat(0)
both_paths = pytest.mark.usefixtures("path")


@pytest.fixture(params=["plain", "general"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take orders through ext/match_plain.pxd, or past it: it takes none with an owner."""
    if request.param == "general":
        monkeypatch.setitem(globals(), "owners", itertools.count(1_000))


def buy(order_id: int, size: int, price: int = 0, *, side: int = +1, **more: int) -> Command:
    more.setdefault("owner", next(owners))
    return Command(order_id=order_id, side=side, size=size, price=price, **more)


def sell(order_id: int, size: int, price: int = 0, **more: int) -> Command:
    return buy(order_id, size, price, side=-1, **more)


def cancel(order_id: int) -> Command:
    return Command(order_id=order_id, action=OrderAction.CANCEL)


def replace(order_id: int, size: int, price: int = 0, **more: int) -> Command:
    return Command(order_id=order_id, action=OrderAction.REPLACE, size=size, price=price, **more)


def engine_with(*commands: Command, **more: str) -> MatchingEngine:
    engine = MatchingEngine(16, 16, **more)  # type: ignore[arg-type]
    engine.submit(orders(*commands))
    return engine


def fills(engine: MatchingEngine, *commands: Command) -> list[tuple[int, ...]]:
    """Submit, and return (id, lots, leaves, price) of each fill report in order."""
    found = [(row[0], *row[4:7]) for row in rows(engine.submit(orders(*commands))) if row[1] == FILL]
    engine.verify()
    return found


def endings(engine: MatchingEngine, *commands: Command) -> list[tuple[int, int, int, int]]:
    """Submit, and return (id, kind, reason, lots) of what was neither an acceptance nor a fill."""
    reports = rows(engine.submit(orders(*commands)))
    engine.verify()
    return [(row[0], row[1], row[2], row[4]) for row in reports if row[1] not in (ACCEPTED, FILL)]


@both_paths
@pytest.mark.parametrize("gone", [1, 2, 3])
def test_cancel_at_head_middle_and_tail_then_sweep(gone: int) -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 10), sell(3, 5, 10), cancel(gone))
    left = [order_id for order_id in (1, 2, 3) if order_id != gone]
    swept = fills(engine, buy(9, 99, 10))
    assert [fill[0] for fill in swept if fill[0] != 9] == left
    assert engine.depth_array(-1, 9).tolist() == []
    assert engine.depth_array(+1, 9).tolist() == [[10, 89]]


@both_paths
def test_residual_becomes_the_new_best() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 12), buy(3, 8, 11))
    assert engine.depth_array(+1, 1).tolist() == [[11, 3]]
    assert engine.depth_array(-1, 1).tolist() == [[12, 5]]


@both_paths
@pytest.mark.parametrize("side", [+1, -1])
def test_modify_into_a_cross_trades_at_the_makers_price(side: int) -> None:
    maker = buy(1, 5, 100 + side * 2, side=-side)
    taker = buy(2, 8, 100, side=side)
    engine = engine_with(maker, taker)
    assert fills(engine, replace(2, 8, 100 + side * 4)) == [
        (1, 5, 0, 100 + side * 2),
        (2, 5, 3, 100 + side * 2),
    ]
    assert engine.depth_array(side, 1).tolist() == [[100 + side * 4, 3]]


@both_paths
def test_a_sibling_survives_a_modify() -> None:
    engine = engine_with(buy(1, 5, 10), buy(2, 5, 10), buy(3, 5, 10), replace(2, 5, 9))
    assert engine.queue_array(+1, 10).tolist() == [[1, 5], [3, 5]]
    assert engine.queue_array(+1, 9).tolist() == [[2, 5]]


@both_paths
def test_less_at_the_same_price_keeps_the_place_and_more_loses_it() -> None:
    engine = engine_with(buy(1, 5, 10), buy(2, 5, 10), replace(1, 3, 10))
    assert engine.queue_array(+1, 10).tolist() == [[1, 3], [2, 5]]
    engine.submit(orders(replace(1, 4, 10)))
    assert engine.queue_array(+1, 10).tolist() == [[2, 5], [1, 4]]
    engine.submit(orders(replace(2, 5, 10)))
    assert engine.queue_array(+1, 10).tolist() == [[2, 5], [1, 4]]


@both_paths
def test_stale_cancel_or_modify_after_a_fill_is_rejected() -> None:
    engine = engine_with(sell(1, 5, 10), buy(2, 5, 10))
    assert endings(engine, cancel(1), replace(2, 1, 1), cancel(77)) == [
        (1, REJECTED, Reason.UNKNOWN_ORDER, 0),
        (2, REJECTED, Reason.UNKNOWN_ORDER, 1),
        (77, REJECTED, Reason.UNKNOWN_ORDER, 0),
    ]


@both_paths
def test_an_id_is_free_again_after_cancel_and_after_fill() -> None:
    engine = engine_with(sell(1, 5, 10), cancel(1), sell(1, 5, 11), buy(2, 5, 11))
    assert fills(engine, buy(1, 3, 9), sell(2, 3, 9)) == [(1, 3, 0, 9), (2, 3, 0, 9)]


@both_paths
def test_a_resend_of_a_live_order_is_answered_again_and_changes_nothing() -> None:
    engine = engine_with(buy(1, 5, 10))
    before = engine.state_hash()
    assert rows(engine.submit(orders(sell(1, 9, 8)))) == [(1, ACCEPTED, Reason.DUPLICATE_ID, +1, 0, 5, 10, 0)]
    assert engine.state_hash() == before


@both_paths
@pytest.mark.parametrize("side", [+1, -1])
def test_trades_happen_at_the_makers_price_both_ways(side: int) -> None:
    engine = engine_with(buy(1, 5, 50, side=-side))
    assert fills(engine, buy(2, 5, 50 + side * 20, side=side)) == [
        (1, 5, 0, 50),
        (2, 5, 0, 50),
    ]


@both_paths
def test_no_phantom_level_stays_behind() -> None:
    engine = engine_with(
        sell(1, 5, 10), buy(2, 5, 10), sell(3, 5, 11), cancel(3), buy(4, 5, 9), replace(4, 5, 8)
    )
    assert engine.depth_array(-1, 9).tolist() == []
    assert engine.depth_array(+1, 9).tolist() == [[8, 5]]


@both_paths
def test_an_ioc_residual_is_cancelled_and_never_rests() -> None:
    engine = engine_with(sell(1, 5, 10))
    assert endings(engine, buy(2, 8, 10, tif=TimeInForce.IOC)) == [(2, CANCELLED, Reason.NO_LIQUIDITY, 3)]
    assert engine.live_orders == 0


@both_paths
def test_a_marketable_limit_stops_at_its_limit() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 11), sell(3, 5, 12))
    assert [fill[3] for fill in fills(engine, buy(4, 99, 11)) if fill[0] == 4] == [10, 11]
    assert engine.depth_array(-1, 9).tolist() == [[12, 5]]


@both_paths
def test_a_sweep_of_five_thousand_fills() -> None:
    engine = MatchingEngine(64, 64)
    engine.submit(orders(*(sell(number, 1, 100 + number // 100) for number in range(1, 5_001))))
    swept = fills(engine, buy(9_999, 5_000, 1_000))
    assert [fill[0] for fill in swept[::2]] == list(range(1, 5_001))
    assert len(swept) == 10_000
    assert engine.live_orders == 0


@both_paths
def test_first_in_first_out_at_one_price() -> None:
    engine = engine_with(*(sell(number, 2, 10) for number in (4, 2, 9, 1)))
    assert [fill[0] for fill in fills(engine, buy(5, 7, 10)) if fill[0] != 5] == [4, 2, 9, 1]
    assert engine.queue_array(-1, 10).tolist() == [[1, 1]]


@both_paths
def test_a_partial_fill_leaves_the_rest_and_the_sum_is_the_order() -> None:
    engine = engine_with(buy(1, 10, 10))
    assert fills(engine, sell(2, 4, 10), sell(3, 6, 10)) == [
        (1, 4, 6, 10), (2, 4, 0, 10), (1, 6, 0, 10), (3, 6, 0, 10),
    ]  # fmt: skip
    assert engine.traded_lots == 10


@both_paths
def test_two_orders_never_fill_from_the_same_lots() -> None:
    engine = engine_with(sell(1, 5, 10))
    assert sum(fill[1] for fill in fills(engine, buy(2, 5, 10), buy(3, 5, 10)) if fill[0] != 1) == 5


@both_paths
def test_fill_or_kill_takes_all_or_nothing() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 11))
    fok = TimeInForce.FOK
    assert endings(engine, buy(3, 11, 11, tif=fok)) == [(3, CANCELLED, Reason.NO_LIQUIDITY, 11)]
    assert endings(engine, buy(4, 6, 10, tif=fok)) == [(4, CANCELLED, Reason.NO_LIQUIDITY, 6)]
    assert [fill[:2] for fill in fills(engine, buy(5, 10, 11, tif=fok)) if fill[0] == 5] == [(5, 5), (5, 5)]


@both_paths
def test_fill_or_kill_counts_reserves_and_hidden_lots() -> None:
    engine = engine_with(sell(1, 9, 10, display=2), sell(2, 3, 10, flags=OrderFlag.HIDDEN))
    assert endings(engine, buy(3, 13, 10, tif=TimeInForce.FOK))[0][2] == Reason.NO_LIQUIDITY
    assert sum(fill[1] for fill in fills(engine, buy(4, 12, 10, tif=TimeInForce.FOK)) if fill[0] == 4) == 12


@both_paths
def test_a_market_order_takes_what_there_is_and_never_rests() -> None:
    market = OrderType.MARKET
    engine = engine_with(sell(1, 5, 10))
    assert endings(engine, buy(2, 9, order_type=market)) == [(2, CANCELLED, Reason.NO_LIQUIDITY, 4)]
    assert endings(engine, sell(3, 9, order_type=market)) == [(3, CANCELLED, Reason.NO_LIQUIDITY, 9)]


@both_paths
def test_post_only_is_refused_where_it_would_trade_hidden_lots_included() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 9, flags=OrderFlag.HIDDEN))
    post = OrderFlag.POST_ONLY
    assert endings(engine, buy(3, 1, 9, flags=post)) == [(3, REJECTED, Reason.WOULD_CROSS, 1)]
    assert endings(engine, buy(4, 1, 8, flags=post)) == []
    assert endings(engine, replace(4, 1, 9, flags=post)) == [(4, REJECTED, Reason.WOULD_CROSS, 1)]
    assert engine.order(4) is not None


@both_paths
def test_the_ends_of_the_value_range() -> None:
    engine = engine_with(buy(2**64 - 1, 2**48, INT32_MIN), sell(2**63, 2**48, INT32_MAX))
    assert engine.depth_array(+1, 1).tolist() == [[INT32_MIN, 2**48]]
    assert engine.depth_array(-1, 1).tolist() == [[INT32_MAX, 2**48]]
    assert fills(engine, sell(1, 2**48, INT32_MIN))[0] == (2**64 - 1, 2**48, 0, INT32_MIN)
    assert fills(engine, buy(1, 2**48, order_type=OrderType.MARKET))[0] == (2**63, 2**48, 0, INT32_MAX)
    assert endings(engine, buy(3, 2**48 + 1), buy(4, 0), buy(5, -(2**63)), buy(0, 1)) == [
        (3, REJECTED, Reason.BAD_SIZE, 2**48 + 1),
        (4, REJECTED, Reason.BAD_SIZE, 0),
        (5, REJECTED, Reason.BAD_SIZE, -(2**63)),
        (0, REJECTED, Reason.BAD_ORDER, 1),
    ]


def test_a_level_never_sums_past_its_range() -> None:
    full = 2**62 // 2**48
    commands = np.zeros(full + 1, ORDER_DTYPE)
    commands["client_order_id"] = np.arange(1, full + 2)
    for name, value in (("size_lots", 2**48), ("price_ticks", 7), ("side", 1), ("action", 1)):
        commands[name] = value
    commands["order_type"] = commands["time_in_force"] = 1
    reports = MatchingEngine().submit(commands)
    assert (reports["kind"][-1], reports["reason"][-1]) == (CANCELLED, Reason.CAPACITY)
    assert np.count_nonzero(reports["kind"] == CANCELLED) == 1


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


# Time, stops, bands, halts, mass cancel.


def test_orders_end_when_their_time_comes_earliest_first_before_the_command() -> None:
    gtd = TimeInForce.GTD
    engine = engine_with(
        sell(1, 5, 10, tif=gtd, expire_ns=20), sell(2, 5, 10, tif=gtd, expire_ns=10), sell(3, 5, 11)
    )
    reports = rows(engine.submit(orders(buy(4, 1, 11, ts_ns=20))))
    assert [(row[0], row[1]) for row in reports] == [
        (2, EXPIRED),
        (1, EXPIRED),
        (4, ACCEPTED),
        (3, FILL),
        (4, FILL),
    ]
    assert endings(engine, buy(5, 1, 1, tif=gtd, expire_ns=20)) == [(5, REJECTED, Reason.TIME, 1)]


def test_a_reused_id_does_not_inherit_an_expiry() -> None:
    engine = engine_with(sell(1, 5, 10, tif=TimeInForce.GTD, expire_ns=20), cancel(1), sell(1, 5, 10))
    assert rows(engine.advance(1_000)) == []
    assert engine.live_orders == 1


def test_the_end_of_the_day_ends_day_orders_only() -> None:
    engine = engine_with(sell(1, 5, 10, tif=TimeInForce.DAY), sell(2, 5, 10))
    assert [row[:3] for row in rows(engine.end_day())] == [(1, EXPIRED, Reason.TIME)]
    assert engine.live_orders == 1


def test_stops_trigger_one_after_another_as_the_last_price_moves() -> None:
    stop, stop_limit = OrderType.STOP, OrderType.STOP_LIMIT
    engine = engine_with(
        sell(1, 1, 10), sell(2, 1, 11), sell(3, 9, 12),
        buy(4, 1, order_type=stop, stop=10), buy(5, 2, 11, order_type=stop_limit, stop=11),
    )  # fmt: skip
    reports = rows(engine.submit(orders(buy(6, 1, 10))))
    assert [(row[0], row[1]) for row in reports] == [
        (6, ACCEPTED), (1, FILL), (6, FILL),
        (4, TRIGGERED), (2, FILL), (4, FILL),
        (5, TRIGGERED),
    ]  # fmt: skip
    assert engine.depth_array(+1, 1).tolist() == [[11, 2]]


def test_a_stop_already_reached_triggers_at_once() -> None:
    engine = engine_with(sell(1, 1, 10), buy(2, 1, 10), buy(3, 1, 9))
    reports = rows(engine.submit(orders(sell(4, 1, order_type=OrderType.STOP, stop=10))))
    assert [row[1] for row in reports] == [ACCEPTED, TRIGGERED, FILL, FILL]


def test_a_price_band_refuses_limits_and_stops_market_orders() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 20))
    engine.set_price_band(5, 15)
    assert endings(engine, buy(3, 1, 16), buy(4, 1, 4)) == [
        (3, REJECTED, Reason.PRICE_BAND, 1),
        (4, REJECTED, Reason.PRICE_BAND, 1),
    ]
    assert endings(engine, buy(5, 9, order_type=OrderType.MARKET)) == [(5, CANCELLED, Reason.PRICE_BAND, 4)]


def test_a_halt_refuses_everything_but_cancels() -> None:
    engine = engine_with(sell(1, 5, 10), sell(2, 5, 10))
    engine.halt()
    assert endings(engine, buy(3, 1, 10), replace(1, 1, 10), cancel(2)) == [
        (3, REJECTED, Reason.PHASE, 1),
        (1, REJECTED, Reason.PHASE, 1),
        (2, CANCELLED, Reason.USER, 5),
    ]
    assert rows(engine.resume()) == []
    assert fills(engine, buy(4, 1, 10))[0][:2] == (1, 1)


def test_a_mass_cancel_has_a_fixed_order() -> None:
    engine = engine_with(
        buy(1, 1, 8), buy(2, 1, 9, flags=OrderFlag.HIDDEN), buy(3, 1, 9), sell(4, 1, 12), sell(5, 1, 11),
        buy(6, 1, order_type=OrderType.STOP, stop=20), buy(7, 1, 9), buy(8, 1, 9, owner=3),
    )  # fmt: skip
    mine = Command(action=OrderAction.MASS_CANCEL, owner=3)
    assert [row[0] for row in rows(engine.submit(orders(mine)))] == [8]
    every = Command(action=OrderAction.MASS_CANCEL)
    assert [row[0] for row in rows(engine.submit(orders(every)))] == [3, 7, 1, 5, 4, 2, 6]
    assert engine.live_orders == 0


# Pegged orders and call auctions.


def test_a_primary_peg_follows_its_own_side_and_loses_its_time() -> None:
    peg = OrderType.PEG_PRIMARY
    engine = engine_with(
        buy(1, 1, 10), buy(2, 1, INT32_MAX, order_type=peg), buy(3, 1, INT32_MAX, order_type=peg, offset=-2)
    )
    assert [engine.order(number)["price_ticks"] for number in (2, 3)] == [10, 8]  # type: ignore[index]
    engine.submit(orders(buy(4, 1, 12)))
    assert [engine.order(number)["price_ticks"] for number in (2, 3)] == [12, 10]  # type: ignore[index]
    assert engine.depth_array(+1, 9).tolist() == [[12, 1], [10, 1]]
    assert [fill[0] for fill in fills(engine, sell(5, 4, 10)) if fill[0] != 5] == [4, 2, 1, 3]


def test_mid_pegs_meet_at_the_mid_and_round_away_from_each_other() -> None:
    peg = OrderType.PEG_MID
    engine = engine_with(buy(1, 1, 10), sell(2, 1, 14), buy(3, 5, INT32_MAX, order_type=peg))
    assert fills(engine, sell(4, 2, INT32_MIN, order_type=peg)) == [(3, 2, 3, 12), (4, 2, 0, 12)]
    engine.submit(orders(replace(2, 1, 13)))
    assert engine.order(3)["price_ticks"] == 11  # type: ignore[index]
    assert fills(engine, sell(5, 2, INT32_MIN, order_type=peg)) == []
    assert engine.order(5)["price_ticks"] == 12  # type: ignore[index]
    assert fills(engine, replace(2, 1, 14)) == [(5, 2, 0, 12), (3, 2, 1, 12)]  # the older moved, and took


def test_a_peg_without_a_reference_is_refused_or_ends() -> None:
    peg = OrderType.PEG_MID
    engine = engine_with(buy(1, 1, 10))
    assert endings(engine, buy(2, 5, 99, order_type=peg)) == [(2, REJECTED, Reason.NO_LIQUIDITY, 5)]
    engine.submit(orders(sell(3, 1, 14), buy(4, 5, 11, order_type=peg)))
    assert engine.order(4)["price_ticks"] == 11  # type: ignore[index]  # its cap, below the mid
    assert endings(engine, cancel(3)) == [
        (3, CANCELLED, Reason.USER, 1),
        (4, CANCELLED, Reason.NO_LIQUIDITY, 5),
    ]
    assert endings(engine, buy(5, 1, 9, order_type=OrderType.PEG_PRIMARY, offset=1))[0][2] == Reason.BAD_PRICE


@pytest.mark.parametrize(
    ("resting", "reference", "expected"),
    [
        # Most lots: 8 at 101, 5 elsewhere.
        ([(+1, 5, 102), (+1, 3, 101), (-1, 5, 100), (-1, 3, 101)], 100, (101, 8, 0)),
        # 5 lots at 100 and 101; 101 leaves fewer over.
        ([(+1, 5, 101), (+1, 4, 100), (-1, 5, 100)], 100, (101, 5, 0)),
        # 5 lots anywhere in 100 to 104, nothing over: the reference itself.
        ([(+1, 5, 104), (-1, 5, 100)], 103, (103, 5, 0)),
        # The same with a reference outside: the nearest limit.
        ([(+1, 5, 104), (-1, 5, 100)], 90, (100, 5, 0)),
        # 5 lots anywhere, sellers left over everywhere: they press the price down, whatever the reference.
        ([(+1, 5, 104), (-1, 7, 100)], 103, (100, 5, -2)),
        # Buyers left over everywhere: up.
        ([(+1, 7, 104), (-1, 5, 100)], 101, (104, 5, 2)),
        # Buyers over at 99 and 100, sellers at 103 and 104: between the two, where nothing is left over.
        ([(+1, 5, 104), (+1, 2, 100), (-1, 5, 99), (-1, 2, 103)], 102, (102, 5, 0)),
        # Both prices leave 2 over, of either kind: the nearest to the reference, however far that is.
        ([(+1, 3, 101), (+1, 2, 100), (-1, 3, 100), (-1, 2, 101)], 90, (100, 3, 2)),
        ([(+1, 3, 101), (+1, 2, 100), (-1, 3, 100), (-1, 2, 101)], 110, (101, 3, -2)),
        ([(+1, 5, 99), (-1, 5, 100)], 100, None),
    ],
)
def test_the_uncross_rule(
    resting: list[tuple[int, int, int]], reference: int, expected: tuple[int, int, int] | None
) -> None:
    engine = MatchingEngine()
    engine.open_auction()
    for number, (side, size, price) in enumerate(resting, start=1):
        engine.submit(orders(Command(order_id=number, side=side, size=size, price=price)))
    assert engine.fill_count == 0
    assert engine.indicative(reference) == expected
    reports = rows(engine.uncross(reference))
    assert {row[6] for row in reports} == ({expected[0]} if expected else set())
    assert sum(row[4] for row in reports) == (2 * expected[1] if expected else 0)
    assert engine.phase == "continuous"
    engine.verify()


def test_an_auction_refuses_what_can_not_wait_and_a_crossed_book_does_not_resume() -> None:
    engine = engine_with(buy(1, 1, 10))
    engine.open_auction()
    assert {row[2] for row in endings(
        engine, sell(2, 1, order_type=OrderType.MARKET), sell(3, 1, 10, tif=TimeInForce.IOC),
        sell(4, 1, 10, minimum=1), sell(5, 1, 10, order_type=OrderType.PEG_PRIMARY),
    )} == {Reason.PHASE}  # fmt: skip
    engine.submit(orders(sell(6, 1, 9), sell(7, 1, order_type=OrderType.STOP, stop=9)))
    engine.halt()
    with pytest.raises(ValueError, match="crossed"):
        engine.resume()
    engine.open_auction()
    closing = rows(engine.uncross(9, then_halt=True))
    assert [(row[0], row[1]) for row in closing] == [(1, FILL), (6, FILL)]
    assert engine.phase == "halted"
    assert [row[1] for row in rows(engine.resume())] == [TRIGGERED, CANCELLED]
    with pytest.raises(ValueError, match="auction"):
        engine.uncross(9)


def test_the_fill_hash_tells_the_order_of_fills() -> None:
    resting = (sell(1, 1, 10), sell(2, 1, 11))
    first = engine_with(*resting, buy(3, 1, 11), buy(4, 1, 11))
    second = engine_with(*resting, buy(4, 1, 11), buy(3, 1, 11))
    again = engine_with(*resting, buy(3, 1, 11), buy(4, 1, 11))
    assert first.fill_hash == again.fill_hash != second.fill_hash
    assert first.state_hash() == second.state_hash()


def test_a_price_that_walks_over_the_range_leaves_nothing_behind() -> None:
    engine = MatchingEngine(16, 16)
    for price in range(INT32_MIN, INT32_MAX, 2**31 // 500):
        engine.submit(orders(sell(1, 1, price), buy(2, 1, price)))
    assert engine.live_orders == 0
    assert engine.depth_array(-1, 9).tolist() == []
    engine.verify()


PEGGED_THEN_GONE = (
    buy(1, 5, 100),
    sell(2, 5, 110),
    buy(3, 1, 200, order_type=OrderType.PEG_PRIMARY),
    cancel(3),
    sell(4, 2, 109),
    sell(5, 1, 104, flags=OrderFlag.HIDDEN),
    buy(6, 2, stop=104, order_type=OrderType.STOP),
    buy(7, 3, 200, order_type=OrderType.PEG_MID),
)


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("cut", [0, 4, 7])
def test_a_peg_that_left_does_not_decide_where_the_next_one_stands(cut: int, looks: bool) -> None:
    nothing = [cancel(999)] * 260  # enough for the engine to make room and tidy its pegs
    engine, reference = engine_with(), ReferenceEngine()
    for batch in (PEGGED_THEN_GONE[:cut], PEGGED_THEN_GONE[cut:], nothing):
        wanted = [row for command in batch for row in reference.submit(command)]
        assert rows(engine.submit(orders(*batch))) == wanted
        if looks:
            assert engine.state_hash() == reference.state_hash()
    assert engine.state_hash() == reference.state_hash()
    pegged = engine.order(7)
    assert pegged is not None
    assert pegged["price_ticks"] == 105  # the touch is 100 to 110 once 109 is taken


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


def test_readers_are_refused_while_another_thread_matches() -> None:
    engine = MatchingEngine()
    batch = np.repeat(orders(buy(1, 1, 100)), 400_000)
    batch["client_order_id"] = np.arange(1, len(batch) + 1)
    batch["price_ticks"] = np.arange(len(batch)) % 50_000
    thread = threading.Thread(target=engine.submit, args=(batch,))
    thread.start()
    while thread.is_alive():
        for look in (
            engine.state_hash, engine.verify, engine.snapshot, lambda: engine.depth_array(+1, 9),
            lambda: engine.queue_array(+1, 5), lambda: engine.order(5), lambda: engine.indicative(1),
            lambda: engine.submit(batch[:0]), lambda: engine.cancel(0), lambda: engine.restore(b""),
        ):  # fmt: skip
            with contextlib.suppress(RuntimeError, ValueError):
                look()
            if not thread.is_alive():
                break
    thread.join()
    assert engine.live_orders == len(batch)
    engine.verify()


def test_an_id_that_comes_back_with_its_old_expiry_takes_no_more_memory() -> None:
    ends = {"tif": TimeInForce.GTD, "expire_ns": 1_000_000}
    turn = orders(*[buy(1, 1, 100, **ends), cancel(1)] * 2_000, buy(1, 1, 100, **ends))
    engine = MatchingEngine(16, 16)
    engine.submit(turn)
    before = engine.memory_bytes
    for _ in range(400):  # 12 MB of expiries, were each kept
        engine.submit(turn[1:])
    assert engine.memory_bytes < before + 1_000_000
    assert [row[1] for row in rows(engine.advance(1_000_000))] == [EXPIRED]
