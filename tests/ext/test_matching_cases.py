"""The cases that matching engines are known to get wrong, one named test each."""

from __future__ import annotations

import contextlib
import itertools
import resource
import threading

import matching_calls
import numpy as np
import pytest
from matching_calls import buy, cancel, endings, engine_with, fills, replace, sell
from matching_flow import orders, rows

from data.schema import (
    ORDER_DTYPE,
    REPORT_DTYPE,
    OrderAction,
    OrderFlag,
    OrderType,
    Reason,
    ReportKind,
    TimeInForce,
)
from ext.matching_engine import MatchingEngine
from tests.reference.matching_orders import INT32_MAX, INT32_MIN

ACCEPTED, CANCELLED, REJECTED = ReportKind.ACCEPTED, ReportKind.CANCELLED, ReportKind.REJECTED
EXPIRED = ReportKind.EXPIRED


both_paths = pytest.mark.usefixtures("path")


@pytest.fixture(params=["plain", "general"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take orders through ext/match_plain.pxd, or past it: it takes none with an owner."""
    if request.param == "general":
        monkeypatch.setattr(matching_calls, "owners", itertools.count(1_000))


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


@pytest.mark.parametrize("owner", [0, 1], ids=["plain", "general"])
def test_a_level_never_sums_past_its_range(owner: int) -> None:
    full = 2**62 // 2**48
    commands = np.zeros(full + 1, ORDER_DTYPE)
    commands["client_order_id"] = np.arange(1, full + 2)
    for name, value in (("size_lots", 2**48), ("price_ticks", 7), ("side", 1), ("action", 1)):
        commands[name] = value
    commands["order_type"] = commands["time_in_force"] = 1
    commands["owner"] = owner
    reports = MatchingEngine().submit(commands)
    assert (reports["kind"][-1], reports["reason"][-1]) == (CANCELLED, Reason.CAPACITY)
    assert np.count_nonzero(reports["kind"] == CANCELLED) == 1


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


@pytest.mark.nightly
def test_an_engine_walked_through_a_thousand_million_levels_keeps_its_size() -> None:
    block, ladder = 1 << 19, 8
    walk = np.repeat(orders(sell(0, 1, 0)), 2 * block)
    walk["action"][1::2] = OrderAction.CANCEL
    walk["client_order_id"][0::2] = np.arange(1, block + 1)
    walk["client_order_id"][1::2] = walk["client_order_id"][0::2] - np.uint64(ladder)
    walk["price_ticks"][0::2] = 500_000_000 - np.arange(block)
    engine, reports = MatchingEngine(16, 16), np.zeros(4 * block, REPORT_DTYPE)
    engine.submit(walk, reports)
    own, whole = engine.memory_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1_907):
        walk["client_order_id"] += np.uint64(block)
        walk["price_ticks"][0::2] -= block
        engine.submit(walk, reports)
        assert (engine.live_orders, engine.memory_bytes) == (ladder, own)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - whole < 4_096  # KiB
    engine.verify()


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
