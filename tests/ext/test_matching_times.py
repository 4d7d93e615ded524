"""What time, triggers, the touch and the phases of a day do to orders: the cases that engines get wrong."""

from __future__ import annotations

import pytest
from matching_calls import buy, cancel, endings, engine_with, fills, replace, sell
from matching_flow import orders, rows

from data.schema import (
    OrderAction,
    OrderFlag,
    OrderType,
    Reason,
    ReportKind,
    TimeInForce,
)
from ext.matching_engine import MatchingEngine
from tests.reference.matching import ReferenceEngine
from tests.reference.matching_orders import INT32_MAX, INT32_MIN, Command

ACCEPTED, FILL, CANCELLED = ReportKind.ACCEPTED, ReportKind.FILL, ReportKind.CANCELLED
REJECTED, EXPIRED, TRIGGERED = ReportKind.REJECTED, ReportKind.EXPIRED, ReportKind.TRIGGERED


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


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (buy(2, 1, 10, ts_ns=20), ACCEPTED),
        (Command(order_id=3, ts_ns=20, action=OrderAction.CANCEL), CANCELLED),
    ],
    ids=["order", "cancel"],
)
def test_an_order_ends_at_its_very_nanosecond_whatever_comes_then(command: Command, answer: int) -> None:
    engine = engine_with(sell(1, 5, 10, tif=TimeInForce.GTD, expire_ns=20), sell(3, 1, 11))
    reports = rows(engine.submit(orders(command)))
    assert [row[:2] for row in reports] == [(1, EXPIRED), (command.order_id, answer)]


def test_orders_that_end_at_one_instant_end_by_their_ids() -> None:
    engine = MatchingEngine()
    late = orders(*(sell(number, 1, 10, tif=TimeInForce.GTD, expire_ns=20) for number in (5, 3, 9, 1, 7)))
    engine.submit(late)
    assert [row[0] for row in rows(engine.advance(20))] == [1, 3, 5, 7, 9]


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


def test_stops_reached_by_one_trade_trigger_buys_before_sells_nearest_first() -> None:
    stop = OrderType.STOP
    engine = engine_with(
        sell(1, 1, order_type=stop, stop=11), sell(2, 1, order_type=stop, stop=12),
        buy(3, 1, order_type=stop, stop=9), buy(4, 1, order_type=stop, stop=8), buy(5, 1, 10),
    )  # fmt: skip
    reports = rows(engine.submit(orders(sell(6, 1, 10))))
    assert [row[0] for row in reports if row[1] == TRIGGERED] == [4, 3, 2, 1]


def test_a_stop_limit_whose_limit_left_the_band_ends_when_it_triggers() -> None:
    engine = engine_with(sell(1, 2, 10), buy(2, 1, 14, order_type=OrderType.STOP_LIMIT, stop=10))
    engine.set_price_band(5, 12)
    assert endings(engine, buy(3, 1, 10)) == [
        (2, TRIGGERED, Reason.NONE, 0),
        (2, CANCELLED, Reason.PRICE_BAND, 1),
    ]


def test_a_hidden_order_at_the_bands_edge_that_demands_more_is_not_beyond_it() -> None:
    engine = engine_with(sell(1, 5, 10, flags=OrderFlag.HIDDEN, minimum=4))
    engine.set_price_band(5, 10)
    assert endings(engine, buy(2, 2, order_type=OrderType.MARKET)) == [(2, CANCELLED, Reason.NO_LIQUIDITY, 2)]


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
        # Sellers left over at two prices: never above the lower of them.
        ([(+1, 3, 102), (+1, 2, 100), (-1, 3, 100), (-1, 2, 101)], 110, (101, 3, -2)),
        # Buyers left over at two: never below the higher.
        ([(+1, 3, 102), (+1, 2, 101), (-1, 3, 100), (-1, 2, 102)], 90, (101, 3, 2)),
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


@pytest.mark.parametrize("reference", [97, -97])
def test_an_auction_has_no_reference_between_ticks(reference: int) -> None:
    engine = MatchingEngine(tick_size_ticks=5)
    engine.open_auction()
    engine.submit(orders(buy(1, 5, 100), sell(2, 5, 95)))
    for call in (engine.indicative, engine.uncross):
        with pytest.raises(ValueError, match=f"multiple of the tick size, was {reference}"):
            call(reference)
    assert engine.phase == "auction"
    assert engine.indicative(95) == (95, 5, 0)


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
