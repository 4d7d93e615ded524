"""Fills of the simulated venue, on sequences short enough to be worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.venue_config import VenueConfig
from data.instrument import Instrument
from data.schema import EventFlag, EventKind, Liquidity, Reason, ReportKind
from engine.compiled import CompiledStrategy
from ext.order_book import OrderBook
from ext.sim_venue import SimulatedVenue
from tests.markets import (
    AT_ONCE,
    Script,
    add,
    cancel,
    event,
    execute,
    joined,
    play,
    quote,
    random_flow,
    trade,
)

BOTH = pytest.mark.parametrize("queue", ["optimistic", "pessimistic"])


def market(*more: np.ndarray) -> np.ndarray:
    """Ten lots at 100 / 102, then what follows."""
    return joined(add(0, 1, 1, 100, 10), add(0, 2, -1, 102, 10), *more)


@BOTH
def test_the_queue_ahead_trades_first(queue):
    script = Script(t1=lambda ctx: ctx.buy(5, 100, post_only=True))
    play(script, market(execute(2, 1, 1, 100, 4), execute(3, 1, 1, 100, 6)), queue=queue)
    assert script.fills == []

    script = Script(t1=lambda ctx: ctx.buy(5, 100, post_only=True))
    flow = market(add(2, 3, 1, 100, 7), execute(3, 1, 1, 100, 10), execute(4, 3, 1, 100, 3))
    play(script, flow, queue=queue)
    assert script.fills == [(3, 100)], "what hit the order behind us would have hit ours"


@BOTH
def test_an_announced_cancel_ahead_moves_us_up_and_one_behind_does_not(queue):
    script = Script(t1=lambda ctx: ctx.buy(5, 100, post_only=True))
    flow = market(
        add(0.5, 3, 1, 100, 4),  # ahead of us: 14
        add(2, 4, 1, 100, 6),  # behind
        cancel(3, 3, 1, 100, 4),  # ahead: 10
        cancel(4, 4, 1, 100, 6),
        add(5, 5, 1, 100, 20),
        execute(6, 1, 1, 100, 9),  # ahead: 1
        execute(7, 1, 1, 100, 1),  # ahead: 0
        execute(8, 5, 1, 100, 2),  # ours
    )
    play(script, flow, queue=queue)
    assert script.fills == [(2, 100)]


@pytest.mark.parametrize(("behind_us", "pessimistic_fill"), [(0, 5), (40, 0)])
def test_an_unannounced_cancel_was_ahead_for_one_bound_and_behind_for_the_other(behind_us, pessimistic_fill):
    joins = [add(1.5, 7, 1, 100, behind_us)] if behind_us else []
    flow = joined(
        event(EventKind.LEVEL, 0, side=1, price=100, size=30, flags=EventFlag.SNAPSHOT),
        add(0, 2, -1, 102, 10),
        *joins,
        cancel(2, 99, 1, 100, 20),
        execute(3, 98, 1, 100, 9),
        execute(4, 98, 1, 100, 1),
        execute(5, 97, 1, 100, 5),
    )
    filled = {}
    for queue in ("optimistic", "pessimistic"):
        script = Script(t1=lambda ctx: ctx.buy(9, 100, post_only=True))
        play(script, flow, queue=queue)
        filled[queue] = script.filled_lots
    # Ahead: 30, of which 20 cancel and 10 trade. Pessimistic: 30 less 10, unless the level holds no more.
    assert filled == {"optimistic": 5, "pessimistic": pessimistic_fill}


def test_a_hidden_print_at_our_price_counts_for_the_optimistic_bound_only():
    flow = joined(
        add(0, 1, 1, 99, 10),
        add(0, 2, -1, 102, 10),
        trade(2, -1, 100, 3, flags=EventFlag.HIDDEN),
        trade(3, -1, 99, 2, flags=EventFlag.HIDDEN),
    )
    filled = {}
    for queue in ("optimistic", "pessimistic"):
        script = Script(t1=lambda ctx: ctx.buy(9, 100, post_only=True))
        play(script, flow, queue=queue)
        filled[queue] = script.filled_lots
    assert filled == {"optimistic": 5, "pessimistic": 2}


@BOTH
def test_partial_fills_add_up_and_the_position_is_the_order(queue):
    script = Script(t1=lambda ctx: ctx.buy(10, 101, post_only=True))
    result = play(
        script, market(trade(2, -1, 101, 4), trade(3, -1, 101, 6), trade(4, -1, 101, 9)), queue=queue
    )
    assert script.fills == [(4, 101), (6, 101)]
    assert result.position_lots[-1] == 10
    assert result.fills["leaves_lots"].tolist() == [6, 0]
    assert set(result.fills["liquidity"]) == {Liquidity.MAKER}


@BOTH
def test_two_orders_of_ours_never_share_recorded_lots(queue):
    def both(ctx):
        ctx.buy(5, 101, post_only=True)
        ctx.buy(5, 101, post_only=True)

    script = Script(t1=both)
    play(script, market(trade(2, -1, 101, 7)), queue=queue)
    assert script.fills == [(5, 101), (2, 101)]


@BOTH
def test_an_arrival_that_trades_with_us_is_gone_for_our_next_order(queue):
    # Seven lots arrive at our offer of 101 and stay in the recording; a level change elsewhere and a
    # market order find nothing more of them.
    script = Script(
        t1=lambda ctx: ctx.sell(20, 101, post_only=True),
        t4=lambda ctx: ctx.sell(20, 101, ioc=True),
    )
    flow = market(
        add(2, 3, 1, 101, 7),
        event(EventKind.LEVEL, 3, side=-1, price=109, size=5),
        event(EventKind.LEVEL, 3.5, side=1, price=90, size=5),
    )
    play(script, flow, queue=queue)
    assert script.filled_lots == 7


@BOTH
def test_lots_taken_stay_gone_while_their_touch_stands(queue):
    script = Script(
        t1=lambda ctx: ctx.buy(6, 102, ioc=True),
        t3=lambda ctx: ctx.buy(9, 102, ioc=True),
        t5=lambda ctx: ctx.buy(9, 102, ioc=True),
    )
    flow = market(add(2, 3, -1, 102, 3), execute(4, 2, -1, 102, 10), add(6, 9, 1, 90, 1))
    play(script, flow, queue=queue)
    # 6 of 10; 4 + 3 of 13; of the 3 that are left after the execution all were ours.
    assert script.fills == [(6, 102), (7, 102)]


@BOTH
def test_a_sweep_pays_each_level_its_price(queue):
    script = Script(t1=lambda ctx: ctx.buy(12, 104, ioc=True), t2=lambda ctx: ctx.buy(10))
    flow = market(add(0.5, 3, -1, 104, 5), add(0.6, 4, -1, 105, 5), add(3, 5, 1, 90, 1))
    result = play(script, flow, queue=queue)
    assert script.fills == [(10, 102), (2, 104), (3, 104), (5, 105)]
    assert result.rejections == {}


@BOTH
def test_post_only_off_the_grid_and_unknown_orders_are_refused_with_their_reason(queue):
    heard = []

    def late(ctx):
        heard.append(ctx.cancel(1 << 63))

    script = Script(t1=lambda ctx: ctx.buy(1, 102, post_only=True), t2=late)
    result = play(script, market(add(4, 3, 1, 90, 1)), queue=queue)
    assert script.rejects == [Reason.WOULD_CROSS]
    assert heard == [False]
    assert result.rejections == {"WOULD_CROSS": 1}


def test_a_resting_price_off_the_tick_grid_is_refused():
    coarse = Instrument(symbol="COARSE", price_increment=0.01, tick_size_ticks=2)
    script = Script(t1=lambda ctx: ctx.buy(1, 99), t2=lambda ctx: ctx.buy(1, 98))
    result = play(script, market(add(4, 3, 1, 90, 1)), instrument=coarse, venue=AT_ONCE)
    assert script.rejects == [Reason.BAD_PRICE]
    assert result.orders == 2


def test_a_quote_that_reaches_our_price_fills_up_to_its_size_once():
    script = Script(t1=lambda ctx: ctx.buy(20, 100, post_only=True))
    flow = joined(
        quote(0, 100, 104), quote(2, 99, 100, ask_size=7), quote(3, 99, 103), quote(4, 98, 100, ask_size=3)
    )
    play(script, flow)
    assert script.fills == [(7, 100), (3, 100)]


def test_a_snapshot_quote_brings_nobody():
    script = Script(t1=lambda ctx: ctx.buy(20, 100, post_only=True))
    play(script, joined(quote(0, 100, 104), quote(2, 98, 100, flags=EventFlag.SNAPSHOT), quote(3, 98, 104)))
    assert script.fills == []


def test_an_order_that_arrives_after_its_time_expires_without_turning_the_clock_back():
    seen = []

    def send(ctx):
        ctx.buy(1, 90, ttl_ns=1_000)

    script = Script(t1=send, t2=lambda ctx: seen.append(ctx.open_orders))
    clocks = []
    script.on_report = lambda ctx, report: clocks.append((ctx.now_ns, report.ts_ns, report.kind))
    play(script, market(add(4, 3, 1, 80, 1)), venue=VenueConfig())
    assert seen == [()]
    assert [kind for *_, kind in clocks] == [1, 5]
    assert all(a <= b for a, b in pairwise(clocks))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), price=st.integers(95, 99), size=st.integers(1, 60))
def test_the_optimistic_bound_fills_at_least_what_the_pessimistic_one_does(seed, price, size):
    flow = random_flow(seed)
    filled = []
    for queue in ("optimistic", "pessimistic"):
        script = Script(t5=lambda ctx: ctx.buy(size, price), t9=lambda ctx: ctx.sell(size, 200 - price))
        result = play(script, flow, queue=queue)
        by_order = {
            order: int(result.fills["size_lots"][result.fills["client_order_id"] == order].sum())
            for order in np.unique(result.fills["client_order_id"])
        }
        assert all(lots <= size for lots in by_order.values()), "an order never fills more than its size"
        filled.append(script.filled_lots)
    assert filled[0] >= filled[1]


@pytest.mark.parametrize("side", [1, -1])
def test_a_fee_beyond_64_bits_of_nano_stops_at_the_bound(side):
    venue = VenueConfig(taker_fee_per_lot=1e9)
    script = Script(t1=lambda ctx: ctx.buy(10) if side > 0 else ctx.sell(10))
    result = play(script, market(trade(2, 0, 101, 1)), venue=venue)
    assert result.fills["fee_nano"].tolist() == [9 * 10**18]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"taker_fee_bps": math.nan}, "taker_fee_bps must be finite"),
        ({"maker_fee_per_lot": math.inf}, "maker_fee_per_lot must be finite"),
        ({"depth_levels": -1}, "depth_levels must be 0 to 64"),
        ({"depth_levels": 65}, "depth_levels must be 0 to 64"),
    ],
)
def test_rules_that_would_leave_their_arrays_or_numbers_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        SimulatedVenue(
            {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0} | rules,
            venue_id=0, tick_value=0.01, seed=1, book=OrderBook(64, 64),
        )  # fmt: skip


def test_what_the_venue_does_not_serve_is_refused_not_traded_as_a_plain_limit():
    pytest.importorskip("numba")  # only a compiled strategy can ask for such orders

    def decide(view, commands, state):
        if view["call"] == 3:
            state[1] += view["report_kind"] == 4 and view["report_reason"] == 30
            state[2] += 1
        elif view["call"] == 1 and view["two_sided"] and state[0] < 8:
            order, asked = commands[0], state[0]
            order["action"], order["order_type"], order["time_in_force"] = 1, 1, 1
            order["side"], order["size_lots"], order["price_ticks"] = 1, 2, 102
            order["stop_price_ticks"] = 105
            if asked < 4:  # stop, stop limit, pegs
                order["order_type"] = 3 + int(asked)
            elif asked == 4:
                order["time_in_force"] = 5  # until the day ends
            elif asked == 5:
                order["flags"] = 2  # hidden
            elif asked == 6:
                order["display_size_lots"] = 1
            else:
                order["minimum_size_lots"] = 1
            state[0] += 1
            return 1
        return 0

    assert (ReportKind.REJECTED, Reason.BAD_ORDER) == (4, 30)
    strategy = CompiledStrategy(decide, state=np.zeros(3))
    play(strategy, market(*(add(at, at + 1, 1, 90, 1) for at in range(2, 12))))
    assert list(strategy.state) == [8, 8, 8]
